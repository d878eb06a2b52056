// What does CARAFE or DCNv3 cost me: every operator at a glance, then each workload's contenders with their intervals.
import { el, empty, gradually, plural } from "./dom.js";
import { machines, nameOf, panels, problems, subjects, titleOf } from "./data.js";
import { address } from "./state.js";
import { extent, scale } from "./scales.js";
import { ratioDomain, spark } from "./bars.js";
import { svg } from "./dom.js";
import { filtered } from "./filters.js";

const MODES = ["inference", "training"];
const WIDE = 112;

export const overview = {
  name: "Overview",
  filters: ["task", "workload", "dtype", "device", "machine", "runPath", "text"],
  draw() {
    const rows = filtered(this);
    if (!rows.length) return [troubles(), empty("No case matches these filters.")];
    const kept = new Set(rows.map((row) => row.panel));
    const contests = grouped(panels.filter((panel) => kept.has(panel)), (panel) => `${panel.run.place}/${panel.contest}`);
    const matching = new Set(rows);
    const words = rows.length < contests.flat().reduce((sum, panel) => sum + panel.rows.length, 0);
    return [
      troubles(),
      glance(rows),
      el("h2", {}, "Every workload"),
      el("p", { class: "note" }, intervals(rows)),
      gradually(contests, 12, (contest) => contestTable(contest, words ? matching : null), "workload"),
    ];
  },
};

function troubles() {
  if (!problems.length) return null;
  return el(
    "details",
    { class: "problems", open: problems.length < 4 },
    el("summary", {}, `${plural(problems.length, "remark")} on documents that are not shown, or not wholly`),
    el("ul", {}, problems.slice(0, 200).map(({ path, sentence }) => el("li", {}, el("code", {}, path), `: ${sentence}`))),
    problems.length > 200 ? el("p", {}, `and ${problems.length - 200} more`) : null,
  );
}

export function grouped(items, key) {
  const groups = new Map();
  for (const item of items) {
    const name = key(item);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(item);
  }
  return [...groups.values()];
}

function intervals(rows) {
  const kinds = [...new Set(rows.map((row) => row.interval).filter(Boolean))];
  return `Latency vs baseline: above 1x is slower. In brackets: ${kinds.join("; ") || "no interval"}. 1 MAC = 2 FLOPs. Memory is above inputs and parameters. Bars: inference, log scale, the line is 1x.`;
}

// One row for each operator of a task: its fastest implementation on each workload, and the range over workloads.
function glance(rows) {
  const sections = grouped(rows, (row) => [row.machine, row.task, row.device, row.dtype].join("\n"));
  const several = machines.length > 1;
  const heads = ["operator, fastest as", "", "inference latency", "training latency", "params", "MACs (inference)", "peak memory", "saved for backward", "max error, eps·Σ|terms|"];
  return el(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": "At a glance" },
    el(
      "table",
      { class: "glance" },
      el("caption", {}, "At a glance ", el("span", { class: "note" }, "each operator by its fastest implementation, from the least to the most over its workloads; latency against the baseline, the line is 1x; newest run of each; shaded: CARAFE and DCNv3")),
      el("thead", {}, el("tr", {}, heads.map((head, index) => el("th", { scope: "col", class: index > 1 ? "number" : undefined }, head || el("span", { class: "hidden" }, "inference latency, drawn"))))),
      sections.map((section) => {
        const [first] = section;
        const count = new Set(section.map((row) => `${row.panel.run.place}/${row.contest}`)).size;
        const title = [first.task, first.dtype, first.device, several ? first.machine : ""].filter(Boolean).join(", ");
        const link = address("compare", { task: first.task, dtype: first.dtype, device: first.device, machine: several ? first.machine : "" });
        const [low, high] = ratioDomain(section.filter((row) => row.mode === "inference").map((row) => ({ ...row, low: row.ratio, high: row.ratio })));
        const x = scale({ low, high, from: 6, to: WIDE - 6, log: true });
        const operators = grouped(section, (row) => row.operator).map((group) => summary(group));
        operators.sort((one, other) => (one.place ?? Infinity) - (other.place ?? Infinity));
        return el(
          "tbody",
          {},
          el("tr", { class: "section" }, el("th", { colspan: heads.length, scope: "rowgroup" }, el("a", { href: link }, title), el("span", { class: "note" }, ` against ${first.panel.baseline || "no baseline"}, ${plural(count, "workload")}`))),
          operators.map((one) => operatorRow(one, x)),
        );
      }),
    ),
  );
}

