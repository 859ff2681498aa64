// Call outcomes of the last hour: a stacked bar for each step of 15 seconds.

import { h, s, set, setText } from "./dom.js";
import { icon } from "./icons.js";
import { DESCRIPTIONS, OUTCOMES, count, percent } from "./formatting.js";

const STEPS = 240;
const HIGH = 100;

export class CallOutcomes {
  constructor(parent) {
    this.paths = Object.fromEntries(OUTCOMES.map((name) => [name, s("path", { class: `fill ${name}` })]));
    this.maximumLabel = h("span");
    this.drawing = s("svg", { class: "bars", viewBox: `0 0 ${STEPS} ${HIGH}`, preserveAspectRatio: "none", role: "img" },
      s("path", { class: "grid", d: `M0 .5H${STEPS}M0 50H${STEPS}M0 99.500H${STEPS}` }), ...Object.values(this.paths));
    this.rows = Object.fromEntries(OUTCOMES.map((name) => [name, row(name)]));
    parent.append(h("div", { class: "chart" }, h("p", { class: "ends" }, this.maximumLabel), this.drawing,
      h("p", { class: "ends", "aria-hidden": "true" }, h("span", {}, "an hour ago"), h("span", {}, "half an hour"), h("span", {}, "now"))),
    h("table", { class: "legend" },
      h("caption", { class: "visually-hidden" }, "Number of calls by outcome"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "outcome"), h("th", { scope: "col" }, "now"), h("th", { scope: "col" }, "hour"))),
      h("tbody", {}, ...Object.values(this.rows).map((each) => each.element))));
  }

  show(steps, current, now) {
    const first = now - STEPS + 1;
    const highest = roundedUp(Math.max(1, ...steps.map(([, outcomes]) => sum(outcomes))));
    const drawn = Object.fromEntries(OUTCOMES.map((name) => [name, ""]));
    const total = {};
    for (const [n, outcomes] of steps) {
      if (n < first) continue;
      let y = HIGH;
      for (const name of OUTCOMES) {
        const calls = outcomes[name] ?? 0;
        if (!calls) continue;
        const high = Math.max(1.2, (calls / highest) * HIGH);
        y -= high;
        drawn[name] += `M${(n - first + 0.06).toFixed(2)} ${y.toFixed(2)}h.88v${high.toFixed(2)}h-.88z`;
        total[name] = (total[name] ?? 0) + calls;
      }
    }
    for (const name of OUTCOMES) {
      set(this.paths[name], { d: drawn[name] });
      this.rows[name].show(current.calls ? (current.outcomes[name] ?? 0) / current.calls : null, total[name] ?? 0);
    }
    setText(this.maximumLabel, `${count(highest)} calls per step`);
    const all = sum(total);
    const parts = OUTCOMES.filter((name) => total[name]).map((name) => `${count(total[name])} ${name}`);
    set(this.drawing, { "aria-label": all ? `In the last hour ${count(all)} calls: ${parts.join(", ")}.` : "No calls in the last hour." });
  }
}

function row(name) {
  const [now, hour] = [h("td"), h("td")];
  const element = h("tr", { title: DESCRIPTIONS[name] }, h("th", { scope: "row" }, icon(name), name), now, hour);
  return {
    element,
    show(share, total) {
      setText(now, share === null ? "–" : percent(share));
      setText(hour, count(total));
      set(element, { class: total ? null : "none" });
    },
  };
}

const sum = (counts) => Object.values(counts).reduce((all, n) => all + n, 0);

/** Return the next round number: the axis must not change with every call. */
function roundedUp(highest) {
  const unit = 10 ** Math.floor(Math.log10(highest));
  return [1, 2, 4, 5, 10].map((each) => each * unit).find((each) => each >= highest);
}
