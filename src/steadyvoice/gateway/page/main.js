// Dashboard: fetches the overview every second, reads the event stream, and updates what has changed.

import { act, reset } from "./actions.js";
import { ApiError, json } from "./api.js";
import { RecentCalls } from "./recent_calls.js";
import { ProviderCard } from "./provider_card.js";
import { byId, reconcile, set, setText } from "./dom.js";
import { follow } from "./event_stream.js";
import { CallOutcomes } from "./call_outcomes.js";
import { EventLog } from "./event_log.js";
import { Processes, hasFleet } from "./processes.js";
import { RecoveryTimes } from "./recovery_times.js";
import { TestSynthesis } from "./test_synthesis.js";
import { settings, undo } from "./settings.js";
import { hideSignIn, showSignIn, signOut } from "./sign_in.js";
import { OverviewStore } from "./overview_store.js";
import { Summary, needsAttention } from "./summary.js";
import { clock } from "./formatting.js";

const INTERVAL = 1000; // milliseconds
const REFRESH_DELAY = 60; // milliseconds after an event that changes the overview
const CHANGES = new Set(["transition", "reset", "config", "action", "hello"]);

const store = new OverviewStore();
const cards = new Map();
const calls = new RecentCalls(byId("calls"), byId("errors-only"));
const log = new EventLog(byId("log"), undo);
const callOutcomes = new CallOutcomes(byId("call-outcomes"));
const recovery = new RecoveryTimes(byId("recovery"));
const processes = new Processes(byId("processes"));
const summary = new Summary(byId("summary"), byId("current"), byId("load"), byId("incidents"));
new TestSynthesis(byId("test-synthesis"), calls);
byId("sign-out").addEventListener("click", signOut);

let streaming = false;
let fetching = false;
let timer;

/** Fetch the overview, and schedule the next fetch. */
async function refresh() {
  clearTimeout(timer);
  if (fetching) return;
  fetching = true;
  let next = document.hidden ? 10 * INTERVAL : INTERVAL;
  try {
    show(store.take(await json(`/admin/overview?since=${store.since}`)));
    connected();
    if (!streaming) openEventStream();
  } catch (error) {
    if (isUnauthorized(error)) {
      showSignIn(error, refresh);
      next = null;
    } else if (error instanceof ApiError || error instanceof TypeError || error instanceof DOMException) disconnected();
    else throw error;
  } finally {
    fetching = false;
    clearTimeout(timer);
    if (next !== null) timer = setTimeout(refresh, next);
  }
}

/** Return an action that gets whether there are other replicas, which it may reach as well. */
const inFleet = (action) => (name) => action(name, hasFleet(store.overview));

function refreshSoon() {
  clearTimeout(timer);
  timer = setTimeout(refresh, REFRESH_DELAY);
}

const isUnauthorized = (error) => error instanceof ApiError && (error.status === 401 || error.status === 403);

function openEventStream() {
  streaming = true;
  follow(onEvent, {
    found: refreshSoon,
    lost(error) {
      refreshSoon();
      if (!isUnauthorized(error)) return true;
      streaming = false;
      return false;
    },
  });
}

function onEvent(kind, data) {
  if (kind === "call") calls.add(data);
  else if (kind !== "calls") log.add(kind, data);
  if (CHANGES.has(kind)) refreshSoon();
}

function show(overview) {
  hideSignIn();
  const { now } = store;
  summary.show(overview);
  callOutcomes.show(overview.outcomes, overview.current, now);
  recovery.show(overview.recoveries);
  processes.show(overview);
  for (const name of cards.keys()) if (!overview.providers[name]) cards.delete(name);
  for (const [name, provider] of Object.entries(overview.providers)) {
    if (!cards.has(name)) cards.set(name, new ProviderCard(name, { reset, act: inFleet(act), settings: inFleet(settings) }));
    cards.get(name).show(provider, now, overview.step);
  }
  reconcile(byId("providers"), Object.keys(overview.providers).map((name) => cards.get(name).element));
  const troubled = Object.values(overview.providers).filter(needsAttention).length;
  document.title = troubled ? `(${troubled}) steadyvoice` : "steadyvoice";
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
  const dataTime = store.overview ? ` Data as of ${clock(store.overview.at)}.` : "";
  setText(byId("banner"), `The gateway does not answer.${dataTime} Reconnecting.`);
  set(byId("banner"), { hidden: false });
}

document.addEventListener("visibilitychange", () => document.hidden || refreshSoon());
refresh();
