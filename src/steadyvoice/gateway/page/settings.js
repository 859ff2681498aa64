// Settings of a circuit: those in force, and a preview of changes, computed by the gateway before they are applied.

import { circuit, json } from "./api.js";
import { h, set, setText } from "./dom.js";
import { dialog, field } from "./dialog.js";
import { formatValue } from "./event_log.js";
import { notify } from "./notifications.js";

const PRESETS = ["adaptive", "default", "production", "development", "consecutive"];
const PREVIEW_DELAY = 250; // milliseconds without input, after which the preview is updated
const REPLAY_TIMEOUT = 40_000; // milliseconds

/** Show and change the settings of a circuit; in a fleet, of all replicas if that is asked for. */
export async function settings(name, inFleet = false) {
  let now;
  try {
    now = await json(circuit(name));
  } catch (refused) {
    notify(`Settings of ${name} not available: ${refused.message}`, { failed: true });
    return;
  }
  const inputs = Object.entries(now.config).map(([key, value]) => [key, value, input(value)]);
  const preset = h("select", {}, h("option", { value: "" }, "none"), ...PRESETS.map((each) => h("option", { value: each }, each)));
  const preview = h("div", { class: "preview", role: "status" });
  const requested = () => change(preset.value, inputs);
  const replay = replayOf(name, requested);
  const everywhere = h("input", { type: "checkbox", name: "everywhere" });
  const everywhereField = h("label", { class: "choice", hidden: !inFleet }, everywhere, h("span", {}, "At all replicas of the fleet, until they restart"));
  const fields = h("div", { class: "fields" }, ...inputs.map(([key, , control]) => field(key, control)));
  const form = dialog(`Settings of ${name}`, [
    h("p", { class: "aside" }, "Settings in force. Changes apply from the next call, keep the window, and last until the configuration file is reloaded."),
    field("Base preset", preset, now.preset ? `In force: preset “${now.preset}”.` : "In force: no preset."), fields, everywhereField, preview, replay.element,
  ], "Apply", async () => apply(name, requested(), inFleet && everywhere.checked));
  const showPreview = preview_of(name, requested, preview, form, replay.reset);
  form.element.addEventListener("input", showPreview);
  showPreview();
}

/** Apply settings, and offer to undo the change. */
export async function apply(name, requested, everywhere = false) {
  const result = await json(`${circuit(name)}${everywhere ? "?everywhere=yes" : ""}`, { method: "PATCH", body: requested });
  const before = Object.fromEntries(result.changed.map((key) => [key, result.before[key]]));
  const text = result.changed.map((key) => `${key} ${formatValue(result.before[key])} → ${formatValue(result.after[key])}`).join(", ");
  notify(`${name}: ${text || "nothing to change"}.`, result.changed.length ? { undo: () => undo(name, before, everywhere) } : {});
}

/** Restore former settings. */
export async function undo(name, before, everywhere = false) {
  try {
    await json(`${circuit(name)}${everywhere ? "?everywhere=yes" : ""}`, { method: "PATCH", body: before });
    notify(`${name}: undone.`);
    return true;
  } catch (refused) {
    notify(`Undo failed: ${refused.message}`, { failed: true });
    return false;
  }
}

/** Button and table: what the callers of the recent journal would have met with under the requested settings. */
function replayOf(name, requested) {
  let latest = 0;
  const result = h("div", { class: "replay", role: "status" });
  const button = h("button", { type: "button", disabled: true, onclick: () => show() }, "Replay recent calls");
  const show = async () => {
    const number = (latest += 1);
    set(button, { disabled: true });
    result.replaceChildren(h("p", { class: "aside" }, "Replaying…"));
    let parts;
    try {
      parts = replayed(await json(`${circuit(name)}/preview`, { method: "POST", body: requested(), signal: AbortSignal.timeout(REPLAY_TIMEOUT) }));
    } catch (refused) {
      parts = [h("p", { class: refused.code === "no_journal" ? "aside" : "error" }, `${refused.message[0].toUpperCase()}${refused.message.slice(1)}.`)];
    }
    if (number !== latest) return;
    result.replaceChildren(...parts);
    set(button, { disabled: false });
  };
  const reset = (ready) => {
    latest += 1;
    result.replaceChildren();
    set(button, { disabled: !ready });
  };
  return { element: h("div", {}, button, result), reset };
}

