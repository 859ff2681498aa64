// What happened, newest first: circuits that moved, settings that changed, whoever did something by hand, and why.

import { h, tell } from "./dom.js";
import { shape } from "./shapes.js";
import { STATES, clock, many, span } from "./words.js";

const KEPT = 200;

export class Log {
  /** `undo(provider, before)` sends settings back. */
  constructor(parent, undo) {
    this.undo = undo;
    this.list = h("ol", { class: "entries" });
    this.none = h("p", { class: "aside" }, "Nothing yet: no circuit has moved, and nobody did anything by hand.");
    parent.append(h("div", { class: "scroll", role: "log", "aria-labelledby": "log-title", tabindex: "0" }, this.list), this.none);
  }

  add(kind, data) {
    const said = told(kind, data);
    if (!said) return;
    this.none.remove();
    const item = this.entry(kind, data, said);
    if (isFailedProbe(kind, data, this.last)) this.list.firstElementChild?.replaceWith(item);
    else this.list.prepend(item);
    this.last = data;
    while (this.list.children.length > KEPT) this.list.lastElementChild.remove();
  }

  entry(kind, data, [mark, title, why]) {
    const by = data.by ? h("span", { class: "by" }, `by ${data.by.address ?? "this machine"}, ${data.by.leave}`) : null;
    const item = h("li", { class: kind }, h("time", { datetime: data.at ?? "" }, data.at ? clock(data.at) : ""), shape(mark),
      h("div", {}, h("p", {}, data.provider ? h("strong", {}, `${data.provider} `) : null, title),
        why ? h("p", { class: "why" }, why) : null, by));
    if (kind === "config" && data.provider) item.querySelector("div").append(this.undoButton(data));
    return item;
  }

  undoButton(data) {
    const back = Object.entries(data.before).map(([name, value]) => `${name} back to ${shown(value)}`).join(", ");
    const button = h("button", { type: "button", class: "small", title: back, "aria-label": `Undo for ${data.provider}: ${back}` }, "Undo");
    button.addEventListener("click", async () => {
      if (await this.undo(data.provider, data.before)) tell(button, "Undone");
    });
    return button;
  }
}

/** Of a probe that failed, that it began needs no entry of its own. */
const isFailedProbe = (kind, data, last) =>
  kind === "transition" && data.from === "half_open" && data.to === "open" && last?.to === "half_open" && last.provider === data.provider;

/** A shape, what happened, and why; null for what is of no interest here. */
function told(kind, data) {
  switch (kind) {
    case "transition": return [data.to, `${STATES[data.from]} → ${STATES[data.to]}`, data.reason];
    case "would_have_opened": return ["monitoring", "would have opened", data.reason];
    case "reset": return ["closed", "was emptied", data.reason];
    case "config": return ["monitoring", data.provider ? "settings changed" : "the configuration was read again", changes(data)];
    case "action": if (data.error) return ["failed", `${data.action}: refused`, data.error];
      return ["resumed", `${data.action} by hand${data.duration ? ` for ${span(data.duration)}` : ""}`, data.reason || "no reason given"];
    case "lost": return ["muted", data.entries ? `${many(data.entries, "entry", "entries")} missing here` : "The gateway was restarted", data.why];
    case "closing": return ["muted", "The gateway shuts down", ""];
    default: return null;
  }
}

export const changes = ({ before, after }) =>
  Object.keys(after).map((name) => `${name} ${shown(before[name])} → ${shown(after[name])}`).join(", ");

export const shown = (value) => (value === null || value === undefined ? "not set" : Array.isArray(value) ? value.map(shown).join(", ") : typeof value === "object" ? JSON.stringify(value) : String(value));
