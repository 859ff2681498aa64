// The dashboard: asks for the board once in a second, reads events as they happen, and draws what has changed.

import { act, reset } from "./act.js";
import { Refused, json } from "./api.js";
import { Calls } from "./calls.js";
import { Card } from "./card.js";
import { arrange, byId, set, tell } from "./dom.js";
import { follow } from "./events.js";
import { Heard } from "./heard.js";
import { Log } from "./log.js";
import { Recovery } from "./recovery.js";
import { Say } from "./say.js";
import { settings, undo } from "./settings.js";
import { closed, opened, signOut } from "./signin.js";
import { Store } from "./store.js";
import { Verdict, troubled } from "./verdict.js";
import { clock } from "./words.js";

const EVERY = 1000; // milliseconds
const AT_ONCE = 60; // after an event that changes how things stand
const MOVES = new Set(["transition", "reset", "config", "action", "hello"]);

const store = new Store();
const cards = new Map();
const calls = new Calls(byId("calls"), byId("only-trouble"));
const log = new Log(byId("log"), undo);
const heard = new Heard(byId("heard"));
const recovery = new Recovery(byId("recovery"));
const verdict = new Verdict(byId("verdict"), byId("meanwhile"), byId("load"), byId("troubles"));
new Say(byId("say"), calls);
byId("sign-out").addEventListener("click", signOut);

let following = false;
let looking = false;
let timer;

/** Ask how everything stands, and again soon. */
async function look() {
  clearTimeout(timer);
  if (looking) return;
  looking = true;
  let next = document.hidden ? 10 * EVERY : EVERY;
  try {
    show(store.take(await json(`/admin/board?since=${store.since}`)));
    connected();
    if (!following) listen();
  } catch (error) {
    if (barred(error)) {
      closed(error, look);
      next = null;
    } else if (error instanceof Refused || error instanceof TypeError || error instanceof DOMException) disconnected();
    else throw error;
  } finally {
    looking = false;
    clearTimeout(timer);
    if (next !== null) timer = setTimeout(look, next);
  }
}

function soon() {
  clearTimeout(timer);
  timer = setTimeout(look, AT_ONCE);
}

const barred = (error) => error instanceof Refused && (error.status === 401 || error.status === 403);

function listen() {
  following = true;
  follow(told, {
    found: soon,
    lost(error) {
      soon();
      if (!barred(error)) return true;
      following = false;
      return false;
    },
  });
}

function told(kind, data) {
  if (kind === "call") calls.add(data);
  else if (kind !== "calls") log.add(kind, data);
  if (MOVES.has(kind)) soon();
}

function show(board) {
  opened();
  const { now } = store;
  verdict.show(board);
  heard.show(board.heard, board.lately, now);
  recovery.show(board.recoveries);
  for (const name of cards.keys()) if (!board.providers[name]) cards.delete(name);
  for (const [name, provider] of Object.entries(board.providers)) {
    if (!cards.has(name)) cards.set(name, new Card(name, { reset, act, settings }));
    cards.get(name).show(provider, now, board.step);
  }
  arrange(byId("providers"), Object.keys(board.providers).map((name) => cards.get(name).element));
  const trouble = Object.values(board.providers).filter(troubled).length;
  document.title = trouble ? `(${trouble}) steadyvoice` : "steadyvoice";
  if (!calls.rows.size) calls.draw(true);
}

function connected() {
  set(byId("banner"), { hidden: true });
  set(byId("line"), { class: "line live" });
  tell(byId("line"), `live · ${store.board.version}`);
}

function disconnected() {
  set(byId("line"), { class: "line lost" });
  tell(byId("line"), "not connected");
  const seen = store.board ? ` What you see is how it was at ${clock(store.board.at)}.` : "";
  tell(byId("banner"), `The gateway does not answer.${seen} Trying again.`);
  set(byId("banner"), { hidden: false });
}

document.addEventListener("visibilitychange", () => document.hidden || soon());
look();
