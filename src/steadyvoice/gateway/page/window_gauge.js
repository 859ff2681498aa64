// Window of a circuit: failure rate, threshold, and each call as a dot.

import { h, s, set, setText } from "./dom.js";
import { count, percent, pluralize, span } from "./formatting.js";

export class WindowGauge {
  constructor() {
    this.fill = s("rect", { class: "level", y: 2, height: 6 });
    this.mark = s("path", { class: "threshold" });
    this.bar = s("svg", { class: "gauge", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
      s("rect", { class: "track", y: 2, width: 100, height: 6 }), this.fill, this.mark);
    this.caption = h("p", { class: "caption" });
    this.dots = new Dots();
    this.element = h("div", { class: "window" }, this.caption, this.bar, this.dots.element);
  }

  show({ state, circuit }) {
    const { failure_rate: rate, window } = state;
    const { threshold, minimum, window_seconds: windowSeconds } = circuit;
    set(this.fill, { width: 100 * rate, class: threshold !== null && rate >= threshold ? "level over" : "level" });
    set(this.mark, { d: threshold === null ? "" : `M${100 * threshold} 0v10` });
    const period = windowSeconds ? `the last ${span(windowSeconds)}` : `the last ${pluralize(window.calls, "call")}`;
    const rateText = window.calls ? `${percent(rate)} of ${period} failed` : "no calls in the window";
    const thresholdText = threshold === null ? "" : ` · opens at ${percent(threshold)}${window.calls < minimum ? `, from ${pluralize(minimum, "call")}` : ""}`;
    setText(this.caption, rateText + thresholdText);
    this.dots.show(circuit.dots, windowSeconds);
  }
}

const PITCH = 8;

class Dots {
  constructor() {
    this.succeeded = s("path", { class: "fill spoken" });
    this.failed = s("path", { class: "fill failed" });
    this.empty = s("path", { class: "fill empty" });
    this.element = s("svg", { class: "dots", role: "img", height: 10 }, this.empty, this.succeeded, this.failed);
  }

  show(dots, windowSeconds) {
    const text = JSON.stringify(dots);
    if (text === this.text) return;
    this.text = text;
    const columns = Math.max(25, dots.length);
    const highest = Math.max(1, ...dots.map(([calls]) => calls));
    let [succeeded, failed, empty] = ["", "", ""];
    dots.forEach(([calls, failures], index) => {
      const x = index * PITCH + PITCH / 2;
      const size = windowSeconds ? 1.4 + 2 * Math.sqrt(calls / highest) : 3;
      if (!calls) empty += disc(x, 5, 0.8);
      else if (failures) {
        const share = failures / calls;
        if (share < 1) succeeded += disc(x, 5, size);
        failed += cross(x, 5, size * (0.5 + 0.5 * Math.sqrt(share)));
      } else succeeded += disc(x, 5, size);
    });
    set(this.succeeded, { d: succeeded });
    set(this.failed, { d: failed });
    set(this.empty, { d: empty });
    const calls = dots.reduce((sum, [n]) => sum + n, 0);
    const failures = dots.reduce((sum, [, n]) => sum + n, 0);
    set(this.element, {
      viewBox: `0 0 ${columns * PITCH} 10`, preserveAspectRatio: "xMinYMid meet",
      "aria-label": `Window, oldest first: ${pluralize(calls, "call")}, ${count(failures)} failed`,
    });
  }
}

const disc = (x, y, r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`;

/** A cross, so that failures can be distinguished without colours. */
function cross(x, y, r) {
  const t = r * 0.42;
  return `M${x - r} ${y - r + t}l${t} ${-t}l${r - t} ${r - t}l${r - t} ${t - r}l${t} ${t}l${t - r} ${r - t}l${r - t} ${r - t}l${-t} ${t}l${t - r} ${t - r}l${t - r} ${r - t}l${-t} ${-t}l${r - t} ${t - r}z`;
}
