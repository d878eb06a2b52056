// Every operator of a task at a glance: what it costs at the least and at the most over the workloads.
import { anchorOf, el, here, plural, svg } from "./dom.js";
import { away, counted, grouped, machines, styles, subjectOf, subjects } from "./data.js";
import { address, state } from "./state.js";
import { copyButtons, linesOf } from "./copy.js";
import { extent, mark, scale } from "./scales.js";
import { ratioDomain } from "./bars.js";
import { COLUMNS, head, sorted } from "./table.js";

const MODES = ["inference", "training"];
const WIDE = 92;

// One row for each operator of a task: its fastest implementation on each workload, and the range over workloads.
export function glance(rows) {
  const sections = grouped(rows, (row) => [row.machine, row.task, row.device, row.dtype, row.executed].join("\n"));
  const several = machines.length > 1;
  const shown = known(rows);
  const columns = glanceColumns(shown);
  const [key, direction] = (state().params.get("glance-sort") ?? "").split(" ");
  const by = columns.find((column) => column.key === key && column.value);
  const anchor = anchorOf("At a glance");
  return el(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": "At a glance", id: `at-${anchor}` },
    el(
      "table",
      { class: "glance" },
      el(
        "caption",
        {},
        el(
          "span",
          { class: "told" },
          "At a glance",
          here(anchor, "At a glance"),
          copyButtons(linesOf),
          el(
            "span",
            { class: "note below" },
            `each operator by its fastest implementation, from the least to the most over its workloads; latency against the baseline: below 1x is faster, the line is 1x; newest run of each${subjects.length ? `; shaded: ${list(subjects)}` : ""}`,
          ),
        ),
      ),
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          columns.map((column) => head(column, by === column ? direction || "asc" : "", "glance-sort")),
        ),
      ),
      sections.map((section) => {
        const [first] = section;
        const count = new Set(section.map((row) => `${row.panel.run.place}/${row.contest}`)).size;
        const title = [first.task, first.dtype, first.device, first.executed, several ? first.machine : ""]
          .filter(Boolean)
          .join(", ");
        const link = address("compare", {
          task: first.task,
          dtype: first.dtype,
          device: first.device,
          machine: away(first.machine),
        });
        const [low, high] = ratioDomain(
          section.filter((row) => row.mode === "inference").map(({ ratio }) => ({ ratio, low: ratio, high: ratio })),
        );
        const x = scale({ low, high, from: 6, to: WIDE - 6, log: true });
        const operators = grouped(section, (row) => row.operator).map((group) => summary(group));
        operators.sort((one, other) => (one.place ?? Infinity) - (other.place ?? Infinity));
        const ordered = by ? sorted(operators, by.value, direction === "desc" ? -1 : 1) : operators;
        return el(
          "tbody",
          {},
          el(
            "tr",
            { class: "section" },
            el(
              "th",
              { colspan: columns.length, scope: "rowgroup" },
              el(
                "span",
                { class: "told" },
                el("a", { href: link }, title),
                el(
                  "span",
                  { class: "note" },
                  ` against ${first.panel.baseline || "no baseline"}, ${plural(count, "workload")}`,
                ),
              ),
            ),
          ),
          ordered.map((one) => operatorRow(one, x, shown)),
        );
      }),
    ),
  );
}

const list = (names) => names.join(", ").replace(/, ([^,]*)$/, " and $1");

// What heads the columns; their `value` is the least of an operator, and what a column is sorted by.
function glanceColumns(shown) {
  const least = (rows, key) => extent(rows.map((row) => row[key]))?.[0] ?? null;
  return [
    { key: "operator", label: "operator, fastest as", value: (one) => one.operator },
    { key: "drawn", label: el("span", { class: "hidden" }, "inference latency, drawn") },
    { key: "inference", label: "inference latency", number: true, value: (one) => least(one.best.inference, "ratio") },
    { key: "training", label: "training latency", number: true, value: (one) => least(one.best.training, "ratio") },
    ...shown.map((of) => ({
      key: of.key,
      label: of.heading.replace("{mode}", "inference"),
      number: true,
      value: (one) => least(telling(of, one), of.key),
    })),
    {
      key: "error",
      label: COLUMNS.error.label,
      number: true,
      value: (one) => worst([...one.best.inference, ...one.best.training]).error,
    },
  ];
}

