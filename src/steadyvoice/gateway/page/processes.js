// Processes that share the circuits: the workers of this gateway, and the replicas of its fleet.

import { h, reconcile, set, setText } from "./dom.js";
import { STATES, clock, joinNames, pluralize, span } from "./formatting.js";

const WORKER_COLUMNS = ["Worker", "State", "Process", "Connections", "Restarts", "Last end"];
const REPLICA_COLUMNS = ["Replica", "State", "Last record", "Circuits in another state", "Slots used"];

/** Whether other processes than the workers of this gateway share its circuits. */
export const hasFleet = ({ fleet, workers }) => Boolean(fleet) && (!workers || fleet.store !== "supervisor of the workers");

export class Processes {
  constructor(panel) {
    this.panel = panel;
    this.caption = h("p", { class: "caption" });
    this.warning = h("p", { class: "caption warning", hidden: true });
    this.workers = new Table("Workers", WORKER_COLUMNS);
    this.replicas = new Table("Replicas", REPLICA_COLUMNS);
    panel.append(this.caption, this.warning, this.workers.element, this.replicas.element);
  }

  show(overview) {
    const { fleet, workers } = overview;
    set(this.panel, { hidden: !fleet && !workers });
    if (!fleet && !workers) return;
    setText(this.caption, caption(overview));
    const warning = warnings(fleet);
    setText(this.warning, warning);
    set(this.warning, { hidden: !warning });
    this.workers.show(workers ? workers.workers.map(workerRow) : []);
    this.replicas.show(hasFleet(overview) ? replicaRows(fleet) : []);
  }
}

/** Table whose rows stay the same elements, by their first cell. */
class Table {
  constructor(title, columns) {
    this.body = h("tbody");
    this.rows = new Map();
    this.element = h("table", { class: "processes", hidden: true }, h("caption", { class: "visually-hidden" }, title),
      h("thead", {}, h("tr", {}, ...columns.map((word) => h("th", { scope: "col" }, word)))), this.body);
  }

  show(rows) {
    set(this.element, { hidden: !rows.length });
    const named = rows.map(([name, ...cells]) => {
      if (!this.rows.has(name)) this.rows.set(name, h("tr", {}, h("th", { scope: "row" }, name), ...cells.map(() => h("td"))));
      const row = this.rows.get(name);
      cells.forEach((text, index) => setText(row.children[index + 1], text));
      return row;
    });
    for (const [name, row] of this.rows) if (!named.includes(row)) this.rows.delete(name);
    reconcile(this.body, named);
  }
}

function caption(overview) {
  const { fleet, workers } = overview;
  const parts = [];
  if (workers) parts.push(`${pluralize(workers.workers.length, "worker")} on this port; this page was answered by worker ${workers.answered_by}.`);
  if (hasFleet(overview)) {
    const others = pluralize(Object.keys(fleet.replicas).length, "other replica");
    const how = fleet.state === "together" ? `together with ${others}` : `${fleet.state}: ${fleet.last_error ?? "no beat came back yet"}`;
    parts.push(`Fleet over ${fleet.store}: ${how}.`);
  }
  return parts.join(" ");
}

function warnings(fleet) {
  if (!fleet) return "";
  const circuits = Object.values(fleet.circuits);
  const outliers = circuits.filter((circuit) => circuit.is_outlier).map((circuit) => circuit.name);
  const parts = [];
  if (outliers.length) parts.push(`${joinNames(outliers)} fails only here: look at this machine's own network.`);
  if (fleet.different_settings.length) parts.push(`Settings of ${joinNames(fleet.different_settings)} differ at another replica: nothing of it is shared.`);
  return parts.join(" ");
}

function workerRow({ worker, pid, state, restarts, last_exit: reason, last_exit_at: at, restart_in: wait, connections }) {
  const shown = wait === null ? state : `${state} in ${span(wait)}`;
  return [String(worker), shown, pid === null ? "–" : String(pid), String(connections), String(restarts), reason ? `${clock(at)}: ${reason}` : "–"];
}

function replicaRows(fleet) {
  const own = [`${fleet.replica} (this one)`, fleet.state, "–", "–", slots(fleet, null)];
  return [own, ...Object.entries(fleet.replicas).map(([name, age]) =>
    [name, fleet.replica_states[name] || "together", `${age.toFixed(1)} s ago`, differing(fleet, name), slots(fleet, name)])];
}

/** Circuits of a replica in another state than here. */
function differing(fleet, name) {
  const found = Object.values(fleet.circuits).filter((circuit) => (circuit.states_elsewhere[name] ?? circuit.state) !== circuit.state);
  return found.map((circuit) => `${circuit.name}: ${STATES[circuit.states_elsewhere[name]] ?? circuit.states_elsewhere[name]}`).join(", ") || "–";
}

function slots(fleet, name) {
  const lent = Object.entries(fleet.slots ?? {}).map(([provider, own]) => [provider, name === null ? [own.block, own.used, own.queued] : own.elsewhere[name]]);
  const known = lent.filter(([, numbers]) => numbers);
  return known.map(([provider, [block, used, queued]]) => `${provider} ${used} of ${block}${queued ? `, ${queued} queued` : ""}`).join("; ") || "–";
}
