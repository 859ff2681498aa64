// Server-sent events of `/admin/events`, read with fetch: an EventSource cannot send the token in a header.
// https://html.spec.whatwg.org/multipage/server-sent-events.html

import { ask } from "./api.js";

const MIN_PAUSE = 500; // milliseconds before a reconnect
const MAX_PAUSE = 4000;
const SILENCE_LIMIT = 40_000; // milliseconds; the gateway sends a heartbeat every 15 seconds

let last = "0"; // id of the last event, so that a reconnect does not repeat events

/** Read events for ever, and reconnect after breaks. RecentCalls `onEvent(kind, data)` for each event. */
export async function follow(onEvent, { lost, found }) {
  let pause = MIN_PAUSE;
  for (;;) {
    try {
      for await (const event of stream(last)) {
        if (event === OPENED) found();
        else {
          last = event.id || last;
          pause = MIN_PAUSE;
          onEvent(event.kind, event.data);
        }
      }
      lost(null);
    } catch (error) {
      if (!lost(error)) return;
    }
    await new Promise((done) => setTimeout(done, pause));
    pause = Math.min(MAX_PAUSE, pause * 1.6);
  }
}

const OPENED = Symbol("opened");

async function* stream(last) {
  const stop = new AbortController();
  let watch;
  const restartSilenceTimer = () => {
    clearTimeout(watch);
    watch = setTimeout(() => stop.abort(new Error("no heartbeat")), SILENCE_LIMIT);
  };
  restartSilenceTimer();
  try {
    const answer = await ask("/admin/events", { headers: { "last-event-id": last }, signal: stop.signal });
    yield OPENED;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      restartSilenceTimer();
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const event = parsed(part);
        if (event) yield event;
      }
    }
  } finally {
    clearTimeout(watch);
    stop.abort();
  }
}

/** Parse one event; null for a comment. */
export function parsed(block) {
  const event = { kind: "message", data: "", id: "" };
  let any = false;
  for (const line of block.split("\n")) {
    const at = line.indexOf(":");
    if (at < 1) continue;
    const value = line.slice(at + 1).replace(/^ /, "");
    switch (line.slice(0, at)) {
      case "event": event.kind = value; break;
      case "id": event.id = value; break;
      case "data": event.data += value; any = true; break;
    }
  }
  return any ? { ...event, data: JSON.parse(event.data) } : null;
}