// The quantities that any of the rows has: a column of "not measured" says nothing.
const known = (rows) => counted.filter(({ key }) => rows.some((row) => row[key] !== null));

// Which of an operator's rows tell a quantity.
const telling = ({ heading, training }, { best, leading }) =>
  training ? best.training : heading.includes("{mode}") ? best.inference : leading;

function summary(group) {
  const best = Object.fromEntries(
    MODES.map((mode) => [
      mode,
      grouped(
        group.filter((row) => row.mode === mode),
        (row) => row.panel.run.place + row.panel.id,
      ).map(fastest),
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

function operatorRow(one, x, shown) {
  const { operator, best, leading } = one;
  const style = { ...styles([leading[0].contender]).get(leading[0].contender), variant: 0 };
  const names = grouped(leading, (row) => row.implementation)
    .sort((one, other) => other.length - one.length)
    .map(([row]) => row.implementation);
  const drawn = best.inference.filter((row) => row.ratio > 0);
  const ends = extent(drawn.map((row) => row.ratio));
  const picture = svg(
    "svg",
    { width: WIDE, height: 18, viewBox: `0 0 ${WIDE} 18`, class: "spark", "aria-hidden": "true" },
    svg("path", { d: `M${x(1)},0V18`, class: "one" }),
    ends ? svg("path", { d: `M${x(ends[0])},9H${x(ends[1])}`, class: `range c${style.colour % 7}` }) : null,
    apart(drawn, x).map((row) =>
      svg("path", mark(style, x(row.ratio), 9, 3.4), svg("title", {}, `${row.workload}: ${row.ratioText}`)),
    ),
  );
  const cells = [
    [best.inference, "ratio", "ratioText"],
    [best.training, "ratio", "ratioText"],
    ...shown.map((of) => [telling(of, one), of.key, `${of.key}Text`]),
  ];
  return el(
    "tr",
    { class: subjectOf(operator) ? "subject" : undefined },
    el(
      "th",
      { scope: "row" },
      el(
        "a",
        {
          href: address("shapes", {
            contender: leading[0].contender,
            task: leading[0].task,
            dtype: leading[0].dtype,
            device: leading[0].device,
            machine: away(leading[0].machine),
          }),
        },
        operator,
      ),
      el("span", { class: "note" }, ` ${names.join(", ")}`),
    ),
    el("td", {}, picture),
    [...cells, [[worst([...best.inference, ...best.training])], "error", "errorText"]].map(([rows, value, text]) =>
      el("td", { class: "number" }, range(rows, value, text)),
    ),
  );
}

// The rows whose marks don't lie on each other: of thousands of workloads most do.
function apart(rows, x) {
  const found = new Map();
  for (const row of rows) {
    const place = Math.round(2 * x(row.ratio));
    if (!found.has(place)) found.set(place, row);
  }
  return [...found.values()];
}

// `1.45 – 6.58x` from the texts of the rows with the least and the largest value.
function range(rows, value, text) {
  const known = rows.filter((row) => row[value] !== null);
  if (!known.length)
    return rows.length
      ? el("span", { class: "missing" }, rows[0][text])
      : el("span", { class: "missing" }, "not planned");
  const short = (row) => row[text].replace(/ \[.*/, "");
  const [low, high] = extent(known.map((row) => row[value]));
  const [first, last] = [low, high].map((end) => short(known.find((row) => row[value] === end)));
  if (first === last) return known.length === 1 && value === "ratio" ? known[0][text] : first;
  const unit = /[^\d.,]*$/.exec(last)[0];
  return `${first.endsWith(unit) ? first.slice(0, first.length - unit.length) : first} – ${last}`;
}

export const worst = (rows) => rows.reduce((found, row) => ((row.error ?? -1) > (found.error ?? -1) ? row : found));