function summary(group) {
  const best = Object.fromEntries(
    MODES.map((mode) => [
      mode,
      grouped(group.filter((row) => row.mode === mode), (row) => row.panel.run.place + row.panel.id).map(fastest),
    ]),
  );
  const leading = best.inference.length ? best.inference : best.training;
  const middle = leading.map((row) => row.ratio).filter((ratio) => ratio !== null);
  return {
    operator: group[0].operator,
    best,
    leading,
    place: middle.length ? Math.exp(middle.reduce((sum, ratio) => sum + Math.log(ratio), 0) / middle.length) : null,
  };
}

function fastest(rows) {
  const timed = rows.filter((row) => row.ratio !== null);
  return timed.reduce((best, row) => (row.ratio < best.ratio ? row : best), timed[0] ?? rows[0]);
}

function operatorRow({ operator, best, leading }, x) {
  const names = grouped(leading, (row) => row.implementation).sort((one, other) => other.length - one.length).map(([row]) => row.implementation);
  const drawn = best.inference.filter((row) => row.ratio > 0);
  const ends = extent(drawn.map((row) => row.ratio));
  const picture = svg(
    "svg",
    { width: WIDE, height: 18, viewBox: `0 0 ${WIDE} 18`, class: "spark", "aria-hidden": "true" },
    svg("path", { d: `M${x(1)},0V18`, class: "one" }),
    ends ? svg("path", { d: `M${x(ends[0])},9H${x(ends[1])}`, class: "range" }) : null,
    drawn.map((row) => svg("circle", { cx: x(row.ratio), cy: 9, r: 3, class: row.base ? "dot baseline" : "dot" }, svg("title", {}, `${row.workload}: ${row.ratioText}`))),
  );
  const cells = [
    [best.inference, "ratio", "ratioText"],
    [best.training, "ratio", "ratioText"],
    [leading, "params", "paramsText"],
    [best.inference, "macs", "macsText"],
    [leading, "peak", "peakText"],
    [best.training, "saved", "savedText"],
  ];
  return el(
    "tr",
    { class: subjects.has(operator) ? "subject" : undefined },
    el("th", { scope: "row" }, el("a", { href: address("shapes", { contender: leading[0].contender, task: leading[0].task, dtype: leading[0].dtype, device: leading[0].device }) }, operator), el("span", { class: "note" }, ` ${names.join(", ")}`)),
    el("td", {}, picture),
    [...cells, [[worst([...best.inference, ...best.training])], "error", "errorText"]].map(([rows, value, text]) => el("td", { class: "number" }, range(rows, value, text))),
  );
}

