// Formatting of numbers, times and states.

export const STATES = {
  closed: "closed",
  open: "open",
  half_open: "half open",
  forced_open: "forced open",
  disabled: "disabled",
  monitoring: "monitoring",
};

/** Outcomes from best to worst, in which order charts stack them. */
export const OUTCOMES = ["spoken", "cached", "resumed", "substituted", "recorded", "muted", "failed", "interrupted"];

export const DESCRIPTIONS = {
  spoken: "first-choice provider",
  cached: "recording from the cache",
  resumed: "changed provider in the middle",
  substituted: "another provider",
  recorded: "the recorded message",
  muted: "silence with captions",
  failed: "error",
  interrupted: "client disconnected",
};

const SUCCESSFUL = new Set(["spoken", "cached", "interrupted"]);
export const isSuccess = (outcome) => SUCCESSFUL.has(outcome);

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 0.0095) return `${(value * 1000).toFixed(1)} ms`;
  if (value < 0.995) return `${Math.round(value * 1000)} ms`;
  if (value < 9.95) return `${value.toFixed(1)} s`;
  return span(value);
}

/** Duration in its two largest units. */
export function span(value) {
  const total = Math.round(value);
  if (total < 60) return `${total} s`;
  if (total < 3600) return `${Math.floor(total / 60)} min${total % 60 ? ` ${total % 60} s` : ""}`;
  if (total < 86400) return `${Math.floor(total / 3600)} h${pad(Math.floor((total % 3600) / 60), " min")}`;
  return `${Math.floor(total / 86400)} d${pad(Math.floor((total % 86400) / 3600), " h")}`;
}

/** Duration in its largest unit only. */
export const roundedSpan = (value) => span(value).split(" ").slice(0, 2).join(" ");

export function clock(iso) {
  return new Date(iso).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
}

export function percent(share) {
  if (share > 0 && share < 0.005) return "<1 %";
  return `${share < 1 ? Math.min(99, Math.round(share * 100)) : 100} %`;
}

export function count(value) {
  if (value < 10_000) return String(Math.round(value));
  return value < 1e6 ? `${Math.round(value / 1000)}k` : `${(value / 1e6).toFixed(1)}M`;
}

export function rate(value) {
  return `${value < 9.95 ? value.toFixed(1) : count(value)}/s`;
}

export const pluralize = (n, one, more = `${one}s`) => `${count(n)} ${n === 1 ? one : more}`;

export const capitalize = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** Add a full stop, unless the text is truncated. */
export const withFullStop = (text) => (text.endsWith("…") ? text : `${text.replace(/\.+$/, "")}.`);

export function joinNames(words) {
  if (words.length < 2) return words.join("");
  return `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

const pad = (n, unit) => (n ? ` ${n}${unit}` : "");
