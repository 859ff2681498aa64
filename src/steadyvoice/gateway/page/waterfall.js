// Waterfall of a call: each attempt is a line with connecting, waiting for the first audio, and audio; a red end marks an error.

import { h, s } from "./dom.js";
import { pluralize, seconds } from "./formatting.js";

const LINE = 7;

/** Small waterfall for a row. */
export function waterfall(call) {
  const attempts = call.attempts.slice(0, 4);
  const total = length(call);
  const height = Math.max(1, attempts.length) * LINE;
  const lines = attempts.flatMap((attempt, index) => shapes(attempt, total, index * LINE));
  return s("svg", { class: "waterfall", viewBox: `0 0 200 ${height}`, height, preserveAspectRatio: "none", "aria-hidden": "true" }, ...lines);
}

/** Details of a call. */
export function account(call) {
  const total = length(call);
  return h("div", { class: "account" },
    h("p", {}, summary(call)),
    call.text ? h("blockquote", {}, call.text) : null,
    call.attempts.length ? h("ol", { class: "attempts" }, ...call.attempts.map((attempt) => line(attempt, total))) : null,
    call.spans.length ? audioSpans(call) : null,
    call.error ? h("p", { class: "error" }, `${call.error.kind}: ${call.error.message}`) : null,
    h("p", { class: "aside" }, `request ${call.request_id}`));
}

function summary(call) {
  const provider = call.provider ? `, first by ${call.provider}` : "";
  const first = call.first_audio === null ? "" : ` First audio after ${seconds(call.first_audio)}.`;
  return `${call.outcome}${provider}: ${pluralize(call.characters, "character")} as ${call.format}, ${call.api} API, in ${seconds(call.seconds)}.${first}`;
}

function line(attempt, total) {
  const drawing = s("svg", { class: "waterfall", viewBox: `0 0 200 ${LINE}`, height: LINE, preserveAspectRatio: "none", "aria-hidden": "true" },
    ...shapes(attempt, total, 0));
  return h("li", {}, h("span", { class: "provider-name" }, attempt.provider), drawing, h("span", { class: "description" }, description(attempt)));
}

function description(attempt) {
  if (attempt.refused) return `not attempted: ${attempt.error?.message ?? "refused"}`;
  const after = attempt.began > 0.005 ? `after ${seconds(attempt.began)}: ` : "";
  const first = attempt.first_audio === null ? "no audio" : `first audio in ${seconds(attempt.first_audio)}`;
  const accepted = attempt.answered === null ? "" : `, accepted in ${seconds(attempt.answered)}`;
  const hedge = attempt.hedge ? " (hedge)" : "";
  const held = attempt.held_back > 0.005 ? `, held back ${seconds(attempt.held_back)} until complete words had arrived` : "";
  const audio = attempt.audio ? `, ${seconds(attempt.audio)} of audio` : "";
  const billed = attempt.bill?.characters ? `, ${Math.round(attempt.bill.characters)} characters ${attempt.bill.charge ?? "billed"}` : "";
  const failed = attempt.error ? `; then ${attempt.error.kind}: ${attempt.error.message}` : "";
  return `${after}${first}${hedge}${accepted}${held}, ${seconds(attempt.waited)} in total${audio}${billed}${failed}`;
}

/** Audio by provider, and the joins between them. */
function audioSpans(call) {
  const total = call.spans.at(-1).stop || 1;
  const [filling, words] = call.outcome === "recorded" ? ["recorded", "recorded message"] : ["muted", "silence"];
  const parts = call.spans.map((span, index) =>
    s("rect", { class: span.provider === null ? `fill ${filling}` : `fill voice-${index % 2}`, x: (200 * span.start) / total, width: Math.max(0.5, (200 * (span.stop - span.start)) / total), height: LINE }));
  const seams = call.spans.slice(1).map((span) => s("path", { class: "seam", d: `M${(200 * span.start) / total} 0v${LINE}` }));
  const text = call.spans.map((span) => `${span.provider ?? words} ${seconds(span.start)}–${seconds(span.stop)}`).join(", ");
  return h("div", { class: "spans" }, h("span", { class: "provider-name" }, "audio"),
    s("svg", { class: "waterfall", viewBox: `0 0 200 ${LINE}`, height: LINE, preserveAspectRatio: "none", "aria-hidden": "true" }, ...parts, ...seams),
    h("span", { class: "description" }, text));
}

function shapes(attempt, total, y) {
  const at = (time) => Math.min(200, (200 * time) / total);
  const [begin, end] = [at(attempt.began), at(attempt.began + attempt.waited)];
  if (attempt.refused) return [s("path", { class: "fill refused", d: `M${begin} ${y + 1}h2v5h-2z` })];
  const first = attempt.first_audio === null ? end : at(attempt.began + attempt.first_audio);
  const accepted = Math.min(first, attempt.answered === null ? first : at(attempt.began + attempt.answered));
  const parts = [
    s("rect", { class: "connecting", x: begin, y: y + 3, width: Math.max(0.8, accepted - begin), height: 1 }),
    s("rect", { class: "waiting", x: accepted, y: y + 2, width: Math.max(0, first - accepted), height: 3 }),
  ];
  if (end > first) parts.push(s("rect", { class: "audio-received", x: first, y: y + 1, width: end - first, height: 5 }));
  if (attempt.error) parts.push(s("rect", { class: "fill failed", x: Math.min(198, end), y, width: 2, height: LINE }));
  return parts;
}

const length = (call) =>
  Math.max(call.seconds, ...call.attempts.map((attempt) => attempt.began + attempt.waited), 0.001);
