// Sign-in. Without an admin token the gateway answers requests from its own machine only; with one, requests that have it.

import { token } from "./api.js";
import { byId, h } from "./dom.js";
import { field } from "./dialog.js";

/** Show the sign-in form, or why access is denied. `again()` retries. */
export function showSignIn(refused, retry) {
  byId("main").hidden = true;
  const page = byId("sign-in");
  if (!page.hidden && page.dataset.code === refused.code) return;
  page.hidden = false;
  page.dataset.code = refused.code;
  page.replaceChildren(refused.status === 401 ? form(refused, retry) : remoteAccessHelp(refused, retry));
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

function form(refused, retry) {
  const secret = h("input", { type: "password", autocomplete: "current-password", required: true });
  const wrong = refused.code === "invalid_admin_token" ? h("p", { class: "error", role: "alert" }, "Invalid admin token.") : null;
  const form = h("form", { class: "sign-in" }, h("h1", {}, "Sign in"),
    field("Admin token", secret, "server.admin_token of the configuration. Kept in this tab until you sign out or close it."),
    wrong, h("button", { type: "submit", class: "main" }, "Sign in"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    token.set(secret.value.trim());
    byId("sign-in").dataset.code = "";
    retry();
  });
  if (wrong) token.forget();
  return form;
}

function remoteAccessHelp(refused, retry) {
  return h("div", { class: "sign-in" }, h("h1", {}, "Access denied"), h("p", {}, refused.message),
    h("button", { type: "button", class: "main", onclick: retry }, "Try again"));
}
