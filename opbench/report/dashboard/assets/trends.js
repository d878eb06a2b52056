// How a case moved from run to run of one machine: levels, steps and spikes, and what changed around them.
import { el, empty } from "./dom.js";
import { machines, moments, quote, runs, series, shortCommit, when, withoutSubject } from "./data.js";
import { changed, go, state } from "./state.js";
import { chosen, has, wordsOf } from "./filters.js";
import { command } from "./copy.js";
import { dataTable, natural } from "./table.js";
import { QUANTITIES, timeline } from "./timeline.js";

export const trends = {
  name: "Trends",
  filters: ["task", "workload", "contender", "dtype", "device", "mode", "machine", "text"],
  draw(width) {
    if (!series.length) return oneRun();
    const words = wordsOf(this);
    const set = this.filters
      .filter((name) => name !== "text")
      .map((name) => [name, chosen(this, name)])
      .filter(([, value]) => value);
    const kept = series.filter((one) => set.every(([name, value]) => one[name] === value) && has(words, one.case));
    if (!kept.length) return nothing(this);
    const { params } = state();
    const steps = kept.flatMap((one) => one.steps.map((step) => ({ one, step, moment: one.moments[step.at] })));
    steps.sort((a, b) => b.one.at[b.step.at] - a.one.at[a.step.at] || size(b.step) - size(a.step));
    const shown = pick(kept, params, steps);
    this.shown = keyOf(shown);
    return [
      selector(kept, shown),
      timeline(shown, width),
      el("h2", {}, "Changes"),
      steps.length
        ? dataTable({ caption: "Steps, newest first", rows: steps, columns: stepColumns() })
        : empty(
            "No step was found in these series: a change has to last three runs of time, or be any difference of a count.",
          ),
      dataTable({
        caption: "The runs of this series",
        prefix: "points-",
        rows: shown.moments.map((moment, index) => ({ moment, index, shown })).reverse(),
        columns: pointColumns(),
      }),
    ];
  },
};

const about = (one) => withoutSubject(one.operator);

// What to do where nothing was measured twice.
function oneRun() {
  const suite = runs.at(-1).suite;
  return [
    empty(
      `A trend needs a case in two runs of one suite on one machine; this page holds ${moments.length === 1 ? "one run" : `${moments.length} runs that have no case in common like that`}. Measure again whenever the code changes, into the folder that this page is made of:`,
    ),
    command(`opbench run --suite ${quote(suite)} -o RESULTS_DIR/again\nopbench dashboard RESULTS_DIR -o SITE_DIR`),
  ];
}

function nothing(view) {
  const machine = chosen(view, "machine");
  const elsewhere = series.filter((one) => one.machine !== machine);
  return [
    empty("No case in two runs of one suite matches these filters."),
    machine && elsewhere.length
      ? el("p", {}, el("a", { href: changed({ machine: "*" }) }, `Trends of all machines (${elsewhere.length} series)`))
      : null,
  ];
}

const size = (step) => Math.abs(Math.log(step.ratio ?? Infinity));
const keyOf = (one) => ({
  case: one.case,
  suite: new Set(series.filter((other) => other.case === one.case).map((other) => other.suite)).size > 1 ? one.suite : "",
  quantity: one.quantity,
  on: machines.length > 1 ? one.machine : "",
  method: one.method,
});

function pick(kept, params, steps) {
  const wanted = kept.filter(
    (one) =>
      one.case === params.get("case") &&
      (!params.get("on") || one.machine === params.get("on")) &&
      (!params.get("suite") || one.suite === params.get("suite")),
  );
  const exact = wanted.find(
    (one) =>
      one.quantity === (params.get("quantity") ?? "ratio") &&
      (!params.get("method") || one.method === params.get("method")),
  );
  const longest = (of) => of.reduce((best, one) => (one.at.length > best.at.length ? one : best));
  const own = kept.filter((one) => about(one) === 0 && one.quantity === "ratio");
  const step = steps.find(({ one }) => one.quantity === "ratio" && (!own.length || about(one) === 0))?.one;
  return exact ?? wanted[0] ?? step ?? longest(own.length ? own : kept);
}