const ROWS = [
  ["Callers", (each) => each.callers],
  ["Silence or an error", (each) => each.failed],
  ["Another voice", (each) => each.another_voice],
  ["Waited over 2 s", (each) => each.waited],
  ["First audio, median", (each) => seconds(each.first_audio?.p50)],
  ["First audio, 95 %", (each) => seconds(each.first_audio?.p95)],
  ["Requests sent", (each) => each.attempts],
  ["Circuits opened", (each) => each.openings],
  ["Characters billed", (each) => Math.round(each.billed + each.perhaps_billed)],
];

const seconds = (value) => (value === undefined ? "–" : `${value.toFixed(2)} s`);

function replayed({ happened, before, after, fidelity, journal }) {
  const head = h("tr", {}, h("td", {}), ...["happened", "in force", "requested"].map((each) => h("th", { scope: "col" }, each)));
  const rows = ROWS.map(([title, value]) => h("tr", {}, h("th", { scope: "row" }, title),
    ...[happened, before, after].map((each) => h("td", {}, value(each).toLocaleString("en")))));
  const { modelled_attempts: modelled, evidence_within_10_s: near } = after.coverage;
  return [
    h("table", { class: "numbers" }, h("thead", {}, head), h("tbody", {}, ...rows)),
    h("p", { class: "aside" }, `Replay of the last ${journal.utterances.toLocaleString("en")} calls. Under the settings of that time it meets ${fidelity.utterances_met} of ${fidelity.utterances} of them. ${modelled ? `${modelled} requests were not made then; ${near} are taken from one within 10 s.` : "All requests were made then, too."}`),
  ];
}

function preview_of(name, requested, preview, form, changed) {
  let rest;
  let latest = 0;
  const show = (parts, ready) => {
    preview.replaceChildren(...parts);
    set(form.go, { disabled: !ready });
    changed(ready);
  };
  const showPreview = async () => {
    const number = (latest += 1);
    if (!Object.keys(requested()).length) return show([h("p", { class: "aside" }, "No changes.")], false);
    try {
      const result = await json(`${circuit(name)}?dry_run=yes`, { method: "PATCH", body: requested() });
      if (number === latest) show([difference(result)], result.changed.length > 0);
    } catch (refused) {
      if (number === latest) show([h("p", { class: "error" }, refused.message)], false);
    }
    return undefined;
  };
  return () => {
    setText(form.error, "");
    set(form.go, { disabled: true });
    changed(false);
    clearTimeout(rest);
    rest = setTimeout(showPreview, PREVIEW_DELAY);
  };
}

function difference({ changed, before, after }) {
  if (!changed.length) return h("p", { class: "aside" }, "These settings are in force already.");
  return h("dl", { class: "difference" }, ...changed.map((key) => h("div", {}, h("dt", {}, key),
    h("dd", {}, h("del", {}, formatValue(before[key])), " → ", h("ins", {}, formatValue(after[key]))))));
}

function input(value) {
  const control = h("input", { type: "text", autocomplete: "off", spellcheck: "false", placeholder: "not set" });
  control.value = value === null ? "" : formatValue(value);
  control.dataset.was = control.value;
  return control;
}

/** Return the changed fields. With a preset, unchanged fields take the preset's values. */
function change(preset, inputs) {
  const requested = preset ? { preset } : {};
  for (const [key, , control] of inputs) if (control.value.trim() !== control.dataset.was) requested[key] = read(control.value.trim());
  return requested;
}

function read(text) {
  if (text === "") return null;
  if (text.includes(",")) return text.split(",").map((each) => read(each.trim()));
  return Number.isNaN(Number(text)) ? text : Number(text);
}
