// Window of a circuit: failure rate, threshold, and each call as a dot.

import { h, s, set, setText } from "./dom.js";
import { count, many, percent, span } from "./formatting.js";

export class WindowGauge {
  constructor() {
    this.fill = s("rect", { class: "level", y: 2, height: 6 });
    this.mark = s("path", { class: "threshold" });
    this.bar = s("svg", { class: "gauge", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
      s("rect", { class: "track", y: 2, width: 100, height: 6 }), this.fill, this.mark);
    this.told = h("p", { class: "told" });
    this.dots = new Dots();
    this.element = h("div", { class: "window" }, this.told, this.bar, this.dots.element);
  }

  show({ state, circuit }) {
    const { failure_rate: rate, window } = state;
    const { threshold, minimum, window_seconds: long } = circuit;
    set(this.fill, { width: 100 * rate, class: threshold !== null && rate >= threshold ? "level over" : "level" });
    set(this.mark, { d: threshold === null ? "" : `M${100 * threshold} 0v10` });
    const of = long ? `the last ${span(long)}` : `the last ${many(window.calls, "call")}`;
    const some = window.calls ? `${percent(rate)} of ${of} failed` : "no calls in the window";
    const at = threshold === null ? "" : ` · opens at ${percent(threshold)}${window.calls < minimum ? `, from ${many(minimum, "call")}` : ""}`;
    setText(this.told, some + at);
    this.dots.show(circuit.dots, long);
  }
}

const PITCH = 8;

class Dots {
  constructor() {
    this.well = s("path", { class: "fill spoken" });
    this.failed = s("path", { class: "fill failed" });
    this.none = s("path", { class: "fill nothing" });
    this.element = s("svg", { class: "dots", role: "img", height: 10 }, this.none, this.well, this.failed);
  }

  show(dots, long) {
    const text = JSON.stringify(dots);
    if (text === this.text) return;
    this.text = text;
    const wide = Math.max(25, dots.length);
    const most = Math.max(1, ...dots.map(([calls]) => calls));
    let [well, failed, none] = ["", "", ""];
    dots.forEach(([calls, failures], at) => {
      const x = at * PITCH + PITCH / 2;
      const size = long ? 1.4 + 2 * Math.sqrt(calls / most) : 3;
      if (!calls) none += disc(x, 5, 0.8);
      else if (failures) {
        const share = failures / calls;
        if (share < 1) well += disc(x, 5, size);
        failed += cross(x, 5, size * (0.5 + 0.5 * Math.sqrt(share)));
      } else well += disc(x, 5, size);
    });
    set(this.well, { d: well });
    set(this.failed, { d: failed });
    set(this.none, { d: none });
    const calls = dots.reduce((sum, [n]) => sum + n, 0);
    const failures = dots.reduce((sum, [, n]) => sum + n, 0);
    set(this.element, {
      viewBox: `0 0 ${wide * PITCH} 10`, preserveAspectRatio: "xMinYMid meet",
      "aria-label": `Window, oldest first: ${many(calls, "call")}, ${count(failures)} failed`,
    });
  }
}

const disc = (x, y, r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`;

/** A cross, so that failures can be told apart without colours. */
function cross(x, y, r) {
  const t = r * 0.42;
  return `M${x - r} ${y - r + t}l${t} ${-t}l${r - t} ${r - t}l${r - t} ${t - r}l${t} ${t}l${t - r} ${r - t}l${r - t} ${r - t}l${-t} ${t}l${t - r} ${t - r}l${t - r} ${r - t}l${-t} ${-t}l${r - t} ${t - r}z`;
}
