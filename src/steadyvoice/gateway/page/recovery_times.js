// Histogram of recovery times: outages that ended by themselves, by their duration from opening to closing.

import { h, s, set, setText } from "./dom.js";
import { pluralize, span } from "./formatting.js";

const BOUNDS = [1, 3, 10, 30, 60, 180, 600, 1800, Infinity];

export class RecoveryTimes {
  constructor(parent) {
    this.caption = h("p", { class: "caption" });
    this.rows = BOUNDS.map((bound, index) => histogramRow(index ? BOUNDS[index - 1] : 0, bound));
    this.table = h("table", { class: "bins" }, h("caption", { class: "visually-hidden" }, "Outages by duration"),
      h("thead", { class: "visually-hidden" }, h("tr", {}, h("th", { scope: "col" }, "duration"), h("th", { scope: "col" }, "number"))),
      h("tbody", {}, ...this.rows.map((row) => row.element)));
    parent.append(this.caption, this.table);
  }

  show(recoveries) {
    const durations = recoveries.map(([, , seconds]) => seconds).sort((a, b) => a - b);
    const counts = BOUNDS.map((bound, index) => durations.filter((t) => t <= bound && t > (index ? BOUNDS[index - 1] : -1)).length);
    const highest = Math.max(1, ...counts);
    this.rows.forEach((row, index) => row.show(counts[index], highest));
    setText(this.caption, summary(durations));
  }
}

function summary(durations) {
  if (!durations.length) return "No recoveries yet.";
  if (durations.length === 1) return `1 outage: ${span(durations[0])}.`;
  const median = durations[Math.floor((durations.length - 1) / 2)];
  return `${pluralize(durations.length, "outage")}: median ${span(median)}, longest ${span(durations.at(-1))}.`;
}

function histogramRow(from, to) {
  const fill = s("rect", { class: "fill spoken", height: 10 });
  const number = h("span");
  const word = to === Infinity ? `over ${span(from)}` : `up to ${span(to)}`;
  const element = h("tr", {}, h("th", { scope: "row" }, word), h("td", {},
    s("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" }, fill), number));
  return {
    element,
    show(n, highest) {
      set(fill, { width: (100 * n) / highest });
      setText(number, n ? String(n) : "");
    },
  };
}
