// One task's contenders side by side: bars of a quantity for each panel, and all of it in a table.
import { el, empty, gradually } from "./dom.js";
import { grouped, machines, nameOf, notes, subjectsFirst, titleOf } from "./data.js";
import { changed, go, state } from "./state.js";
import { METRICS, barChart } from "./bars.js";
import { choices, filtered, openingTask } from "./filters.js";
import { COLUMNS, FIGURES, dataTable } from "./table.js";

export const compare = {
  name: "Tasks",
  filters: ["task", "workload", "dtype", "device", "mode", "machine", "runPath", "text"],
  defaults: { task: openingTask, mode: () => choices("mode")[0] },
  draw(width) {
    const rows = filtered(this);
    const metric = METRICS[state().params.get("metric")] ? state().params.get("metric") : "ratio";
    if (!rows.length) return [quantity(metric), empty("No case matches these filters.")];
    // Panels that hold what opbench is about stand before those that don't.
    const groups = grouped(rows, (row) => `${row.panel.run.place}/${row.panel.id}/${row.method}`);
    subjectsFirst(groups, (group) => group.map((row) => row.operator));
    const columns = width > 1100 ? 2 : 1;
    const several = ["task", "dtype", "device", "mode"].filter(
      (name) => new Set(rows.map((row) => row[name])).size > 1,
    );
    const c = COLUMNS;
    return [
      quantity(metric),
      new Set(rows.map((row) => row.machine)).size > 1
        ? el(
            "p",
            { class: "note" },
            "These rows come from several machines. Each chart is of one; their times can't be compared, their ratios only with care.",
          )
        : null,
      el(
        "div",
        { class: columns === 2 ? "charts two" : "charts" },
        gradually(
          groups,
          8,
          (group) => {
            const [first] = group;
            const title = `${first.task}: ${titleOf(first)}, ${first.mode}`;
            const facts = [first.dims, first.method, nameOf(first.run), machines.length > 1 ? first.machine : ""];
            return barChart(group, metric, {
              title,
              note: facts.filter(Boolean).join(" · "),
              width: width / columns - (columns - 1) * 16,
            });
          },
          "chart",
        ),
      ),
      dataTable({
        caption: "Cases",
        rows: groups.flat(),
        columns: [
          c.contender,
          c.workload,
          ...several.map((name) => c[name]),
          c.spread,
          ...FIGURES,
          c.verdict,
          ...(machines.length > 1 ? [c.machine] : []),
          c.run,
          c.again,
        ],
      }),
      el(
        "p",
        { class: "note" },
        `In brackets: ${[...new Set(rows.map((row) => row.interval).filter(Boolean))].join("; ") || "no interval"}. ${notes}`,
      ),
    ];
  },
};

function quantity(metric) {
  const set = (event) => go(changed({ metric: event.target.value === "ratio" ? "" : event.target.value }));
  return el(
    "p",
    { class: "tools" },
    el(
      "label",
      { for: "metric" },
      "Bars show ",
      el(
        "select",
        { id: "metric", change: set },
        Object.entries(METRICS).map(([key, { label }]) =>
          el("option", { value: key, selected: key === metric }, label),
        ),
      ),
    ),
  );
}
