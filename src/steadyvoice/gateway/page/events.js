// `/admin/events` read by hand: an EventSource could not send the token in a header.
// https://html.spec.whatwg.org/multipage/server-sent-events.html

import { ask } from "./api.js";

const SOONEST = 500; // milliseconds until the next try
const LATEST = 4000;
const SILENCE = 40_000; // the gateway says something every 15 seconds, if only that it lives

let last = "0"; // the number of the last event: whoever is let in again does not hear everything twice

/** Read for ever; come back after a break, and go on where it stopped. `told(kind, data)` for each event. */
export async function follow(told, { lost, found }) {
  let pause = SOONEST;
  for (;;) {
    try {
      for await (const event of stream(last)) {
        if (event === OPENED) found();
        else {
          last = event.id || last;
          pause = SOONEST;
          told(event.kind, event.data);
        }
      }
      lost(null);
    } catch (error) {
      if (!lost(error)) return;
    }
    await new Promise((done) => setTimeout(done, pause));
    pause = Math.min(LATEST, pause * 1.6);
  }
}

const OPENED = Symbol("opened");

async function* stream(last) {
  const stop = new AbortController();
  let watch;
  const alive = () => {
    clearTimeout(watch);
    watch = setTimeout(() => stop.abort(new Error("nothing was heard from it")), SILENCE);
  };
  alive();
  try {
    const answer = await ask("/admin/events", { headers: { "last-event-id": last }, signal: stop.signal });
    yield OPENED;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      alive();
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

/** One event; null for a comment. */
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
