// Asking the gateway. The admin token stays in this tab (sessionStorage): it survives a reload, no other tab or later
// visitor has it, and it travels in a header only, for addresses end up in logs and histories.

const KEY = "steadyvoice.admin_token";

/** Why the gateway did not do something, in its own words. */
export class Refused extends Error {
  constructor(status, error = {}) {
    super(error.message ?? `the gateway answered ${status}`);
    this.status = status;
    this.code = error.code;
    this.field = error.field;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

/** Ask, and get the answer as it begins. Throws Refused, or a TypeError when nobody is there. */
export async function ask(path, { method = "GET", body, headers = {}, signal } = {}) {
  const said = { ...headers };
  if (token.get()) said.authorization = `Bearer ${token.get()}`;
  if (body !== undefined) said["content-type"] = "application/json";
  const answer = await fetch(path, {
    method, headers: said, signal, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store",
  });
  if (!answer.ok) throw new Refused(answer.status, (await answer.json().catch(() => ({}))).error);
  return answer;
}

/** The same, for a JSON answer that comes soon or not at all. */
export async function json(path, options = {}) {
  const answer = await ask(path, { signal: AbortSignal.timeout(8000), ...options });
  return answer.json();
}

export const circuit = (name) => `/admin/circuits/${encodeURIComponent(name)}`;
