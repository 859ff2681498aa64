// Who may look. Without an admin token the gateway answers its own machine only; with one, whoever has it.

import { token } from "./api.js";
import { byId, h } from "./dom.js";
import { field } from "./form.js";

/** Ask for the token, or tell why nobody is let in; `again()` tries anew. */
export function closed(refused, again) {
  byId("main").hidden = true;
  const door = byId("door");
  if (!door.hidden && door.dataset.code === refused.code) return;
  door.hidden = false;
  door.dataset.code = refused.code;
  door.replaceChildren(refused.status === 401 ? form(refused, again) : barred(refused, again));
  door.querySelector("input, button").focus();
}

export function opened() {
  byId("door").hidden = true;
  byId("main").hidden = false;
  byId("sign-out").hidden = !token.get();
}

export function signOut() {
  token.forget();
  location.reload();
}

function form(refused, again) {
  const secret = h("input", { type: "password", autocomplete: "current-password", required: true });
  const wrong = refused.code === "invalid_admin_token" ? h("p", { class: "error", role: "alert" }, "That is not the admin token.") : null;
  const form = h("form", { class: "sign-in" }, h("h1", {}, "Sign in"),
    field("Admin token", secret, "server.admin_token of the configuration. It stays in this tab, until you sign out or close it."),
    wrong, h("button", { type: "submit", class: "main" }, "Sign in"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    token.set(secret.value.trim());
    byId("door").dataset.code = "";
    again();
  });
  if (wrong) token.forget();
  return form;
}

function barred(refused, again) {
  return h("div", { class: "sign-in" }, h("h1", {}, "Not from here"), h("p", {}, refused.message),
    h("button", { type: "button", class: "main", onclick: again }, "Try again"));
}
