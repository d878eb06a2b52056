// How a case moved from run to run of one machine: levels, steps and spikes, and what changed around them.
import { el, empty, svg } from "./dom.js";
import { machines, moments, series, shortCommit, when } from "./data.js";
import { changed, go, state } from "./state.js";
import { chosen } from "./filters.js";
import { frame } from "./plots.js";
import { mark } from "./scales.js";
import { dataTable, natural } from "./table.js";
import { shorten } from "./dom.js";

export const QUANTITIES = {
  ratio: { label: "latency against the baseline", unit: "x", log: true },
  seconds: { label: "median latency", unit: "s", log: true },
  params: { label: "parameters", unit: "" },
  macs: { label: "MACs (1 MAC = 2 FLOPs)", unit: "" },
  peak_bytes: { label: "peak memory", unit: "B" },
  saved_bytes: { label: "memory saved for backward", unit: "B" },
};

export const trends = {
  name: "Trends",
  filters: ["task", "workload", "contender", "dtype", "device", "mode", "machine", "text"],
  draw(width) {
    if (!series.length) return [empty(`A trend needs a case in two runs of one machine; this page holds ${moments.length === 1 ? "one run" : `${moments.length} runs that have no case in common on one machine`}.`)];
    const words = chosen(this, "text").toLowerCase().split(/\s+/).filter(Boolean);
    const set = this.filters.filter((name) => name !== "text").map((name) => [name, chosen(this, name)]).filter(([, value]) => value);
    const kept = series.filter((one) => set.every(([name, value]) => one[name] === value) && words.every((word) => one.case.toLowerCase().includes(word)));
    if (!kept.length) return [empty("No case in two runs matches these filters.")];
    const { params } = state();
    const steps = kept.flatMap((one) => one.steps.map((step) => ({ one, step, moment: one.moments[step.at] })));
    steps.sort((a, b) => b.one.at[b.step.at] - a.one.at[a.step.at] || size(b.step) - size(a.step));
    const shown = pick(kept, params, steps);
    return [
      selector(kept, shown),
      timeline(shown, width),
      el("h2", {}, "Changes"),
      steps.length
        ? dataTable({ caption: "Steps, newest first", rows: steps, columns: stepColumns() })
        : empty("No step was found in these series: a change has to last three runs of time, or be any difference of a count."),
      dataTable({ caption: "The runs of this series", prefix: "points-", rows: shown.moments.map((moment, index) => ({ moment, index, shown })).reverse(), columns: pointColumns() }),
    ];
  },
};

const size = (step) => Math.abs(Math.log(step.ratio ?? Infinity));
const keyOf = (one) => ({ case: one.case, quantity: one.quantity, on: machines.length > 1 ? one.machine : "", method: one.method });

function pick(kept, params, steps) {
  const wanted = kept.filter((one) => one.case === params.get("case") && (!params.get("on") || one.machine === params.get("on")));
  const exact = wanted.find((one) => one.quantity === (params.get("quantity") ?? "ratio") && (!params.get("method") || one.method === params.get("method")));
  const longest = () => kept.reduce((best, one) => (one.at.length > best.at.length ? one : best));
  return exact ?? wanted[0] ?? steps.find(({ one }) => one.quantity === "ratio")?.one ?? longest();
}

function selector(kept, shown) {
  const cases = [...new Set(kept.map((one) => one.case))].sort(natural.compare);
  const same = kept.filter((one) => one.case === shown.case && one.machine === shown.machine);
  const every = kept.filter((one) => one.case === shown.case);
  const choose = (changes) => go(changed({ ...keyOf(shown), ...changes }));
  const control = (id, label, values, value, change, name = (text) => text) =>
    values.length > 1
      ? el("label", { for: id }, `${label} `, el("select", { id, change: (event) => change(event.target.value) }, values.map((one) => el("option", { value: one, selected: one === value }, name(one)))))
      : null;
  return el(
    "p",
    { class: "tools" },
    control("trend-case", "Case", cases, shown.case, (value) => choose({ case: value })),
    control("trend-quantity", "Quantity", [...new Set(same.map((one) => one.quantity))], shown.quantity, (value) => choose({ quantity: value, method: "" }), (value) => QUANTITIES[value].label),
    control("trend-method", "Timed by", [...new Set(same.filter((one) => one.quantity === shown.quantity).map((one) => one.method))], shown.method, (value) => choose({ method: value })),
    control("trend-on", "On", [...new Set(every.map((one) => one.machine))], shown.machine, (value) => choose({ on: value })),
  );
}

