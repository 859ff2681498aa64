// Event log, newest first: circuit transitions, changes of settings, and manual actions with their reasons.

import { h, setText } from "./dom.js";
import { icon } from "./icons.js";
import { STATES, clock, pluralize, span } from "./formatting.js";

const KEPT = 200;

export class EventLog {
  /** `undo(provider, before)` restores settings. */
  constructor(parent, undo) {
    this.undo = undo;
    this.list = h("ol", { class: "entries" });
    this.none = h("p", { class: "aside" }, "No events yet.");
    parent.append(h("div", { class: "scroll", role: "log", "aria-labelledby": "log-title", tabindex: "0" }, this.list), this.none);
  }

  add(kind, data) {
    const text = described(kind, data);
    if (!text) return;
    this.none.remove();
    const item = this.entry(kind, data, text);
    if (isFailedProbe(kind, data, this.last)) this.list.firstElementChild?.replaceWith(item);
    else this.list.prepend(item);
    this.last = data;
    while (this.list.children.length > KEPT) this.list.lastElementChild.remove();
  }

  entry(kind, data, [mark, title, reason]) {
    const author = data.by ? h("span", { class: "by" }, `by ${data.by.address ?? "localhost"}, ${data.by.via}`) : null;
    const item = h("li", { class: kind }, h("time", { datetime: data.at ?? "" }, data.at ? clock(data.at) : ""), icon(mark),
      h("div", {}, h("p", {}, data.provider ? h("strong", {}, `${data.provider} `) : null, title),
        reason ? h("p", { class: "reason" }, reason) : null, author));
    if (kind === "config" && data.provider) item.querySelector("div").append(this.undoButton(data));
    return item;
  }

  undoButton(data) {
    const back = Object.entries(data.before).map(([name, value]) => `${name} back to ${formatValue(value)}`).join(", ");
    const button = h("button", { type: "button", class: "small", title: back, "aria-label": `Undo for ${data.provider}: ${back}` }, "Undo");
    button.addEventListener("click", async () => {
      if (await this.undo(data.provider, data.before)) setText(button, "Undone");
    });
    return button;
  }
}

/** A failed probe replaces the entry of its beginning. */
const isFailedProbe = (kind, data, last) =>
  kind === "transition" && data.from === "half_open" && data.to === "open" && last?.to === "half_open" && last.provider === data.provider;

/** Icon, title and reason of an event; null for events that are not shown. */
function described(kind, data) {
  switch (kind) {
    case "transition": return [data.to, `${STATES[data.from]} → ${STATES[data.to]}`, data.reason];
    case "would_have_opened": return ["monitoring", "would have opened", data.reason];
    case "reset": return ["closed", "was reset", data.reason];
    case "config": return ["monitoring", data.provider ? "settings changed" : "configuration reloaded", changes(data)];
    case "action": if (data.error) return ["failed", `${data.action} failed`, data.error];
      return ["resumed", `${data.action} manually${data.everywhere ? " at all replicas" : ""}${data.duration ? ` for ${span(data.duration)}` : ""}`, data.reason || "no reason given"];
    case "worker": return [data.state === "ready" ? "closed" : "failed", `Worker ${data.worker} ${data.state === "ready" ? "is ready again" : "ended"}`, data.reason];
    case "lost": return ["muted", data.entries ? `${pluralize(data.entries, "entry", "entries")} missing` : "The gateway was restarted", data.reason];
    case "closing": return ["muted", "The gateway is shutting down", ""];
    default: return null;
  }
}

export const changes = ({ before, after }) =>
  Object.keys(after).map((name) => `${name} ${formatValue(before[name])} → ${formatValue(after[name])}`).join(", ");

export const formatValue = (value) => (value === null || value === undefined ? "not set" : Array.isArray(value) ? value.map(formatValue).join(", ") : typeof value === "object" ? JSON.stringify(value) : String(value));
