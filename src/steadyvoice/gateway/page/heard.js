// What callers heard over the last hour: a bar for each step, and in it how many calls ended how.

import { h, s, set, tell } from "./dom.js";
import { shape } from "./shapes.js";
import { MEANT, OUTCOMES, count, percent } from "./words.js";

const STEPS = 240;
const HIGH = 100;

export class Heard {
  constructor(parent) {
    this.paths = Object.fromEntries(OUTCOMES.map((name) => [name, s("path", { class: `fill ${name}` })]));
    this.most = h("span");
    this.drawing = s("svg", { class: "bars", viewBox: `0 0 ${STEPS} ${HIGH}`, preserveAspectRatio: "none", role: "img" },
      s("path", { class: "grid", d: `M0 .5H${STEPS}M0 50H${STEPS}M0 99.500H${STEPS}` }), ...Object.values(this.paths));
    this.rows = Object.fromEntries(OUTCOMES.map((name) => [name, row(name)]));
    parent.append(h("div", { class: "chart" }, h("p", { class: "ends" }, this.most), this.drawing,
      h("p", { class: "ends", "aria-hidden": "true" }, h("span", {}, "an hour ago"), h("span", {}, "half an hour"), h("span", {}, "now"))),
    h("table", { class: "legend" },
      h("caption", { class: "unseen" }, "What callers heard, in calls"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "heard"), h("th", { scope: "col" }, "now"), h("th", { scope: "col" }, "hour"))),
      h("tbody", {}, ...Object.values(this.rows).map((each) => each.element))));
  }

  show(heard, lately, now) {
    const first = now - STEPS + 1;
    const most = nice(Math.max(1, ...heard.map(([, outcomes]) => sum(outcomes))));
    const drawn = Object.fromEntries(OUTCOMES.map((name) => [name, ""]));
    const total = {};
    for (const [n, outcomes] of heard) {
      if (n < first) continue;
      let y = HIGH;
      for (const name of OUTCOMES) {
        const many = outcomes[name] ?? 0;
        if (!many) continue;
        const high = Math.max(1.2, (many / most) * HIGH);
        y -= high;
        drawn[name] += `M${(n - first + 0.06).toFixed(2)} ${y.toFixed(2)}h.88v${high.toFixed(2)}h-.88z`;
        total[name] = (total[name] ?? 0) + many;
      }
    }
    for (const name of OUTCOMES) {
      set(this.paths[name], { d: drawn[name] });
      this.rows[name].show(lately.calls ? (lately.outcomes[name] ?? 0) / lately.calls : null, total[name] ?? 0);
    }
    tell(this.most, `${count(most)} calls in a step`);
    const all = sum(total);
    const said = OUTCOMES.filter((name) => total[name]).map((name) => `${count(total[name])} ${name}`);
    set(this.drawing, { "aria-label": all ? `In the last hour ${count(all)} calls: ${said.join(", ")}.` : "No calls in the last hour." });
  }
}

function row(name) {
  const [now, hour] = [h("td"), h("td")];
  const element = h("tr", { title: MEANT[name] }, h("th", { scope: "row" }, shape(name), name), now, hour);
  return {
    element,
    show(share, total) {
      tell(now, share === null ? "–" : percent(share));
      tell(hour, count(total));
      set(element, { class: total ? null : "none" });
    },
  };
}

const sum = (counts) => Object.values(counts).reduce((all, n) => all + n, 0);

/** The next round number: an axis that is told in one must not change with every call. */
function nice(most) {
  const unit = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 4, 5, 10].map((each) => each * unit).find((each) => each >= most);
}
