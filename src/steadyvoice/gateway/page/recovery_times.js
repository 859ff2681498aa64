// RecoveryTimes times: histogram of outages that ended by themselves, from opening to closing.

import { h, s, set, setText } from "./dom.js";
import { many, span } from "./formatting.js";

const BOUNDS = [1, 3, 10, 30, 60, 180, 600, 1800, Infinity];

export class RecoveryTimes {
  constructor(parent) {
    this.told = h("p", { class: "told" });
    this.rows = BOUNDS.map((bound, at) => bin(at ? BOUNDS[at - 1] : 0, bound));
    this.table = h("table", { class: "bins" }, h("caption", { class: "unseen" }, "Outages by duration"),
      h("thead", { class: "unseen" }, h("tr", {}, h("th", { scope: "col" }, "duration"), h("th", { scope: "col" }, "number"))),
      h("tbody", {}, ...this.rows.map((row) => row.element)));
    parent.append(this.told, this.table);
  }

  show(recoveries) {
    const took = recoveries.map(([, , seconds]) => seconds).sort((a, b) => a - b);
    const counts = BOUNDS.map((bound, at) => took.filter((t) => t <= bound && t > (at ? BOUNDS[at - 1] : -1)).length);
    const most = Math.max(1, ...counts);
    this.rows.forEach((row, at) => row.show(counts[at], most));
    setText(this.told, summed(took));
  }
}

function summed(took) {
  if (!took.length) return "No recoveries yet.";
  if (took.length === 1) return `1 outage: ${span(took[0])}.`;
  const median = took[Math.floor((took.length - 1) / 2)];
  return `${many(took.length, "outage")}: median ${span(median)}, longest ${span(took.at(-1))}.`;
}

function bin(from, to) {
  const fill = s("rect", { class: "fill spoken", height: 10 });
  const number = h("span");
  const word = to === Infinity ? `over ${span(from)}` : `up to ${span(to)}`;
  const element = h("tr", {}, h("th", { scope: "row" }, word), h("td", {},
    s("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" }, fill), number));
  return {
    element,
    show(n, most) {
      set(fill, { width: (100 * n) / most });
      setText(number, n ? String(n) : "");
    },
  };
}
