// Summary: which providers are down, since when and why, what callers get, and when the next attempt is made.

import { h, reconcile, set, setText } from "./dom.js";
import { icon } from "./icons.js";
import { Countdown } from "./countdown.js";
import { OUTCOMES, capitalize, clock, joinNames, percent, pluralize, rate, seconds, withFullStop } from "./formatting.js";

const REFUSING = new Set(["open", "forced_open", "half_open"]);

/** Whether a provider needs attention. */
export const needsAttention = (provider) =>
  REFUSING.has(provider.state.circuit_state) || provider.state.is_muted || provider.state.holds.length > 0;

export class Summary {
  constructor(title, current, load, incidents) {
    Object.assign(this, { title, current, load, list: incidents });
    this.text = h("span");
    this.incidents = new Map();
  }

  show(overview) {
    const [state, text] = headline(overview);
    if (state !== this.state) {
      this.state = state;
      this.title.replaceChildren(icon(state), this.text);
      set(this.title, { class: state });
    }
    setText(this.text, text);
    setText(this.current, callsNow(overview.current));
    setText(this.load, loadNow(overview.overload));
    const down = Object.entries(overview.providers).filter(([, provider]) => needsAttention(provider));
    for (const name of this.incidents.keys()) if (!down.some(([other]) => other === name)) this.incidents.delete(name);
    for (const [name, provider] of down) {
      if (!this.incidents.has(name)) this.incidents.set(name, new Incident(name));
      this.incidents.get(name).show(provider);
    }
    reconcile(this.list, down.slice(0, 6).map(([name]) => this.incidents.get(name).element));
  }
}

class Incident {
  constructor(name) {
    this.since = h("span");
    this.reason = h("span", { class: "reason" });
    this.countdown = new Countdown();
    this.element = h("li", {}, h("strong", {}, name), " ", this.since, " ", this.reason, " ", this.countdown.element);
  }

  show(provider) {
    const { state } = provider;
    const held = state.holds[0];
    const refuses = REFUSING.has(state.circuit_state);
    setText(this.since, refuses ? `since ${since(provider)}:` : "on hold:");
    setText(this.reason, refuses ? reason(provider) : withFullStop(held?.reason ?? state.circuit_state));
    this.countdown.show(provider);
  }
}

/** Beginning of the outage, not of its last failed probe. */
export function since({ outage, state }) {
  const at = outage ? outage.since * 1000 : state.circuit_opened_at;
  return at ? clock(at) : "the gateway started";
}

function reason({ outage, circuit }) {
  return withFullStop(outage && outage.reason !== circuit.reason ? `${outage.reason}; then ${circuit.reason}` : circuit.reason);
}

function headline(overview) {
  const all = Object.entries(overview.providers);
  const named = (test) => all.filter(([, { state }]) => test(state)).map(([name]) => name);
  const down = named((state) => state.circuit_state === "open" || state.circuit_state === "forced_open");
  const testing = named((state) => state.circuit_state === "half_open");
  const held = named((state) => state.is_muted && !REFUSING.has(state.circuit_state));
  const manual = named((state) => state.circuit_state === "disabled" || state.circuit_state === "monitoring");
  const available = all.length - down.length - held.length - testing.length;
  if (!available && down.length) return ["open", `No provider available: ${joinNames(down)} ${isOrAre(down)} down`];
  if (!available && held.length) return ["open", `No provider available: ${joinNames(held)} ${isOrAre(held)} on hold`];
  if (down.length) return [down.some((name) => overview.providers[name].state.circuit_state === "open") ? "open" : "forced_open", `${joinOrCount(down)} ${isOrAre(down)} down`];
  if (testing.length) return ["half_open", `${joinOrCount(testing)} ${isOrAre(testing)} being probed`];
  if (held.length) return ["half_open", `${joinOrCount(held)} ${isOrAre(held)} on hold`];
  if (manual.length) return ["monitoring", `All providers available; the circuit of ${joinOrCount(manual)} ${isOrAre(manual)} not active`];
  return ["closed", all.length === 1 ? "The circuit is closed" : `All ${all.length} circuits are closed`];
}

function callsNow({ calls, outcomes, providers: speakers, rate: callRate, first_audio: latency }) {
  if (!calls) return "No calls in the last 30 seconds.";
  const parts = OUTCOMES.filter((name) => outcomes[name]).map((name) => `${percent(outcomes[name] / calls)} ${name}`);
  const byCalls = Object.entries(speakers).filter(([name]) => name !== "none").sort((a, b) => b[1] - a[1]).map(([name]) => name);
  const voices = byCalls.length ? `answered by ${joinNames(byCalls.slice(0, 3))}` : "answered by no provider";
  const first = latency ? ` Time to first audio: median ${seconds(latency.p50)}, 95th percentile ${seconds(latency.p95)}.` : "";
  return capitalize(`calls ${voices}: ${parts.join(", ")}, at ${rate(callRate)}.${first}`);
}

/** Load of the process; what it refuses is no failure of a provider. */
function loadNow({ overloaded, active, queued, refused, loop_lag: lag }) {
  const refusals = Object.values(refused).reduce((sum, count) => sum + count, 0);
  if (!overloaded && !active && !refusals) return "Load: idle."; // never empty, or the page below would jump
  const lagText = lag >= 0.001 ? `, event loop ${seconds(lag)} late` : "";
  const refusalText = refusals ? ` ${pluralize(refusals, "request")} refused for overload since the start.` : "";
  const details = `${active} being synthesized, ${queued} queued${lagText}.${refusalText}`;
  return overloaded ? `Overloaded: ${details} New requests are queued, and refused with 503 after a while.` : `Load: ${details}`;
}

const joinOrCount = (names) => (names.length > 4 ? pluralize(names.length, "provider") : joinNames(names));
const isOrAre = (names) => (names.length === 1 ? "is" : "are");
