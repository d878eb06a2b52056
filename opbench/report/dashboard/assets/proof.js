// Whether each row computes what it should: the verdict, the worst error against its bound, and every failure by name.
import { el, empty } from "./dom.js";
import { machines, subjectsFirst } from "./data.js";
import { address, state } from "./state.js";
import { filtered } from "./filters.js";
import { COLUMNS, dataTable } from "./table.js";

export const proof = {
  name: "Proof",
  filters: ["task", "workload", "dtype", "device", "mode", "outcome", "machine", "runPath", "text"],
  draw() {
    const every = filtered(this, { except: ["outcome"] });
    const seen = new Set();
    const once = filtered(this).filter((row) => {
      const id = `${row.panel.run.place}/${row.id}/${row.contender}`;
      return !seen.has(id) && seen.add(id);
    });
    // What opbench is about stands first, as long as nothing else is asked for.
    subjectsFirst(once, (row) => [row.operator]);
    if (!once.length) return [tally(every), empty("No case matches these filters.")];
    const failed = once.filter((row) => row.outcome !== "ok");
    const c = COLUMNS;
    return [
      tally(every),
      failed.length
        ? dataTable({
            caption: "Failures",
            prefix: "failures-",
            rows: failed,
            columns: [
              c.contender,
              { key: "panel", label: "panel", text: (row) => row.id, value: (row) => row.id },
              c.verdict,
              { key: "message", label: "what it said", text: (row) => row.message || "no message", kind: () => "wrap" },
              { key: "where", label: "worst element", text: (row) => row.where, kind: () => "wrap" },
            ],
          })
        : el("p", {}, "No case failed."),
      dataTable({
        caption: "Every case against the float64 definition",
        rows: once,
        columns: [
          c.contender,
          c.workload,
          c.task,
          c.dtype,
          c.device,
          c.mode,
          c.verdict,
          { key: "worst", label: "worst error", text: (row) => row.worstText, value: (row) => row.worst, number: true },
          { ...c.error },
          { key: "rms", label: "RMS error, eps·Σ|terms|", text: (row) => row.rmsText, number: true },
          { key: "judged", label: "judged", text: (row) => row.judged },
          ...(machines.length > 1 ? [c.machine] : []),
          c.run,
        ],
      }),
      el(
        "p",
        { class: "note" },
        "A case is timed only after its output, and in training every gradient, is within its error bound of the float64 definition; the output of the last timed call is judged again. Worst error: the largest |error| / bound of either time, so that 1 is the limit.",
      ),
    ];
  },
};

function tally(rows) {
  const counts = new Map();
  for (const row of rows) counts.set(row.outcome, (counts.get(row.outcome) ?? 0) + 1);
  const { params } = state();
  const link = (outcome, count) => {
    const next = new URLSearchParams(params);
    next.delete("page");
    next.set("outcome", outcome);
    return el(
      "li",
      {},
      el(
        "a",
        {
          href: address("proof", next),
          class: outcome === "ok" ? "" : "bad",
          "aria-current": params.get("outcome") === outcome ? "true" : undefined,
        },
        `${count.toLocaleString("en")} ${outcome}`,
      ),
    );
  };
  return el(
    "ul",
    { class: "tally" },
    [...counts]
      .sort((one, other) => (one[0] === "ok") - (other[0] === "ok") || one[0].localeCompare(other[0]))
      .map(([outcome, count]) => link(outcome, count)),
  );
}
