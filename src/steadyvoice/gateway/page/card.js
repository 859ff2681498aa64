// One provider: its circuit, why, until when, how it did in the last hour, and what can be done.

import { h, set, tell } from "./dom.js";
import { Countdown } from "./countdown.js";
import { Gauge } from "./gauge.js";
import { StateBadge } from "./shapes.js";
import { Strip } from "./strip.js";
import { since } from "./verdict.js";
import { clock, count, ended, rate, roughly, seconds, sentence } from "./words.js";

export class Card {
  /** `does` has what the buttons do: reset, act, settings; each takes the provider's name. */
  constructor(name, does) {
    this.badge = new StateBadge();
    this.since = h("span", { class: "since" });
    this.why = h("p", { class: "why" });
    this.next = h("p", { class: "next" });
    this.countdown = new Countdown();
    this.gauge = new Gauge();
    this.strip = new Strip();
    this.facts = facts();
    this.holds = h("ul", { class: "holds" });
    const button = (word, act) =>
      h("button", { type: "button", "aria-label": `${word} ${name}`, onclick: () => act(name) }, word);
    this.element = h("article", { class: "card", "data-provider": name, "aria-label": name },
      h("header", {}, h("h3", {}, name), this.since, this.badge.element),
      h("div", { class: "reasons" }, this.why, this.next, this.countdown.element),
      this.gauge.element, this.strip.element, this.facts.element, this.holds,
      h("footer", {}, button("Reset", does.reset), button("Act…", does.act), button("Settings…", does.settings)));
  }

  show(provider, now, step) {
    const { state, circuit } = provider;
    set(this.element, { "data-state": state.circuit_state });
    this.badge.show(state.circuit_state);
    const moved = state.last_transition;
    tell(this.since, provider.outage ? `since ${since(provider)}` : moved ? `since ${clock(moved.at)}` : "");
    tell(this.why, reason(state, circuit));
    tell(this.next, next(state, circuit));
    this.countdown.show(provider);
    this.gauge.show(provider);
    this.strip.show(provider, state.circuit_state, now, step);
    this.facts.show(provider);
    const holds = state.holds.map((hold) => `On hold until ${clock(hold.until)}: ${hold.because}`);
    if (holds.join() !== this.held) {
      this.held = holds.join();
      this.holds.replaceChildren(...holds.map((text) => h("li", {}, text)));
    }
  }
}

const AS_TOLD = 30; // characters, for a reason that is too long is cut off

function reason(state, circuit) {
  if (state.circuit_state === "closed" && !state.last_transition) return "It has not moved since the gateway began.";
  const failing = state.circuit_state === "open" || state.circuit_state === "half_open";
  const message = state.last_error?.message ?? "";
  const told = circuit.why.includes(message.slice(0, AS_TOLD)); // a probe's error is the reason itself
  const said = failing && !told ? ` It said: ${ended(message)}` : "";
  return `${ended(sentence(circuit.why))}${said}`;
}

/** What will change it: while it is closed, its rules. What a clock decides, the countdown tells better. */
function next(state, circuit) {
  if (circuit.changes_in !== null && state.circuit_state !== "half_open") return "";
  if (state.circuit_state !== "closed") return `${sentence(circuit.next)}.`;
  return `${circuit.rules.length > 1 ? "Rules" : "Rule"}: ${circuit.rules.join("; ")}.`;
}

function facts() {
  const entry = (word) => {
    const value = h("dd");
    return { value, element: h("div", {}, h("dt", {}, word), value) };
  };
  const all = {
    asked: entry("asked"),
    first: entry("first audio, p50 · p95"),
    busy: entry("at once"),
    credit: entry("credit"),
  };
  return {
    element: h("dl", { class: "facts" }, ...Object.values(all).map((each) => each.element)),
    show({ state, rate: pace, first_audio: soon }) {
      tell(all.asked.value, rate(pace));
      tell(all.first.value, soon ? `${seconds(soon.p50)} · ${seconds(soon.p95)}` : "–");
      tell(all.busy.value, busy(state.concurrency));
      tell(all.credit.value, credit(state.credit));
    },
  };
}

function busy({ in_use: now, limit, waiting }) {
  return `${now}${limit === null ? "" : ` of ${limit}`}${waiting ? `, ${waiting} wait` : ""}`;
}

function credit(told) {
  if (!told) return "–";
  if (told.remaining === null) return "no limit";
  return `${count(told.remaining)}${told.ends_in === null ? "" : ` for ${roughly(told.ends_in)}`}`;
}
