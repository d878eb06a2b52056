// The data of the page as files: the rows of what is shown in a spreadsheet's form, or everything.
import { el, plural } from "./dom.js";
import { commandOf, quantities, rows, runs } from "./data.js";
import { csvOf, save } from "./copy.js";

const NAMES_OF_ROWS = [
  "task",
  "workload",
  "contender",
  "operator",
  "implementation",
  "dtype",
  "device",
  "mode",
  "dims",
  "spread",
  "baseline",
  "outcome",
  "verdict",
  "message",
  "method",
  "low",
  "high",
  "machine",
  "runPath",
];

function rowsAsCsv() {
  const figures = quantities.map((one) => one.key);
  const header = [...NAMES_OF_ROWS, ...figures, "suite", "started", "commit", "command"];
  const lines = rows.map((row) => [
    ...[...NAMES_OF_ROWS, ...figures].map((name) => row[name]),
    row.run.suite,
    row.run.started,
    row.run.commit,
    commandOf(row),
  ]);
  return csvOf([header, ...lines]);
}

export function downloads() {
  const button = (id, words, pressed) => el("button", { type: "button", id, click: pressed }, words);
  return el(
    "p",
    { class: "downloads" },
    `Download ${plural(rows.length, "row")} of ${plural(runs.length, "run")}: `,
    button("download-csv", "CSV", () => save("opbench-rows.csv", "text/csv", rowsAsCsv())),
    " ",
    button("download-json", "JSON, all of the page's data", () =>
      save("opbench-page.json", "application/json", document.getElementById("data").textContent),
    ),
  );
}
