// Dialogs: the browser keeps the focus inside and closes on Escape; afterwards the focus returns to where it was.

import { h, set, setText } from "./dom.js";

let numbers = 0;

/** Open a dialog. Its button calls `submit()`, whose errors are shown; when closed, the dialog is removed. */
export function dialog(title, parts, word, submit) {
  const id = `dialog-${(numbers += 1)}`;
  const error = h("p", { class: "error", role: "alert" });
  const go = h("button", { type: "submit", class: "main" }, word);
  const form = h("form", { method: "dialog", novalidate: true }, h("h2", { id }, title), ...parts, error,
    h("footer", {}, h("button", { type: "button", onclick: () => element.close() }, "Cancel"), go));
  const element = h("dialog", { "aria-labelledby": id }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    set(go, { disabled: true });
    try {
      await submit();
      element.close();
    } catch (refused) {
      setText(error, refused.message);
    } finally {
      set(go, { disabled: false });
    }
  });
  const before = document.activeElement;
  element.addEventListener("close", () => {
    element.remove();
    before?.focus?.();
  });
  document.body.append(element);
  element.showModal();
  return { element, go, error };
}

/** Create a labelled field with a hint. */
export function field(label, control, hint) {
  const id = `field-${(numbers += 1)}`;
  set(control, { id, "aria-describedby": hint ? `${id}-hint` : null });
  return h("div", { class: "field" }, h("label", { for: id }, label), control, hint ? h("p", { class: "hint", id: `${id}-hint` }, hint) : null);
}
