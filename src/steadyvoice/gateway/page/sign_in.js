// Sign-in. Without an admin token the gateway answers requests from its own machine only; with one, requests that have it.

import { token } from "./api.js";
import { byId, h } from "./dom.js";
import { field } from "./dialog.js";

/** Show the sign-in form, or why access is denied. `again()` retries. */
export function showSignIn(refused, again) {
  byId("main").hidden = true;
  const page = byId("sign-in");
  if (!page.hidden && page.dataset.code === refused.code) return;
  page.hidden = false;
  page.dataset.code = refused.code;
  page.replaceChildren(refused.status === 401 ? form(refused, again) : barred(refused, again));
  page.querySelector("input, button").focus();
}

export function hideSignIn() {
  byId("sign-in").hidden = true;
  byId("main").hidden = false;
  byId("sign-out").hidden = !token.get();
}

export function signOut() {
  token.forget();
  location.reload();
}

function form(refused, again) {
  const secret = h("input", { type: "password", autocomplete: "current-password", required: true });
  const wrong = refused.code === "invalid_admin_token" ? h("p", { class: "error", role: "alert" }, "Invalid admin token.") : null;
  const form = h("form", { class: "sign-in" }, h("h1", {}, "Sign in"),
    field("Admin token", secret, "server.admin_token of the configuration. Kept in this tab until you sign out or close it."),
    wrong, h("button", { type: "submit", class: "main" }, "Sign in"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    token.set(secret.value.trim());
    byId("sign-in").dataset.code = "";
    again();
  });
  if (wrong) token.forget();
  return form;
}

function barred(refused, again) {
  return h("div", { class: "sign-in" }, h("h1", {}, "Access denied"), h("p", {}, refused.message),
    h("button", { type: "button", class: "main", onclick: again }, "Try again"));
}
