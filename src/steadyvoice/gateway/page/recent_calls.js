// Recent calls, newest first. While a call is open or has the focus, the list is not updated, so that it can be read.

import { h, reconcile, set, setText } from "./dom.js";
import { outcome } from "./icons.js";
import { account, waterfall } from "./waterfall.js";
import { clock, isSuccess, pluralize, seconds } from "./formatting.js";

const KEPT = 200;
const SHOWN = 40;

export class RecentCalls {
  constructor(parent, errorsOnly) {
    this.calls = [];
    this.rows = new Map();
    this.errorsOnly = errorsOnly;
    errorsOnly.addEventListener("change", () => this.draw(true));
    this.list = h("ol", { class: "rows", onfocusout: () => (this.stale = true) });
    this.more = h("button", { type: "button", class: "more quiet", onclick: () => this.release() });
    this.none = h("p", { class: "aside" }, "No calls yet.");
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

  /** Update the list, at most once per second, unless a call is being read. */
  draw(forced) {
    const inUse = this.list.contains(document.activeElement) || this.list.querySelector("details[open]");
    const visible = this.calls.filter((call) => !this.errorsOnly.checked || !isSuccess(call.outcome)).slice(0, SHOWN);
    if (inUse && !forced && this.rows.size) {
      const firstKnown = visible.findIndex((call) => this.rows.has(call));
      const n = firstKnown < 0 ? visible.length : firstKnown;
      set(this.more, { hidden: n === 0 });
      setText(this.more, `${pluralize(n, "newer call")}: show`);
      return;
    }
    this.stale = false;
    for (const call of this.rows.keys()) if (!visible.includes(call)) this.rows.delete(call);
    for (const call of visible) if (!this.rows.has(call)) this.rows.set(call, row(call));
    reconcile(this.list, visible.map((call) => this.rows.get(call)));
    set(this.more, { hidden: true });
    set(this.none, { hidden: visible.length > 0 });
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
    h("span", { class: "provider-name" }, call.provider ?? "none"),
    h("span", { class: "first-audio" }, seconds(call.first_audio)), waterfall(call),
    h("span", { class: "duration" }, seconds(call.seconds))));
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length < 2) details.append(account(call));
  });
  return h("li", {}, details);
}
