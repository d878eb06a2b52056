// The filter bar: a choice for each property that rows differ in, and a search; all of it in the address.
import { el, replace } from "./dom.js";
import { home, machines, rows, runs, subjectOf } from "./data.js";
import { natural } from "./table.js";
import { address, changed, go, state } from "./state.js";

const ANY = "*";
// As many machines are one click away each; more stand in a list.
const MOST_MACHINES = 6;
const LABELS = {
  task: "Task",
  workload: "Workload",
  contender: "Contender",
  dtype: "dtype",
  device: "Device",
  mode: "Mode",
  machine: "Machine",
  runPath: "Run",
  outcome: "Outcome",
};

function valuesOf(name) {
  const found = new Set(rows.map((row) => row[name]));
  if (name === "runPath")
    return runs
      .map((run) => run.path)
      .filter((path) => found.has(path))
      .reverse();
  return name === "task" ? [...found] : [...found].sort(natural.compare);
}
const options = {};
export const choices = (name) => (options[name] ??= valuesOf(name));

// What a filter is set to: the address, else what the view opens on, else anything.
export function chosen(view, name) {
  const set = state().params.get(name) ?? opening(view, name);
  return set === ANY ? "" : set;
}

// A view opens on the machine of the run that is asked for, or else of the newest one.
function opening(view, name) {
  if (view.defaults?.[name]) return view.defaults[name]() ?? "";
  return name === "machine" ? (runs.find((run) => run.path === state().params.get("runPath"))?.machine ?? home) : "";
}

// The words of a view's search, and whether texts hold all of them.
export const wordsOf = (view) => chosen(view, "text").toLowerCase().split(/\s+/).filter(Boolean);
export const has = (words, ...texts) => words.every((word) => texts.join(" ").toLowerCase().includes(word));

// The row that views open on: the first of what opbench is about, as far as the address leaves the choice.
export function openingRow() {
  const { params } = state();
  const set = ["contender", "task", "workload", "dtype", "device", "mode", "runPath"]
    .map((name) => [name, params.get(name)])
    .filter(([, value]) => value && value !== ANY);
  const machine = chosen({}, "machine");
  const current = !set.some(([name]) => name === "runPath");
  const fitting = rows.filter(
    (row) =>
      (!current || row.current) &&
      (!machine || row.machine === machine) &&
      set.every(([name, value]) => row[name] === value),
  );
  const about = fitting.filter((row) => subjectOf(row.operator));
  return about.find((row) => row.ratio !== null && !row.base) ?? about[0] ?? fitting[0];
}
export const openingTask = () => openingRow()?.task ?? choices("task")[0];

// The address that shows the same tomorrow, when another run is the newest: with what the view opened on, said.
export function pinned(view) {
  const { view: name, params } = state();
  const kept = new URLSearchParams(params);
  for (const filter of view.filters) {
    const value = chosen(view, filter);
    if (value || opening(view, filter)) kept.set(filter, value || ANY);
  }
  for (const [key, value] of Object.entries(view.shown ?? {})) if (value) kept.set(key, value);
  return address(name, kept);
}

// The rows that the filters leave. Without a chosen run: those that no later run of the machine measured again.
export function filtered(view, { except = [] } = {}) {
  const set = view.filters
    .filter((name) => name !== "text" && !except.includes(name))
    .map((name) => [name, chosen(view, name)])
    .filter(([, value]) => value);
  const words = wordsOf(view);
  const current = !set.some(([name]) => name === "runPath");
  return rows.filter(
    (row) =>
      (!current || row.current) &&
      set.every(([name, value]) => row[name] === value) &&
      words.every((word) => row.haystack.includes(word)),
  );
}

let shown = null;

export function drawFilters(view, form) {
  drawMachines(view);
  if (shown !== view) {
    shown = view;
    replace(
      form,
      view.filters.map((name) => field(view, name)),
      view.filters.length ? el("button", { type: "button", id: "reset", click: reset }, "Reset") : null,
    );
    form.hidden = !view.filters.length;
  }
  for (const name of view.filters) {
    const control = form.querySelector(`#filter-${name}`);
    if (!control) continue;
    const value = chosen(view, name);
    if (control.tagName === "SELECT") {
      const known = value === "" || choices(name).includes(value);
      control.querySelector("option[data-strange]")?.remove();
      if (!known) control.append(el("option", { value, "data-strange": true }, `${value} (not on this page)`));
      control.value = value || ANY;
    } else if (document.activeElement !== control) {
      control.value = value;
    }
  }
}

// The machines, one click away each. A run is of one machine, so that choosing another lets it go.
function drawMachines(view) {
  const box = document.getElementById("machines");
  const several = machines.length > 1 && machines.length <= MOST_MACHINES && view.filters.includes("machine");
  box.hidden = !several;
  if (!several) return;
  const current = chosen(view, "machine");
  const link = (value, name) =>
    el(
      "li",
      {},
      el(
        "a",
        {
          href: changed({ machine: value, runPath: "", on: "" }),
          "aria-current": (value === ANY ? "" : value) === current ? "true" : undefined,
        },
        name,
      ),
    );
  replace(
    box,
    [home, ...machines.filter((name) => name !== home)].map((name) => link(name, name)),
    link(ANY, "all machines"),
  );
}

function field(view, name) {
  const id = `filter-${name}`;
  if (name === "text") {
    const typed = (event) => go(changed({ text: event.target.value }), { quietly: true });
    return el(
      "label",
      { for: id },
      "Search",
      el("input", { id, type: "search", input: typed, autocomplete: "off", placeholder: "words" }),
    );
  }
  if (name === "machine" && machines.length <= MOST_MACHINES) return null;
  const known = choices(name);
  if (known.length < 2 && !(view.always ?? []).includes(name)) return null;
  const set = (event) =>
    go(changed({ [name]: event.target.value === ANY && !opening(view, name) ? "" : event.target.value }));
  const any = name === "runPath" ? "newest of each" : "all";
  const free = !(view.required ?? []).includes(name);
  return el(
    "label",
    { for: id },
    LABELS[name],
    el(
      "select",
      { id, change: set },
      free ? el("option", { value: ANY }, any) : null,
      known.map((value) => el("option", { value }, value || "none")),
    ),
  );
}

function reset() {
  go(`#${state().view}`);
  for (const input of document.querySelectorAll("#filters input")) input.value = "";
}
