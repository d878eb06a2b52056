// Where every number comes from: the runs, their machine and versions, and the exact command.
import { anchorOf, el, empty, here, plural } from "./dom.js";
import { commandOf, machines, nameOf, panels, problems, runs, shortCommit, when } from "./data.js";
import { changed } from "./state.js";
import { command, copyButtons, linesOf } from "./copy.js";
import { chosen, has, wordsOf } from "./filters.js";
import { dataTable } from "./table.js";

export const runsView = {
  name: "Runs",
  filters: ["machine", "runPath", "text"],
  always: ["runPath"],
  required: ["runPath"],
  defaults: { runPath: () => runs.at(-1).path },
  draw() {
    const words = wordsOf(this);
    const machine = chosen(this, "machine");
    const kept = runs.filter(
      (run) =>
        (!machine || run.machine === machine) &&
        has(words, run.path, run.suite, run.commit, run.started, run.tally),
    );
    const picked =
      runs.find((run) => run.path === chosen(this, "runPath")) ??
      (kept.includes(runs.at(-1)) ? runs.at(-1) : kept.at(-1));
    return [
      kept.length
        ? dataTable({
            caption: "Runs, newest first",
            rows: [...kept].reverse(),
            columns: [
              {
                key: "path",
                label: "document",
                text: (run) => run.path,
                value: (run) => run.path,
                cell: (run) =>
                  el(
                    "a",
                    { href: changed({ runPath: run.path }), "aria-current": run === picked ? "true" : undefined },
                    run.path,
                  ),
              },
              { key: "suite", label: "suite", text: (run) => run.suite, value: (run) => run.suite },
              { key: "started", label: "started", text: (run) => when(run), value: (run) => run.place },
              {
                key: "commit",
                label: "commit",
                text: shortCommit,
                value: shortCommit,
                cell: (run) => el("code", {}, shortCommit(run)),
              },
              ...(machines.length > 1
                ? [{ key: "machine", label: "machine", text: (run) => run.machine, value: (run) => run.machine }]
                : []),
              {
                key: "tally",
                label: "cases",
                text: (run) => run.tally,
                value: (run) => run.cases,
                kind: (run) => (run.ok === run.cases ? "text long" : "bad text long"),
              },
            ],
          })
        : empty("No run matches these filters."),
      picked ? details(picked) : null,
      problems.length
        ? dataTable({
            caption: "Documents that are not shown, or not wholly",
            prefix: "problems-",
            rows: problems,
            columns: [
              { key: "path", label: "file", text: ({ path }) => path, value: ({ path }) => path },
              {
                key: "sentence",
                label: "why",
                text: ({ sentence }) => sentence,
                value: ({ sentence }) => sentence,
                kind: () => "wrap",
              },
            ],
          })
        : null,
    ];
  },
};

function details(run) {
  const own = panels.filter((panel) => panel.run === run);
  const commands = own.flatMap((panel) =>
    [...new Map(panel.rows.map((row) => [row.contender, row])).values()].map(commandOf),
  );
  return el(
    "section",
    {},
    el("h2", {}, nameOf(run)),
    el("p", {}, `Measured on ${run.machine}. This command measures it again:`),
    run.command ? command(run.command) : el("pre", { tabindex: 0 }, "(no command recorded)"),
    commands.length
      ? el(
          "details",
          {},
          el("summary", {}, `The command of each row (${plural(commands.length, "row")})`),
          command(commands.join("\n"), { id: "commands" }),
        )
      : el("p", { class: "note" }, "Its rows are not on this page."),
    el("div", { class: "tables" }, run.tables.map(plainTable)),
  );
}

function plainTable({ title, header, rows, note }) {
  const anchor = anchorOf(title);
  return el(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": title, id: `at-${anchor}` },
    el(
      "table",
      {},
      el("caption", {}, el("span", { class: "told" }, title, here(anchor, title), copyButtons(linesOf))),
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          header.map((name) => el("th", { scope: "col" }, name)),
        ),
      ),
      el(
        "tbody",
        {},
        rows.map((row) =>
          el(
            "tr",
            {},
            row.map((cell, index) => {
              const kind = cell.length > 40 ? "text long" : "text";
              return index ? el("td", { class: kind }, cell) : el("th", { scope: "row", class: kind }, cell);
            }),
          ),
        ),
      ),
    ),
    note ? el("p", { class: "note" }, note) : null,
  );
}