function selector(kept, shown) {
  const cases = [...new Set(kept.map((one) => one.case))].sort(natural.compare);
  const same = kept.filter(
    (one) => one.case === shown.case && one.machine === shown.machine && one.suite === shown.suite,
  );
  const every = kept.filter((one) => one.case === shown.case);
  const choose = (changes) => go(changed({ ...keyOf(shown), ...changes }));
  const control = (id, label, values, value, change, name = (text) => text) =>
    values.length > 1
      ? el(
          "label",
          { for: id },
          `${label} `,
          el(
            "select",
            { id, change: (event) => change(event.target.value) },
            values.map((one) => el("option", { value: one, selected: one === value }, name(one))),
          ),
        )
      : null;
  return el(
    "p",
    { class: "tools" },
    control("trend-case", "Case", cases, shown.case, (value) => choose({ case: value })),
    control(
      "trend-quantity",
      "Quantity",
      [...new Set(same.map((one) => one.quantity))],
      shown.quantity,
      (value) => choose({ quantity: value, method: "" }),
      (value) => QUANTITIES[value].label,
    ),
    control(
      "trend-method",
      "Timed by",
      [...new Set(same.filter((one) => one.quantity === shown.quantity).map((one) => one.method))],
      shown.method,
      (value) => choose({ method: value }),
    ),
    control("trend-suite", "Suite", [...new Set(every.map((one) => one.suite))], shown.suite, (value) =>
      choose({ suite: value, quantity: "", method: "" }),
    ),
    control("trend-on", "On", [...new Set(every.map((one) => one.machine))], shown.machine, (value) =>
      choose({ on: value }),
    ),
  );
}

function stepColumns() {
  const link = ({ one }) => el("a", { href: changed({ ...keyOf(one) }) }, el("code", {}, one.contender));
  return [
    {
      key: "contender",
      label: "contender",
      text: ({ one }) => one.contender,
      value: ({ one }) => one.contender,
      cell: link,
    },
    {
      key: "case",
      label: "panel",
      text: ({ one }) => one.case.slice(0, -one.contender.length - 1),
      value: ({ one }) => one.case,
    },
    {
      key: "quantity",
      label: "quantity",
      text: ({ one }) => `${QUANTITIES[one.quantity].label}${one.method ? ` (${one.method})` : ""}`,
      value: ({ one }) => one.quantity,
    },
    {
      key: "share",
      label: "change",
      text: ({ step }) => step.share,
      value: ({ step }) => step.ratio,
      number: true,
      kind: ({ step }) => (step.ratio > 1 ? "bad" : "good"),
    },
    { key: "levels", label: "level", text: ({ step }) => step.text, number: true },
    {
      key: "run",
      label: "first run",
      text: ({ moment }) => `${when(moment)}, ${shortCommit(moment)}`,
      value: ({ one, step }) => one.at[step.at],
    },
    { key: "with", label: "changed with it", text: ({ step }) => step.with || "no version" },
    ...(machines.length > 1
      ? [{ key: "machine", label: "machine", text: ({ one }) => one.machine, value: ({ one }) => one.machine }]
      : []),
  ];
}

function pointColumns() {
  return [
    { key: "when", label: "run", text: ({ moment }) => when(moment), value: ({ index }) => index },
    {
      key: "commit",
      label: "commit",
      text: ({ moment }) => shortCommit(moment),
      cell: ({ moment }) => el("code", {}, shortCommit(moment)),
    },
    {
      key: "value",
      label: "value",
      text: ({ shown, index }) => shown.texts[index],
      value: ({ shown, index }) => shown.value[index],
      number: true,
    },
    {
      key: "note",
      label: "",
      text: ({ shown, index }) =>
        shown.spikes.includes(index)
          ? "spike"
          : shown.undecided.includes(index)
            ? "spike, or the start of a step"
            : shown.steps.some((step) => step.at === index)
              ? "step"
              : "",
    },
    { key: "suite", label: "suite", text: ({ moment }) => moment.suite, value: ({ moment }) => moment.suite },
    { key: "changed", label: "versions changed", text: ({ moment }) => moment.changed.join(", ") },
  ];
}
