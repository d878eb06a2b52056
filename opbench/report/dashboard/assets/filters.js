// The filter bar: a choice for each property that rows differ in, and a search; all of it in the address.
import { el, replace } from "./dom.js";
import { rows, runs } from "./data.js";
import { natural } from "./table.js";
import { changed, go, state } from "./state.js";

const ANY = "*";
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

// What a filter is set to: the address, else the view's own default, else anything.
export function chosen(view, name) {
  const set = state().params.get(name) ?? view.defaults?.[name]?.() ?? "";
  return set === ANY ? "" : set;
}

// The rows that the filters leave. Without a chosen run: those that no later run of the machine measured again.
export function filtered(view, { except = [] } = {}) {
  const set = view.filters
    .filter((name) => name !== "text" && !except.includes(name))
    .map((name) => [name, chosen(view, name)])
    .filter(([, value]) => value);
  const words = chosen(view, "text").toLowerCase().split(/\s+/).filter(Boolean);
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
  const known = choices(name);
  if (known.length < 2 && !(view.always ?? []).includes(name)) return null;
  const set = (event) =>
    go(changed({ [name]: event.target.value === ANY && !view.defaults?.[name] ? "" : event.target.value }));
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
