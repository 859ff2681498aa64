// Notifications of results, shown for a while, with an undo button where possible.

import { byId, h } from "./dom.js";

const DURATION = 12_000;

export function notify(text, { undo, failed } = {}) {
  const parts = [h("p", {}, text)];
  if (undo) parts.push(h("button", { type: "button", class: "small", onclick: () => { remove(); undo(); } }, "Undo"));
  const element = h("div", { class: failed ? "notice failure" : "notice" }, ...parts);
  const remove = () => element.remove();
  const removeLater = () => (element.matches(":hover, :focus-within") ? setTimeout(removeLater, 2000) : remove());
  setTimeout(removeLater, DURATION);
  byId("notices").append(element);
}