// `1.45 – 6.58x` from the texts of the rows with the least and the largest value.
function range(rows, value, text) {
  const known = rows.filter((row) => row[value] !== null);
  if (!known.length) return rows.length ? el("span", { class: "missing" }, rows[0][text]) : el("span", { class: "missing" }, "not planned");
  const short = (row) => row[text].replace(/ \[.*/, "");
  const [low, high] = [Math.min, Math.max].map((pick) => pick(...known.map((row) => row[value])));
  const [first, last] = [low, high].map((end) => short(known.find((row) => row[value] === end)));
  if (first === last) return known.length === 1 && value === "ratio" ? known[0][text] : first;
  const unit = /[^\d.,]*$/.exec(last)[0];
  return `${first.endsWith(unit) ? first.slice(0, first.length - unit.length) : first} – ${last}`;
}

function contestTable(contest, matching) {
  const [first] = contest;
  const leading = contest.find((panel) => panel.mode === "inference") ?? first;
  const columns = contest.flatMap((panel) => [...new Set(panel.rows.map((row) => row.method))].map((method) => ({ panel, method })));
  const training = contest.find((panel) => panel.mode === "training");
  const every = contest.flatMap((panel) => panel.rows);
  const names = [...new Set(every.map((row) => row.contender))].filter((name) => !matching || every.some((row) => row.contender === name && (row.base || matching.has(row))));
  const domain = ratioDomain(leading.rows);
  const of = (panel, name, method) => panel?.rows.find((row) => row.contender === name && (method === undefined || row.method === method));
  const heads = ["contender", "", ...columns.map(({ panel, method }) => `${panel.mode} latency${columns.length > contest.length && method ? ` (${method})` : ""}`), "params", `MACs (${leading.mode})`, `peak memory (${leading.mode})`, ...(training ? ["saved for backward"] : []), "max error, eps·Σ|terms|", "outcome"];
  const link = address("compare", { task: first.task, workload: first.workload, dtype: first.dtype, device: first.device, run: "", runPath: first.current ? "" : first.run.path });
  return el(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": titleOf(first) },
    el(
      "table",
      { class: "contest" },
      el(
        "caption",
        {},
        el("a", { href: link }, `${first.task}: ${titleOf(first)}`),
        el("span", { class: "note" }, ` ${first.dims}${first.source ? ` · ${first.source}` : ""} · `, el("a", { href: address("runs", { runPath: first.run.path }) }, nameOf(first.run)), machines.length > 1 ? ` · ${first.run.machine}` : ""),
      ),
      el("thead", {}, el("tr", {}, heads.map((head, index) => el("th", { scope: "col", class: index > 1 && index < heads.length - 1 ? "number" : undefined }, head || el("span", { class: "hidden" }, `${leading.mode} latency, drawn`))))),
      el(
        "tbody",
        {},
        names.map((name) => {
          const shown = of(leading, name) ?? every.find((row) => row.contender === name);
          const amounts = [shown.paramsText, of(leading, name)?.macsText, of(leading, name)?.peakText, ...(training ? [of(training, name)?.savedText] : []), worstError(every, name)];
          return el(
            "tr",
            { class: subjects.has(shown.operator) ? "subject" : undefined },
            el("th", { scope: "row" }, el("a", { href: address("shapes", { contender: name, task: first.task, dtype: first.dtype, device: first.device }) }, el("code", {}, name))),
            el("td", {}, spark(of(leading, name) ?? { ratio: null }, domain)),
            columns.map(({ panel, method }) => {
              const row = of(panel, name, method);
              return el("td", { class: row?.ratio === null ? "number missing" : "number" }, row?.ratioText ?? "not planned");
            }),
            amounts.map((text) => el("td", { class: "number" }, text ?? "not planned")),
            outcome(every.filter((row) => row.contender === name)),
          );
        }),
      ),
    ),
  );
}

const worst = (rows) => rows.reduce((found, row) => ((row.error ?? -1) > (found.error ?? -1) ? row : found));
const worstError = (rows, name) => worst(rows.filter((row) => row.contender === name)).errorText;

function outcome(rows) {
  const kinds = [...new Set(rows.map((row) => row.verdict))];
  const words = kinds.length === 1 ? kinds[0] : rows.map((row) => `${row.mode}: ${row.verdict}`).join("; ");
  const said = [...new Set(rows.map((row) => row.message).filter(Boolean))].join("; ");
  return el("td", { class: rows.some((row) => row.outcome !== "ok") ? "bad" : undefined, title: said || undefined }, words);
}
