// Requests to the admin API. The admin token is kept in sessionStorage: it survives a reload, and no other tab or later
// visitor has it. It is sent in a header only, because URLs end up in logs and histories.

const KEY = "steadyvoice.admin_token";

/** Error response of the admin API. */
export class ApiError extends Error {
  constructor(status, error = {}) {
    super(error.message ?? `HTTP ${status}`);
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

/** Send a request, and return the response as it begins. Throws ApiError, or TypeError when the gateway is not reachable. */
export async function ask(path, { method = "GET", body, headers = {}, signal } = {}) {
  const sent = { ...headers };
  if (token.get()) sent.authorization = `Bearer ${token.get()}`;
  if (body !== undefined) sent["content-type"] = "application/json";
  const answer = await fetch(path, {
    method, headers: sent, signal, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store",
  });
  if (!answer.ok) throw new ApiError(answer.status, (await answer.json().catch(() => ({}))).error);
  return answer;
}

/** Send a request, and return its JSON response. Throws after 8 seconds. */
export async function json(path, options = {}) {
  const answer = await ask(path, { signal: AbortSignal.timeout(8000), ...options });
  return answer.json();
}

export const circuit = (name) => `/admin/circuits/${encodeURIComponent(name)}`;
