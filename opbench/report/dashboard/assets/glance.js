// Every operator of a task at a glance: what it costs at the least and at the most over the workloads.
import { el, plural, svg } from "./dom.js";
import { counted, grouped, machines, subjects } from "./data.js";
import { address } from "./state.js";
import { extent, scale } from "./scales.js";
import { ratioDomain } from "./bars.js";
import { COLUMNS } from "./table.js";

const MODES = ["inference", "training"];
const WIDE = 112;

// One row for each operator of a task: its fastest implementation on each workload, and the range over workloads.
export function glance(rows) {
  const sections = grouped(rows, (row) => [row.machine, row.task, row.device, row.dtype, row.memoryFormat].join("\n"));
  const several = machines.length > 1;
  const heads = [
    "operator, fastest as",
    "",
    "inference latency",
    "training latency",
    ...counted.map((one) => one.heading.replace("{mode}", "inference")),
    COLUMNS.error.label,
  ];
  return el(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": "At a glance" },
    el(
      "table",
      { class: "glance" },
      el(
        "caption",
        {},
        "At a glance ",
        el(
          "span",
          { class: "note" },
          "each operator by its fastest implementation, from the least to the most over its workloads; latency against the baseline, the line is 1x; newest run of each; shaded: CARAFE and DCNv3",
        ),
      ),
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          heads.map((head, index) =>
            el(
              "th",
              { scope: "col", class: index > 1 ? "number" : undefined },
              head || el("span", { class: "hidden" }, "inference latency, drawn"),
            ),
          ),
        ),
      ),
      sections.map((section) => {
        const [first] = section;
        const count = new Set(section.map((row) => `${row.panel.run.place}/${row.contest}`)).size;
        const title = [first.task, first.dtype, first.device, first.memoryFormat, several ? first.machine : ""]
          .filter(Boolean)
          .join(", ");
        const link = address("compare", {
          task: first.task,
          dtype: first.dtype,
          device: first.device,
          machine: several ? first.machine : "",
        });
        const [low, high] = ratioDomain(
          section.filter((row) => row.mode === "inference").map((row) => ({ ...row, low: row.ratio, high: row.ratio })),
        );
        const x = scale({ low, high, from: 6, to: WIDE - 6, log: true });
        const operators = grouped(section, (row) => row.operator).map((group) => summary(group));
        operators.sort((one, other) => (one.place ?? Infinity) - (other.place ?? Infinity));
        return el(
          "tbody",
          {},
          el(
            "tr",
            { class: "section" },
            el(
              "th",
              { colspan: heads.length, scope: "rowgroup" },
              el("a", { href: link }, title),
              el(
                "span",
                { class: "note" },
                ` against ${first.panel.baseline || "no baseline"}, ${plural(count, "workload")}`,
              ),
            ),
          ),
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

function operatorRow({ operator, best, leading }, x) {
  const names = grouped(leading, (row) => row.implementation)
    .sort((one, other) => other.length - one.length)
    .map(([row]) => row.implementation);
  const drawn = best.inference.filter((row) => row.ratio > 0);
  const ends = extent(drawn.map((row) => row.ratio));
  const picture = svg(
    "svg",
    { width: WIDE, height: 18, viewBox: `0 0 ${WIDE} 18`, class: "spark", "aria-hidden": "true" },
    svg("path", { d: `M${x(1)},0V18`, class: "one" }),
    ends ? svg("path", { d: `M${x(ends[0])},9H${x(ends[1])}`, class: "range" }) : null,
    drawn.map((row) =>
      svg(
        "circle",
        { cx: x(row.ratio), cy: 9, r: 3, class: row.base ? "dot baseline" : "dot" },
        svg("title", {}, `${row.workload}: ${row.ratioText}`),
      ),
    ),
  );
  const cells = [
    [best.inference, "ratio", "ratioText"],
    [best.training, "ratio", "ratioText"],
    ...counted.map(({ key, heading, training }) => [
      training ? best.training : heading.includes("{mode}") ? best.inference : leading,
      key,
      `${key}Text`,
    ]),
  ];
  return el(
    "tr",
    { class: subjects.has(operator) ? "subject" : undefined },
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

// `1.45 – 6.58x` from the texts of the rows with the least and the largest value.
function range(rows, value, text) {
  const known = rows.filter((row) => row[value] !== null);
  if (!known.length)
    return rows.length
      ? el("span", { class: "missing" }, rows[0][text])
      : el("span", { class: "missing" }, "not planned");
  const short = (row) => row[text].replace(/ \[.*/, "");
  const [low, high] = [Math.min, Math.max].map((pick) => pick(...known.map((row) => row[value])));
  const [first, last] = [low, high].map((end) => short(known.find((row) => row[value] === end)));
  if (first === last) return known.length === 1 && value === "ratio" ? known[0][text] : first;
  const unit = /[^\d.,]*$/.exec(last)[0];
  return `${first.endsWith(unit) ? first.slice(0, first.length - unit.length) : first} – ${last}`;
}

export const worst = (rows) => rows.reduce((found, row) => ((row.error ?? -1) > (found.error ?? -1) ? row : found));
