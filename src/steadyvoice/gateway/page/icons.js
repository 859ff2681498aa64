// Icons of states and outcomes, so that none is shown by colour alone.

import { h, s, set, setText } from "./dom.js";
import { STATES } from "./formatting.js";

const DRAWN = {
  closed: ["circle", { cx: 8, cy: 8, r: 5.5 }],
  open: ["path", { d: "M5 1.500h6l3.500 3.500v6L11 14.500H5L1.500 11V5z" }],
  half_open: ["path", { d: "M8 2.500a5.500 5.500 0 0 1 0 11z M8 1.500a6.500 6.500 0 1 0 0 13a6.500 6.500 0 1 0 0-13zm0 1.800a4.700 4.700 0 1 1 0 9.400a4.700 4.700 0 1 1 0-9.400z" }],
  forced_open: ["path", { d: "M1.500 1.500h13v13h-13zM4 7v2h8V7z", "fill-rule": "evenodd" }],
  disabled: ["path", { d: "M8 1.500a6.500 6.500 0 1 0 0 13a6.500 6.500 0 1 0 0-13zm0 2a4.500 4.500 0 1 1 0 9a4.500 4.500 0 1 1 0-9z", "fill-rule": "evenodd" }],
  monitoring: ["path", { d: "M8 3C4.500 3 2 5.500 1 8c1 2.500 3.500 5 7 5s6-2.500 7-5c-1-2.500-3.500-5-7-5zm0 2.200a2.800 2.800 0 1 1 0 5.600a2.800 2.800 0 1 1 0-5.600z", "fill-rule": "evenodd" }],
  spoken: ["circle", { cx: 8, cy: 8, r: 4.5 }],
  cached: ["path", { d: "M8 3.500a4.500 4.500 0 1 0 0 9a4.500 4.500 0 1 0 0-9zm0 2a2.500 2.500 0 1 1 0 5a2.500 2.500 0 1 1 0-5z", "fill-rule": "evenodd" }],
  substituted: ["path", { d: "M8 2.500L14 13H2z" }],
  resumed: ["path", { d: "M2 3l6 5-6 5zM8 3l6 5-6 5z" }],
  recorded: ["path", { d: "M2 2.500h12v8H8l-3.500 3v-3H2z" }],
  muted: ["path", { d: "M2.500 6.500h11v3h-11z" }],
  failed: ["path", { d: "M3.500 1.500L8 6l4.500-4.500 2 2L10 8l4.500 4.500-2 2L8 10l-4.500 4.500-2-2L6 8 1.500 3.500z" }],
  interrupted: ["path", { d: "M7 3h2v10H7z" }],
};

/** Icon of a state or outcome; decorative, because its name stands beside it. */
export function icon(name) {
  const [tag, attributes] = DRAWN[name] ?? DRAWN.interrupted;
  return s("svg", { viewBox: "0 0 16 16", class: `shape ${name}`, "aria-hidden": "true" }, s(tag, attributes));
}

/** Icon and name of an outcome. */
export function outcome(name) {
  return h("span", { class: "outcome" }, icon(name), name);
}

/** Icon and name of a state, which can change. */
export class StateBadge {
  constructor() {
    this.word = h("span");
    this.element = h("span", { class: "badge" }, this.word);
  }

  show(state) {
    if (state === this.state) return;
    this.state = state;
    this.element.replaceChildren(icon(state), this.word);
    set(this.element, { class: `badge ${state}` });
    setText(this.word, STATES[state] ?? state);
  }
}
