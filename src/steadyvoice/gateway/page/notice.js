// What came of something that was done here, told for a while; with a way back where there is one.

import { byId, h } from "./dom.js";

const LONG = 12_000;

export function notice(text, { undo, bad } = {}) {
  const parts = [h("p", {}, text)];
  if (undo) parts.push(h("button", { type: "button", class: "small", onclick: () => { gone(); undo(); } }, "Undo"));
  const element = h("div", { class: bad ? "notice bad" : "notice" }, ...parts);
  const gone = () => element.remove();
  const later = () => (element.matches(":hover, :focus-within") ? setTimeout(later, 2000) : gone());
  setTimeout(later, LONG);
  byId("notices").append(element);
}
