// Manual control of a circuit: the action, its reason and its duration.

import { circuit, json } from "./api.js";
import { h, set } from "./dom.js";
import { dialog, field } from "./dialog.js";
import { notify } from "./notifications.js";

const ACTIONS = [
  ["reset", "Reset", "empty the window, and release all holds"],
  ["close", "Close", "end any state, with an empty window"],
  ["open", "Force open", "refuse all calls: the next provider answers"],
  ["disable", "Disable", "admit all calls, and record none"],
  ["monitor", "Monitor", "record all calls, refuse none, and report when it would have opened"],
];
const TIMED = new Set(["open", "disable", "monitor"]);

export async function reset(name) {
  try {
    await json(`${circuit(name)}/reset`, { method: "POST", body: { reason: "reset from the dashboard" } });
    notify(`${name} was reset.`);
  } catch (error) {
    notify(`${name} was not reset: ${error.message}`, { failed: true });
  }
}

const EVERYWHERE = new Set(["reset", "open"]);

/** Ask for an action on a circuit; in a fleet, some reach all replicas. */
export function act(name, inFleet = false) {
  const choices = ACTIONS.map(([value, label, effect]) => choice(value, label, effect));
  const reason = h("input", { type: "text", name: "reason", maxlength: 500, autocomplete: "off", placeholder: "vendor maintenance" });
  const minutes = h("input", { type: "number", name: "minutes", min: 0, step: "any", inputmode: "decimal", placeholder: "until it is undone" });
  const durationField = field("Duration in minutes", minutes, "Empty: until it is undone.");
  const chosenAction = () => form.element.querySelector("input[name=action]:checked").value;
  const everywhere = h("input", { type: "checkbox", name: "everywhere" });
  const everywhereField = h("label", { class: "choice" }, everywhere, h("span", {}, "At all replicas of the fleet"));
  const showFields = () => {
    set(durationField, { hidden: !TIMED.has(chosenAction()) });
    set(everywhereField, { hidden: !inFleet || !EVERYWHERE.has(chosenAction()) });
  };
  const form = dialog(`Circuit of ${name}`, [
    h("fieldset", { onchange: showFields }, h("legend", {}, "Action"), ...choices),
    field("Reason", reason, "Shown in the event log."), durationField, everywhereField,
  ], "Apply", async () => {
    const body = { reason: reason.value };
    if (TIMED.has(chosenAction()) && minutes.value.trim()) body.duration = Number(minutes.value) * 60;
    const action = chosenAction();
    if (inFleet && everywhere.checked && EVERYWHERE.has(action)) body.everywhere = true;
    await json(`${circuit(name)}/${action}`, { method: "POST", body });
    notify(`${name}: ${ACTIONS.find(([value]) => value === action)[1].toLowerCase()}: done.`);
  });
  form.element.querySelector("input[value=open]").checked = true;
  showFields();
  form.element.querySelector("input[value=open]").focus();
}

function choice(value, label, effect) {
  return h("label", { class: "choice" }, h("input", { type: "radio", name: "action", value }), h("span", {}, h("strong", {}, label), ` ${effect}`));
}