function timeline(one, width) {
  const of = QUANTITIES[one.quantity];
  const xs = one.at.map((_, index) => index);
  const values = [...one.value, ...one.low, ...one.high].filter((value) => value !== null);
  const spread = Math.max(...values) / Math.min(...values);
  const log = of.log && Math.min(...values) > 0 && spread > 1.5;
  const known = xs.filter((x) => one.value[x] !== null);
  const facts = [one.machine, one.method, one.quantity === "ratio" ? `against ${one.baseline}` : "", one.redefined ? `${one.redefined} older runs of another definition left out` : ""];
  return el(
    "div",
    {},
    frame(
      {
        title: `${one.case}: ${of.label}`,
        note: facts.filter(Boolean).join(" · "),
        width,
        height: 320,
        label: one.moments.map((moment, index) => `${when(moment)}: ${one.texts[index]}`).join("; "),
        x: { label: "runs, oldest first: commit", values: [...xs, -0.5, xs.length - 0.5], tight: true, ticks: xs, name: (index) => shortCommit(one.moments[index]) },
        y: { label: of.label, values, unit: of.unit, log, air: 1.08 },
      },
      (px, py, { top, bottom, left, right }) => [
        xs.filter((x) => x && changesBetween(one, x).length).map((x) => marker(px(x - 0.5), top, bottom, left, changesBetween(one, x))),
        levels(one, xs).map(({ from, to, level }) => (level === null ? null : svg("path", { d: `M${px(from - 0.4)},${py(level)}H${px(to + 0.4)}`, class: "level" }))),
        one.low.length
          ? svg("path", { d: `M${known.map((x) => `${px(x)},${py(one.high[x] ?? one.value[x])}`).join("L")}L${[...known].reverse().map((x) => `${px(x)},${py(one.low[x] ?? one.value[x])}`).join("L")}Z`, class: "band" })
          : null,
        svg("path", { d: `M${known.map((x) => `${px(x)},${py(one.value[x])}`).join("L")}`, class: "line s0" }),
        one.steps.map((step) => [
          svg("path", { d: `M${px(step.at)},${top}V${bottom}`, class: step.ratio > 1 ? "step worse" : "step better" }, svg("title", {}, `${step.share}: ${step.text}`)),
          svg("text", { x: px(step.at) + (px(step.at) > right - 90 ? -6 : 6), y: top + 12, class: "step-text", "text-anchor": px(step.at) > right - 90 ? "end" : "start" }, `${step.ratio > 1 ? "▲" : "▼"} ${step.share}`),
        ]),
        known.map((x) => {
          const spike = one.spikes.includes(x) || one.undecided.includes(x);
          return svg("g", {}, spike ? svg("circle", { cx: px(x), cy: py(one.value[x]), r: 9, class: "ring" }) : null, svg("path", mark(0, px(x), py(one.value[x]), known.length > 80 ? 2 : 4)), svg("title", {}, said(one, x)));
        }),
        xs.filter((x) => one.value[x] === null).map((x) => svg("text", { x: px(x), y: bottom - 4, class: "bad-mark", "text-anchor": "middle" }, "✕", svg("title", {}, said(one, x)))),
      ],
    ),
    el("p", { class: "note" }, `${one.low.length ? `Band: ${one.quantity === "ratio" ? "95 % interval of each run" : "quartiles of each run's samples"}. ` : ""}Vertical line: a step that lasted at least three runs, with its size; short lines: the level between steps. Ring: a spike, or an end that may yet prove a step. ✕: the run has no figure. Dotted line: versions changed, as its label says.`),
  );
}

