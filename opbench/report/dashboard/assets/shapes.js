// One contender across shapes: its ratio on every workload, and how its time grows.
import { el, empty } from "./dom.js";
import { grouped, machines, rows, styles, sweeps, titleOf } from "./data.js";
import { METRICS, barChart } from "./bars.js";
import { chosen, filtered, openingRow, openingTask } from "./filters.js";
import { lines } from "./plots.js";
import { COLUMNS, FIGURES, dataTable, natural } from "./table.js";

export const shapes = {
  name: "One contender",
  filters: ["contender", "task", "dtype", "device", "mode", "machine", "runPath", "text"],
  required: ["contender"],
  always: ["contender"],
  defaults: {
    contender: () => (openingRow() ?? rows[0])?.contender,
    task: openingTask,
    mode: () => (rows.some((row) => row.mode === "inference") ? "inference" : ""),
  },
  draw(width) {
    const rows = filtered(this);
    const name = chosen(this, "contender");
    if (!rows.length) return [empty(`No case of ${name} matches these filters.`)];
    const ordered = [...rows].sort(
      (one, other) =>
        natural.compare(one.task, other.task) || one.size - other.size || natural.compare(one.workload, other.workload),
    );
    const groups = grouped(ordered, (row) =>
      [row.task, row.dtype, row.device, row.executed, row.mode, row.machine, row.method].join("\n"),
    );
    const c = COLUMNS;
    return [
      groups.slice(0, 24).map((group) => {
        const [first] = group;
        const what = [
          first.task,
          first.dtype,
          first.device,
          first.executed,
          first.mode,
          first.method,
          machines.length > 1 ? first.machine : "",
        ]
          .filter(Boolean)
          .join(", ");
        const against = [...new Set(group.map((row) => row.panel.baseline))].join(", ") || "no baseline";
        const [some, rest] = [group.slice(0, 40), group.length - 40];
        return el(
          "section",
          {},
          barChart(some, "ratio", {
            title: `${name}: ${what}`,
            note: `against ${against}, smallest input first${rest > 0 ? `; ${rest} more in the table` : ""}`,
            width,
            nameOf: (row) => `${row.workload}${row.spread === "" ? "" : `, spread ${row.spread} px`}`,
          }),
          growth(name, group, what, width),
        );
      }),
      groups.length > 24
        ? el("p", { class: "note" }, `${groups.length - 24} more groups are in the table; filter to draw them.`)
        : null,
      dataTable({
        caption: `${name} on every workload`,
        rows: ordered,
        columns: [
          { ...c.workload },
          c.task,
          c.dims,
          c.spread,
          c.dtype,
          c.device,
          c.mode,
          ...FIGURES,
          c.verdict,
          ...(machines.length > 1 ? [c.machine] : []),
          c.again,
        ],
      }),
    ];
  },
};

// Median time against each dimension that a suite sweeps; without a sweep, against the least traffic of each workload.
function growth(name, group, what, width) {
  const own = new Set(group.map((row) => row.panel));
  const method = group[0].method;
  const swept = sweeps.filter(
    (sweep) => sweep.method === method && sweep.points.every((point) => own.has(point.panel)),
  );
  const seconds = { ...METRICS.median, log: true };
  if (swept.length) {
    return swept.slice(0, 6).map((sweep) => {
      const names = companions(
        name,
        sweep.points.map((point) => point.panel),
      );
      const looks = styles(names);
      const series = names.map((contender) => ({
        name: contender,
        style: looks.get(contender),
        points: sweep.points.flatMap(({ x, panel }) => point(panel, contender, method, () => x)),
      }));
      const log = sweep.points.every((one) => one.x > 0);
      return lines({
        title: `Scaling with ${sweep.axis}`,
        note: `${what} · ${sweep.fixed}`,
        width,
        series: series.filter((one) => one.points.length),
        x: { label: sweep.axis, log, ticks: sweep.points.map((one) => one.x), unit: "plain" },
        y: seconds,
      });
    });
  }
  const names = companions(name, [...own]);
  const looks = styles(names);
  const series = names
    .map((contender) => ({
      name: contender,
      style: looks.get(contender),
      points: [...own]
        .flatMap((panel) => point(panel, contender, method, (row) => row.traffic))
        .sort((one, other) => one.x - other.x),
    }))
    .filter((one) => one.points.length);
  if (!series.length) return null;
  return lines({
    title: "Scaling with the least traffic",
    note: `${what} · every input, parameter and output moved once; workloads that differ in more than their size are not joined`,
    width,
    series,
    joined: false,
    x: { label: "least traffic per call", unit: "B", log: true },
    y: seconds,
  });
}

// The contender, its baseline and the other implementations of its operator.
function companions(name, panels) {
  const operator = name.replace(/\[.*/, "");
  const every = panels.flatMap((panel) => panel.rows);
  const wanted = every
    .filter((row) => row.contender === name || row.base || row.operator === operator)
    .map((row) => row.contender);
  return [...new Set([name, ...wanted])].slice(0, 8);
}

function point(panel, contender, method, x) {
  const row = panel.rows.find((one) => one.contender === contender && one.method === method);
  const at = row && x(row);
  return row && row.median > 0 && Number.isFinite(at)
    ? [{ x: at, y: row.median, text: `${titleOf(panel)}: ${row.medianText}` }]
    : [];
}
