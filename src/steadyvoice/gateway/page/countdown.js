// Countdown to the next probe. The gateway reports the remaining time; between two reports the page counts by itself.

import { h, s, set, setText } from "./dom.js";

const running = new Set();
setInterval(() => {
  for (const countdown of running) countdown.tick();
}, 250);

const SLACK = 700; // milliseconds of difference that are ignored, so that the countdown does not jump

export class Countdown {
  constructor() {
    this.bar = s("rect", { class: "left", height: 4, rx: 2 });
    this.text = h("span", { class: "digits" });
    this.element = h("span", { class: "countdown", role: "timer", hidden: true }, this.text,
      s("svg", { viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" },
        s("rect", { class: "track", width: 100, height: 4, rx: 2 }), this.bar));
  }

  show({ state, circuit }) {
    const remaining = state.retry_after ?? circuit.changes_in;
    set(this.element, { hidden: remaining === null });
    if (remaining === null) {
      this.ends = null;
      running.delete(this);
      return;
    }
    const ends = performance.now() + remaining * 1000;
    const moved = state.last_transition?.at;
    if (moved !== this.moved || !this.ends) {
      Object.assign(this, { moved, total: 0 });
      this.ends = ends;
    } else if (Math.abs(ends - this.ends) > SLACK) this.ends = ends;
    this.total = Math.max(this.total, remaining);
    this.label = WHAT[state.circuit_state] ?? "until the hold ends";
    running.add(this);
    this.tick();
  }

  tick() {
    if (!this.element.isConnected && this.wasConnected) {
      running.delete(this);
      return;
    }
    this.wasConnected = this.element.isConnected;
    const remaining = Math.max(0, (this.ends - performance.now()) / 1000);
    setText(this.text, remaining > 0 ? `${digits(remaining)} ${this.label}` : ENDED_TEXTS[this.label] ?? "any moment now");
    set(this.bar, { width: (100 * remaining) / (this.total || 1) });
  }
}

const NEXT = "until the next probe";
const WHAT = {
  open: NEXT,
  forced_open: "until it may be probed",
  disabled: "until the circuit is active again",
  monitoring: "until the circuit is active again",
};
const ENDED_TEXTS = { [NEXT]: "the next call is the probe", [WHAT.forced_open]: "the next call is the probe" };

function digits(remaining) {
  const total = Math.ceil(remaining);
  const two = (n) => String(n).padStart(2, "0");
  const [hours, minutes, rest] = [Math.floor(total / 3600), Math.floor((total % 3600) / 60), total % 60];
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}
