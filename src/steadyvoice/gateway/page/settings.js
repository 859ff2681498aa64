// A circuit's settings: those in force, and what a change would make of them, as the gateway says, before it is made.

import { circuit, json } from "./api.js";
import { h, set, tell } from "./dom.js";
import { dialog, field } from "./form.js";
import { shown } from "./log.js";
import { notice } from "./notice.js";

const PRESETS = ["adaptive", "default", "production", "development", "consecutive"];
const SOON = 250; // milliseconds of rest after which a change is looked at

export async function settings(name) {
  let now;
  try {
    now = await json(circuit(name));
  } catch (refused) {
    notice(`The settings of ${name} cannot be read: ${refused.message}`, { bad: true });
    return;
  }
  const inputs = Object.entries(now.config).map(([key, value]) => [key, value, input(value)]);
  const preset = h("select", {}, h("option", { value: "" }, "none"), ...PRESETS.map((each) => h("option", { value: each }, each)));
  const preview = h("div", { class: "preview", role: "status" });
  const wanted = () => change(preset.value, inputs);
  const fields = h("div", { class: "fields" }, ...inputs.map(([key, , control]) => field(key, control)));
  const form = dialog(`Settings of ${name}`, [
    h("p", { class: "aside" }, "In force now. A change holds from the next call on, keeps the evidence, and lasts until the configuration file is read again."),
    field("Preset to start from", preset, now.preset ? `In force is the preset “${now.preset}”.` : "In force is none of these."), fields, preview,
  ], "Apply", async () => apply(name, wanted()));
  const look = preview_of(name, wanted, preview, form);
  form.element.addEventListener("input", look);
  look();
}

/** Send settings; whoever did it can take it back. */
export async function apply(name, wanted) {
  const told = await json(circuit(name), { method: "PATCH", body: wanted });
  const before = Object.fromEntries(told.changed.map((key) => [key, told.before[key]]));
  const text = told.changed.map((key) => `${key} ${shown(told.before[key])} → ${shown(told.after[key])}`).join(", ");
  notice(`${name}: ${text || "nothing to change"}.`, told.changed.length ? { undo: () => undo(name, before) } : {});
}

/** Send back what was before. */
export async function undo(name, before) {
  try {
    await json(circuit(name), { method: "PATCH", body: before });
    notice(`${name}: undone.`);
    return true;
  } catch (refused) {
    notice(`It could not be undone: ${refused.message}`, { bad: true });
    return false;
  }
}

function preview_of(name, wanted, preview, form) {
  let rest;
  let asked = 0;
  const show = (parts, ready) => {
    preview.replaceChildren(...parts);
    set(form.go, { disabled: !ready });
  };
  const look = async () => {
    const number = (asked += 1);
    if (!Object.keys(wanted()).length) return show([h("p", { class: "aside" }, "Nothing changed yet.")], false);
    try {
      const told = await json(`${circuit(name)}?dry_run=yes`, { method: "PATCH", body: wanted() });
      if (number === asked) show([difference(told)], told.changed.length > 0);
    } catch (refused) {
      if (number === asked) show([h("p", { class: "error" }, refused.message)], false);
    }
    return undefined;
  };
  return () => {
    tell(form.error, "");
    set(form.go, { disabled: true });
    clearTimeout(rest);
    rest = setTimeout(look, SOON);
  };
}

function difference({ changed, before, after }) {
  if (!changed.length) return h("p", { class: "aside" }, "These are in force already.");
  return h("dl", { class: "difference" }, ...changed.map((key) => h("div", {}, h("dt", {}, key),
    h("dd", {}, h("del", {}, shown(before[key])), " → ", h("ins", {}, shown(after[key]))))));
}

function input(value) {
  const control = h("input", { type: "text", autocomplete: "off", spellcheck: "false", placeholder: "not set" });
  control.value = value === null ? "" : shown(value);
  control.dataset.was = control.value;
  return control;
}

/** What differs from what is in force. With a preset, the fields that were left alone are the preset's. */
function change(preset, inputs) {
  const wanted = preset ? { preset } : {};
  for (const [key, , control] of inputs) if (control.value.trim() !== control.dataset.was) wanted[key] = read(control.value.trim());
  return wanted;
}

function read(text) {
  if (text === "") return null;
  if (text.includes(",")) return text.split(",").map((each) => read(each.trim()));
  return Number.isNaN(Number(text)) ? text : Number(text);
}
