// How close each contender comes to what the machine can do: points under the roof of copy rate and arithmetic rate.
import { el, empty } from "./dom.js";
import { grouped, nameOf, runs, styles, titleOf } from "./data.js";
import { filtered, openingTask } from "./filters.js";
import { roof } from "./plots.js";
import { COLUMNS, dataTable } from "./table.js";
import { tick } from "./scales.js";

export const roofline = {
  name: "Roofline",
  filters: ["task", "workload", "dtype", "device", "machine", "runPath", "text"],
  defaults: { task: openingTask },
  draw(width) {
    const rows = filtered(this);
    if (!rows.length) return [empty("No case matches these filters.")];
    const inference = rows.filter((row) => row.mode === "inference");
    const groups = grouped(inference, (row) => [row.machine, row.task, row.device, row.executed, row.dtype, row.method].join("\n"));
    const c = COLUMNS;
    return [
      groups.slice(0, 16).map((group) => chart(group, width)),
      groups.length > 16
        ? el("p", { class: "note" }, `${groups.length - 16} more charts: choose a task, dtype or machine.`)
        : null,
      inference.length
        ? null
        : empty(
            "A roofline is drawn for inference only, and none of these cases is: what a backward pass must move has no closed form.",
          ),
      dataTable({
        caption: "Share of the roofline",
        rows: rows.filter((row) => row.roof !== null),
        columns: [
          c.contender,
          c.workload,
          c.dtype,
          c.device,
          c.mode,
          c.roof,
          c.median,
          c.macs,
          c.traffic,
          c.machine,
        ],
      }),
      el(
        "p",
        { class: "note" },
        "Of roofline: the least time that the slower of two limits allows, over the median latency. The limits are the bytes at the machine's copy rate and the MACs at the rate of its matrix product, both measured in the same run. In training the least traffic is taken as twice that of the forward call. What exceeds its limit shows that the limit was too low, as the copy of older runs is for data that stay in a cache.",
      ),
    ];
  },
};

function chart(group, width) {
  const [first] = group;
  const what = [first.task, first.dtype, first.device, first.executed, first.method, first.machine].filter(Boolean).join(", ");
  const places = [...new Set(group.map((row) => row.panel.run.place))];
  const roofs = places
    .map((place) => group.find((row) => row.panel.run.place === place).panel)
    .filter((panel) => panel.copy > 0 && panel.matmul > 0)
    .map((panel) => ({ copy: panel.copy, matmul: panel.matmul, name: nameOf(panel.run) }));
  const drawn = group.filter((row) => row.intensity > 0 && row.speed > 0);
  if (!roofs.length || !drawn.length) {
    return empty(
      `${what}: ${roofs.length ? "no case has MACs and a time" : `${runs.length ? "its runs hold" : "there are"} no yardsticks`}, so there is no roofline to draw.`,
    );
  }
  const looks = styles(drawn.map((row) => row.contender));
  const series = grouped(drawn, (row) => row.contender).map((own) => ({
    name: own[0].contender,
    style: looks.get(own[0].contender),
    points: own.map((row) => ({
      x: row.intensity,
      y: row.speed,
      text: `${titleOf(row.panel)}: ${row.roofText} of the roofline, ${row.medianText}`,
    })),
  }));
  const [one] = roofs;
  const without = new Set(
    group.filter((row) => !(row.intensity > 0) && row.median !== null).map((row) => row.contender),
  );
  const notes = [
    roofs.length === 1
      ? `dashed: this machine copies ${tick(one.copy, "B/s")} and multiplies ${tick(one.matmul, "MAC/s")}`
      : `dashed: what the machine reached in each of ${roofs.length} runs`,
  ];
  if (without.size) notes.push(`without MACs, not drawn: ${[...without].join(", ")}`);
  return roof({ title: `Roofline: ${what}, inference`, note: notes.join(" · "), width, height: 340, series, roofs });
}
