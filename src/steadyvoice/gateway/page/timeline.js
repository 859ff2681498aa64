// Timeline of a provider's last hour: circuit states above, successful attempts upward and failures downward below.

import { h, s, set, setText } from "./dom.js";
import { pluralize, span } from "./formatting.js";

const STEPS = 240;
const HEIGHT = { closed: 1.5, monitoring: 3, disabled: 3, half_open: 5, open: 8, forced_open: 8 };
const TOP = 8; // of the drawing: the circuit's lane
const AXIS = 26;
const UP = 14; // above the axis; below it are 8

export class Timeline {
  constructor() {
    this.states = Object.fromEntries(Object.keys(HEIGHT).map((name) => [name, s("path", { class: `fill ${name}` })]));
    this.succeeded = s("path", { class: "fill spoken" });
    this.failed = s("path", { class: "fill failed" });
    this.refused = s("path", { class: "fill refused" });
    this.drawing = s("svg", { class: "strip", viewBox: `0 0 ${STEPS} 36`, preserveAspectRatio: "none", role: "img" },
      ...Object.values(this.states), s("path", { class: "axis", d: `M0 ${AXIS}H${STEPS}` }),
      this.refused, this.succeeded, this.failed);
    this.ends = h("p", { class: "ends", "aria-hidden": "true" }, h("span", {}, "an hour ago"), h("span", {}, "now"));
    this.element = h("div", {}, this.drawing, this.ends);
  }

  show({ attempts, states }, current, now, step) {
    const first = now - STEPS + 1;
    const paths = { closed: "", monitoring: "", disabled: "", half_open: "", open: "", forced_open: "" };
    let open = 0;
    let openings = 0;
    for (const [from, to, state] of lane(states, current, first, now)) {
      paths[state] += `M${from - first} ${TOP - HEIGHT[state]}h${to - from}v${HEIGHT[state]}h${from - to}z`;
      if (HEIGHT[state] === 8) {
        open += (to - from) * step;
        openings += 1;
      }
    }
    for (const [name, path] of Object.entries(paths)) set(this.states[name], { d: path });
    const highest = Math.max(1, ...attempts.map(([, succeeded, failed]) => Math.max(succeeded, failed)));
    let [successPath, failed, refused, failures] = ["", "", "", 0];
    for (const [n, succeeded, failedCalls, , refusals] of attempts) {
      const x = n - first;
      if (x < 0) continue;
      if (succeeded) successPath += bar(x, AXIS - barHeight(succeeded, highest, UP), barHeight(succeeded, highest, UP));
      if (failedCalls) failed += bar(x, AXIS, barHeight(failedCalls, highest, 8));
      if (refusals && !succeeded && !failedCalls) refused += bar(x, AXIS - 1, 2);
      failures += failedCalls;
    }
    set(this.succeeded, { d: successPath });
    set(this.failed, { d: failed });
    set(this.refused, { d: refused });
    const openText = openings ? `open for ${span(open)} in ${pluralize(openings, "period")}` : "never open";
    set(this.drawing, { "aria-label": `The last hour: ${openText}, ${pluralize(failures, "failure")}.` });
  }
}

/** Periods of states: [from, to, state], in steps. */
export function* lane(states, current, first, now) {
  let state = states.length && states[0][0] > first ? "closed" : current;
  let from = first;
  for (const [n, worst, after] of states) {
    if (n < first) {
      state = after;
      continue;
    }
    if (n > from) yield [from, n, state];
    yield [n, n + 1, worst];
    [from, state] = [n + 1, after];
  }
  if (from <= now) yield [from, now + 1, current];
}

/** Height by the square root, so that one failure among a hundred attempts remains visible. */
const barHeight = (n, highest, room) => Math.max(1.5, Math.sqrt(n / highest) * room);
const bar = (x, y, height) => `M${x + 0.08} ${y.toFixed(1)}h.84v${height.toFixed(1)}h-.84z`;
