// Acting by hand: what to do with a circuit, why, and for how long.

import { circuit, json } from "./api.js";
import { h, set } from "./dom.js";
import { dialog, field } from "./form.js";
import { notice } from "./notice.js";

const ACTIONS = [
  ["reset", "Reset", "as if new, and nothing on hold any more"],
  ["close", "Close", "out of any state, its evidence forgotten"],
  ["open", "Force open", "refuse everybody: callers hear the next provider"],
  ["disable", "Disable", "let everybody through, and record nothing"],
  ["monitor", "Monitor", "record, refuse nobody, and tell when it would have opened"],
];
const LASTING = new Set(["open", "disable", "monitor"]);

export async function reset(name) {
  try {
    await json(`${circuit(name)}/reset`, { method: "POST", body: { reason: "reset on the dashboard" } });
    notice(`${name} was reset.`);
  } catch (refused) {
    notice(`${name} was not reset: ${refused.message}`, { bad: true });
  }
}

export function act(name) {
  const choices = ACTIONS.map(([value, word, told]) => choice(value, word, told));
  const reason = h("input", { type: "text", name: "reason", maxlength: 500, autocomplete: "off", placeholder: "their maintenance" });
  const minutes = h("input", { type: "number", name: "minutes", min: 0, step: "any", inputmode: "decimal", placeholder: "until somebody undoes it" });
  const lasting = field("For how many minutes", minutes, "Empty: until somebody undoes it.");
  const chosen = () => form.element.querySelector("input[name=action]:checked").value;
  const shown = () => set(lasting, { hidden: !LASTING.has(chosen()) });
  const form = dialog(`Act on ${name}`, [
    h("fieldset", { onchange: shown }, h("legend", {}, "What to do"), ...choices),
    field("Why", reason, "Everybody sees it in the log."), lasting,
  ], "Do it", async () => {
    const body = { reason: reason.value };
    if (LASTING.has(chosen()) && minutes.value.trim()) body.duration = Number(minutes.value) * 60;
    const action = chosen();
    await json(`${circuit(name)}/${action}`, { method: "POST", body });
    notice(`${name}: ${ACTIONS.find(([value]) => value === action)[1].toLowerCase()}, done.`);
  });
  form.element.querySelector("input[value=open]").checked = true;
  form.element.querySelector("input[value=open]").focus();
}

function choice(value, word, told) {
  return h("label", { class: "choice" }, h("input", { type: "radio", name: "action", value }), h("span", {}, h("strong", {}, word), ` ${told}`));
}
