// Card of a provider: circuit state with its reason, the last hour, latency, credit, and manual control.

import { h, set, setText } from "./dom.js";
import { Countdown } from "./countdown.js";
import { WindowGauge } from "./window_gauge.js";
import { StateBadge } from "./icons.js";
import { Timeline } from "./timeline.js";
import { since } from "./summary.js";
import { capitalize, clock, count, rate, roundedSpan, seconds, withFullStop } from "./formatting.js";

export class ProviderCard {
  /** `actions` are the callbacks of the buttons: reset, act, settings; each takes the provider's name. */
  constructor(name, actions) {
    this.badge = new StateBadge();
    this.since = h("span", { class: "since" });
    this.reason = h("p", { class: "reason" });
    this.next = h("p", { class: "next" });
    this.countdown = new Countdown();
    this.gauge = new WindowGauge();
    this.strip = new Timeline();
    this.facts = facts();
    this.holds = h("ul", { class: "holds" });
    const button = (word, act) =>
      h("button", { type: "button", "aria-label": `${word} ${name}`, onclick: () => act(name) }, word);
    this.element = h("article", { class: "card", "data-provider": name, "aria-label": name },
      h("header", {}, h("h3", {}, name), this.since, this.badge.element),
      h("div", { class: "reasons" }, this.reason, this.next, this.countdown.element),
      this.gauge.element, this.strip.element, this.facts.element, this.holds,
      h("footer", {}, button("Reset", actions.reset), button("Act…", actions.act), button("Settings…", actions.settings)));
  }

  show(provider, now, step) {
    const { state, circuit } = provider;
    set(this.element, { "data-state": state.circuit_state });
    this.badge.show(state.circuit_state);
    const moved = state.last_transition;
    setText(this.since, provider.outage ? `since ${since(provider)}` : moved ? `since ${clock(moved.at)}` : "");
    setText(this.reason, reason(state, circuit));
    setText(this.next, next(state, circuit));
    this.countdown.show(provider);
    this.gauge.show(provider);
    this.strip.show(provider, state.circuit_state, now, step);
    this.facts.show(provider);
    const holds = state.holds.map((hold) => `On hold until ${clock(hold.until)}: ${hold.reason}`);
    if (holds.join() !== this.held) {
      this.held = holds.join();
      this.holds.replaceChildren(...holds.map((text) => h("li", {}, text)));
    }
  }
}

const COMPARED = 30; // characters, because a long reason is truncated

function reason(state, circuit) {
  if (state.circuit_state === "closed" && !state.last_transition) return "No change since the gateway started.";
  const failing = state.circuit_state === "open" || state.circuit_state === "half_open";
  const message = state.last_error?.message ?? "";
  const isShown = circuit.reason.includes(message.slice(0, COMPARED)); // a failed probe's reason contains its error
  const lastError = failing && !isShown ? ` Last error: ${withFullStop(message)}` : "";
  return `${withFullStop(capitalize(circuit.reason))}${lastError}`;
}

/** The next change of state: while closed, the rules. Where time decides, the countdown shows it instead. */
function next(state, circuit) {
  if (circuit.changes_in !== null && state.circuit_state !== "half_open") return "";
  if (state.circuit_state !== "closed") return `${capitalize(circuit.next)}.`;
  return `${circuit.rules.length > 1 ? "Rules" : "Rule"}: ${circuit.rules.join("; ")}.`;
}

function facts() {
  const entry = (word) => {
    const value = h("dd");
    return { value, element: h("div", {}, h("dt", {}, word), value) };
  };
  const all = {
    requests: entry("requests"),
    first: entry("first audio, p50 · p95"),
    busy: entry("concurrency"),
    credit: entry("credit"),
  };
  return {
    element: h("dl", { class: "facts" }, ...Object.values(all).map((each) => each.element)),
    show({ state, rate: callRate, first_audio: latency }) {
      setText(all.requests.value, rate(callRate));
      setText(all.first.value, latency ? `${seconds(latency.p50)} · ${seconds(latency.p95)}` : "–");
      setText(all.busy.value, concurrency(state.concurrency));
      setText(all.credit.value, credit(state.credit));
    },
  };
}

function concurrency({ in_use: now, limit, waiting }) {
  return `${now}${limit === null ? "" : ` of ${limit}`}${waiting ? `, ${waiting} queued` : ""}`;
}

function credit(balance) {
  if (!balance) return "–";
  if (balance.remaining === null) return "unlimited";
  return `${count(balance.remaining)}${balance.ends_in === null ? "" : ` for ${roundedSpan(balance.ends_in)}`}`;
}
