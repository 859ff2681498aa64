// What somebody must know within five seconds: who is down, since when and why, what callers hear, when it is tried again.

import { arrange, h, set, tell } from "./dom.js";
import { shape } from "./shapes.js";
import { Countdown } from "./countdown.js";
import { OUTCOMES, clock, ended, listed, many, percent, rate, seconds, sentence } from "./words.js";

const REFUSING = new Set(["open", "forced_open", "half_open"]);

/** Whether something about a provider wants attention. */
export const troubled = (provider) =>
  REFUSING.has(provider.state.circuit_state) || provider.state.is_muted || provider.state.holds.length > 0;

export class Verdict {
  constructor(title, meanwhile, load, troubles) {
    Object.assign(this, { title, meanwhile, load, list: troubles });
    this.text = h("span");
    this.troubles = new Map();
  }

  show(board) {
    const [state, text] = headline(board);
    if (state !== this.state) {
      this.state = state;
      this.title.replaceChildren(shape(state), this.text);
      set(this.title, { class: state });
    }
    tell(this.text, text);
    tell(this.meanwhile, heardNow(board.lately));
    tell(this.load, loadNow(board.overload));
    const down = Object.entries(board.providers).filter(([, provider]) => troubled(provider));
    for (const name of this.troubles.keys()) if (!down.some(([other]) => other === name)) this.troubles.delete(name);
    for (const [name, provider] of down) {
      if (!this.troubles.has(name)) this.troubles.set(name, new Trouble(name));
      this.troubles.get(name).show(provider);
    }
    arrange(this.list, down.slice(0, 6).map(([name]) => this.troubles.get(name).element));
  }
}

class Trouble {
  constructor(name) {
    this.since = h("span");
    this.why = h("span", { class: "why" });
    this.countdown = new Countdown();
    this.element = h("li", {}, h("strong", {}, name), " ", this.since, " ", this.why, " ", this.countdown.element);
  }

  show(provider) {
    const { state } = provider;
    const held = state.holds[0];
    const refuses = REFUSING.has(state.circuit_state);
    tell(this.since, refuses ? `since ${since(provider)}:` : "on hold:");
    tell(this.why, refuses ? why(provider) : ended(held?.because ?? state.circuit_state));
    this.countdown.show(provider);
  }
}

/** When the outage began, not when the last probe of it failed. */
export function since({ outage, state }) {
  const at = outage ? outage.since * 1000 : state.circuit_opened_at;
  return at ? clock(at) : "the gateway began";
}

function why({ outage, circuit }) {
  return ended(outage && outage.because !== circuit.why ? `${outage.because}; then ${circuit.why}` : circuit.why);
}

function headline(board) {
  const all = Object.entries(board.providers);
  const named = (test) => all.filter(([, { state }]) => test(state)).map(([name]) => name);
  const down = named((state) => state.circuit_state === "open" || state.circuit_state === "forced_open");
  const testing = named((state) => state.circuit_state === "half_open");
  const held = named((state) => state.is_muted && !REFUSING.has(state.circuit_state));
  const byHand = named((state) => state.circuit_state === "disabled" || state.circuit_state === "monitoring");
  const able = all.length - down.length - held.length - testing.length;
  if (!able && down.length) return ["open", `Nobody can speak: ${listed(down)} ${is(down)} down`];
  if (!able && held.length) return ["open", `Nobody can speak: ${listed(held)} ${is(held)} on hold`];
  if (down.length) return [down.some((name) => board.providers[name].state.circuit_state === "open") ? "open" : "forced_open", `${few(down)} ${is(down)} down`];
  if (testing.length) return ["half_open", `${few(testing)} ${is(testing)} being tried again`];
  if (held.length) return ["half_open", `${few(held)} ${is(held)} on hold`];
  if (byHand.length) return ["monitoring", `All can speak; ${few(byHand)} ${is(byHand)} not guarded`];
  return ["closed", all.length === 1 ? "Its circuit is closed" : `All ${all.length} circuits are closed`];
}

function heardNow({ calls, outcomes, speakers, rate: pace, first_audio: soon }) {
  if (!calls) return "Nobody has called within the last half minute.";
  const parts = OUTCOMES.filter((name) => outcomes[name]).map((name) => `${percent(outcomes[name] / calls)} ${name}`);
  const who = Object.entries(speakers).filter(([name]) => name !== "none").sort((a, b) => b[1] - a[1]).map(([name]) => name);
  const voices = who.length ? `hear ${listed(who.slice(0, 3))}` : "hear nobody";
  const first = soon ? ` First audio after ${seconds(soon.p50)}, for one in twenty after ${seconds(soon.p95)} or later.` : "";
  return sentence(`callers ${voices}: ${parts.join(", ")}, at ${rate(pace)}.${first}`);
}

/** How busy the process is: what it refuses is no provider's failure. */
function loadNow({ overloaded, active, queued, refused, loop_lag: lag }) {
  const turned = Object.values(refused).reduce((sum, count) => sum + count, 0);
  if (!overloaded && !active && !turned) return "Load: idle."; // never empty: what is below would jump
  const late = lag >= 0.001 ? `, event loop ${seconds(lag)} late` : "";
  const away = turned ? ` ${many(turned, "request")} refused for overload since the start.` : "";
  const busy = `${active} being synthesised, ${queued} queued${late}.${away}`;
  return overloaded ? `Overloaded: ${busy} New requests are queued, and refused with 503 after a while.` : `Load: ${busy}`;
}

const few = (names) => (names.length > 4 ? many(names.length, "provider") : listed(names));
const is = (names) => (names.length === 1 ? "is" : "are");
