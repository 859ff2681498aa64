// Dashboard: fetches the overview every second, reads the event stream, and updates what has changed.

import { act, reset } from "./actions.js";
import { ApiError, json } from "./api.js";
import { RecentCalls } from "./recent_calls.js";
import { ProviderCard } from "./provider_card.js";
import { reconcile, byId, set, setText } from "./dom.js";
import { follow } from "./event_stream.js";
import { CallOutcomes } from "./call_outcomes.js";
import { EventLog } from "./event_log.js";
import { RecoveryTimes } from "./recovery_times.js";
import { TestSynthesis } from "./test_synthesis.js";
import { settings, undo } from "./settings.js";
import { hideSignIn, showSignIn, signOut } from "./sign_in.js";
import { OverviewStore } from "./overview_store.js";
import { Summary, needsAttention } from "./summary.js";
import { clock } from "./formatting.js";

const INTERVAL = 1000; // milliseconds
const SOON = 60; // after an event that changes the overview
const CHANGES = new Set(["transition", "reset", "config", "action", "hello"]);

const store = new OverviewStore();
const cards = new Map();
const calls = new RecentCalls(byId("calls"), byId("errors-only"));
const log = new EventLog(byId("log"), undo);
const callOutcomes = new CallOutcomes(byId("call-outcomes"));
const recovery = new RecoveryTimes(byId("recovery"));
const summary = new Summary(byId("summary"), byId("current"), byId("load"), byId("incidents"));
new TestSynthesis(byId("test-synthesis"), calls);
byId("sign-out").addEventListener("click", signOut);

let following = false;
let looking = false;
let timer;

/** Fetch the overview, and schedule the next fetch. */
async function look() {
  clearTimeout(timer);
  if (looking) return;
  looking = true;
  let next = document.hidden ? 10 * INTERVAL : INTERVAL;
  try {
    show(store.take(await json(`/admin/overview?since=${store.since}`)));
    connected();
    if (!following) listen();
  } catch (error) {
    if (barred(error)) {
      showSignIn(error, look);
      next = null;
    } else if (error instanceof ApiError || error instanceof TypeError || error instanceof DOMException) disconnected();
    else throw error;
  } finally {
    looking = false;
    clearTimeout(timer);
    if (next !== null) timer = setTimeout(look, next);
  }
}

function soon() {
  clearTimeout(timer);
  timer = setTimeout(look, SOON);
}

const barred = (error) => error instanceof ApiError && (error.status === 401 || error.status === 403);

function listen() {
  following = true;
  follow(onEvent, {
    found: soon,
    lost(error) {
      soon();
      if (!barred(error)) return true;
      following = false;
      return false;
    },
  });
}

function onEvent(kind, data) {
  if (kind === "call") calls.add(data);
  else if (kind !== "calls") log.add(kind, data);
  if (CHANGES.has(kind)) soon();
}

function show(overview) {
  hideSignIn();
  const { now } = store;
  summary.show(overview);
  callOutcomes.show(overview.outcomes, overview.current, now);
  recovery.show(overview.recoveries);
  for (const name of cards.keys()) if (!overview.providers[name]) cards.delete(name);
  for (const [name, provider] of Object.entries(overview.providers)) {
    if (!cards.has(name)) cards.set(name, new ProviderCard(name, { reset, act, settings }));
    cards.get(name).show(provider, now, overview.step);
  }
  reconcile(byId("providers"), Object.keys(overview.providers).map((name) => cards.get(name).element));
  const trouble = Object.values(overview.providers).filter(needsAttention).length;
  document.title = trouble ? `(${trouble}) steadyvoice` : "steadyvoice";
  if (!calls.rows.size) calls.draw(true);
}

function connected() {
  set(byId("banner"), { hidden: true });
  set(byId("connection"), { class: "connection live" });
  setText(byId("connection"), `live · ${store.overview.version}`);
}

function disconnected() {
  set(byId("connection"), { class: "connection lost" });
  setText(byId("connection"), "disconnected");
  const seen = store.overview ? ` Data as of ${clock(store.overview.at)}.` : "";
  setText(byId("banner"), `The gateway does not answer.${seen} Reconnecting.`);
  set(byId("banner"), { hidden: false });
}

document.addEventListener("visibilitychange", () => document.hidden || soon());
look();
