// The last calls, newest first. Whoever reads one is not disturbed: while one is open or has the focus, the list rests.

import { arrange, h, set, tell } from "./dom.js";
import { outcome } from "./shapes.js";
import { account, waterfall } from "./waterfall.js";
import { clock, many, seconds, wentWell } from "./words.js";

const KEPT = 200;
const SHOWN = 40;

export class Calls {
  constructor(parent, onlyTrouble) {
    this.calls = [];
    this.rows = new Map();
    this.onlyTrouble = onlyTrouble;
    onlyTrouble.addEventListener("change", () => this.draw(true));
    this.list = h("ol", { class: "rows", onfocusout: () => (this.stale = true) });
    this.more = h("button", { type: "button", class: "more quiet", onclick: () => this.release() });
    this.none = h("p", { class: "aside" }, "None yet.");
    parent.append(this.more, this.list, this.none);
    set(this.more, { hidden: true });
    setInterval(() => this.stale && this.draw(false), 1000);
  }

  add(call) {
    this.calls.unshift(call);
    this.calls.length = Math.min(this.calls.length, KEPT);
    this.stale = true;
  }

  find(requestId) {
    return this.calls.find((call) => call.request_id === requestId);
  }

  /** Draw anew, at most once in a second, unless somebody reads. */
  draw(forced) {
    const busy = this.list.contains(document.activeElement) || this.list.querySelector("details[open]");
    const wanted = this.calls.filter((call) => !this.onlyTrouble.checked || !wentWell(call.outcome)).slice(0, SHOWN);
    if (busy && !forced && this.rows.size) {
      const fresh = wanted.findIndex((call) => this.rows.has(call));
      const n = fresh < 0 ? wanted.length : fresh;
      set(this.more, { hidden: n === 0 });
      tell(this.more, `${many(n, "newer call")}: show`);
      return;
    }
    this.stale = false;
    for (const call of this.rows.keys()) if (!wanted.includes(call)) this.rows.delete(call);
    for (const call of wanted) if (!this.rows.has(call)) this.rows.set(call, row(call));
    arrange(this.list, wanted.map((call) => this.rows.get(call)));
    set(this.more, { hidden: true });
    set(this.none, { hidden: wanted.length > 0 });
  }

  release() {
    for (const open of this.list.querySelectorAll("details[open]")) open.open = false;
    this.draw(true);
    this.list.querySelector("summary")?.focus();
  }
}

function row(call) {
  const details = h("details", {}, h("summary", {},
    h("time", { datetime: call.at }, clock(call.at)), outcome(call.outcome),
    h("span", { class: "who" }, call.provider ?? "nobody"),
    h("span", { class: "soon" }, seconds(call.first_audio)), waterfall(call),
    h("span", { class: "took" }, seconds(call.seconds))));
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length < 2) details.append(account(call));
  });
  return h("li", {}, details);
}