const said = (one, x) => `${when(one.moments[x])}, ${shortCommit(one.moments[x])}: ${one.texts[x]}${one.spikes.includes(x) ? " (spike)" : one.undecided.includes(x) ? " (spike, or the start of a step)" : ""}`;

// Versions that changed at any run of the machine after the point before and up to this one.
function changesBetween(one, x) {
  const found = [];
  for (let at = one.at[x - 1] + 1; at <= one.at[x]; at += 1) if (moments[at].machine === one.machine) found.push(...moments[at].changed);
  return [...new Set(found)];
}

function marker(x, top, bottom, left, changes) {
  const label = changes.length > 1 ? `${changes[0]} and ${changes.length - 1} more` : changes[0];
  const end = x > left + 160;
  return svg("g", { class: "marker" }, svg("title", {}, changes.join(", ")), svg("path", { d: `M${x},${top}V${bottom}` }), svg("text", { x: x + (end ? -5 : 5), y: bottom - 6, "text-anchor": end ? "end" : "start" }, shorten(label, 150)));
}

function levels(one, xs) {
  if (!one.steps.length) return [];
  const cuts = [0, ...one.steps.map((step) => step.at), xs.length];
  const values = [one.steps[0].before, ...one.steps.map((step) => step.after)];
  return values.map((level, index) => ({ from: cuts[index], to: cuts[index + 1] - 1, level }));
}

function stepColumns() {
  const link = ({ one }) => el("a", { href: changed({ ...keyOf(one) }) }, el("code", {}, one.contender));
  return [
    { key: "contender", label: "contender", text: ({ one }) => one.contender, value: ({ one }) => one.contender, cell: link },
    { key: "case", label: "panel", text: ({ one }) => one.case.slice(0, -one.contender.length - 1), value: ({ one }) => one.case },
    { key: "quantity", label: "quantity", text: ({ one }) => `${QUANTITIES[one.quantity].label}${one.method ? ` (${one.method})` : ""}`, value: ({ one }) => one.quantity },
    { key: "share", label: "change", text: ({ step }) => step.share, value: ({ step }) => step.ratio, number: true, kind: ({ step }) => (step.ratio > 1 ? "bad" : "good") },
    { key: "levels", label: "level", text: ({ step }) => step.text, number: true },
    { key: "run", label: "first run", text: ({ moment }) => `${when(moment)}, ${shortCommit(moment)}`, value: ({ one, step }) => one.at[step.at] },
    { key: "with", label: "changed with it", text: ({ step }) => step.with || "no version" },
    ...(machines.length > 1 ? [{ key: "machine", label: "machine", text: ({ one }) => one.machine, value: ({ one }) => one.machine }] : []),
  ];
}

function pointColumns() {
  return [
    { key: "when", label: "run", text: ({ moment }) => when(moment), value: ({ index }) => index },
    { key: "commit", label: "commit", text: ({ moment }) => shortCommit(moment), cell: ({ moment }) => el("code", {}, shortCommit(moment)) },
    { key: "value", label: "value", text: ({ shown, index }) => shown.texts[index], value: ({ shown, index }) => shown.value[index], number: true },
    { key: "note", label: "", text: ({ shown, index }) => (shown.spikes.includes(index) ? "spike" : shown.undecided.includes(index) ? "spike, or the start of a step" : shown.steps.some((step) => step.at === index) ? "step" : "") },
    { key: "suite", label: "suite", text: ({ moment }) => moment.suite, value: ({ moment }) => moment.suite },
    { key: "changed", label: "versions changed", text: ({ moment }) => moment.changed.join(", ") },
  ];
}
