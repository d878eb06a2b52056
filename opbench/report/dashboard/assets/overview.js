// What does CARAFE or DCNv3 cost me: every operator at a glance, then each workload's contenders and intervals.
import { anchorOf, el, empty, gradually, here, plural } from "./dom.js";
import {
  answers,
  away,
  counted,
  grouped,
  lang,
  machines,
  nameOf,
  notes,
  pairs,
  panels,
  problems,
  subjectOf,
  subjectsFirst,
  titleOf,
} from "./data.js";
import { address } from "./state.js";
import { copyButtons, linesOf } from "./copy.js";
import { ratioDomain, spark } from "./bars.js";
import { chosen, filtered } from "./filters.js";
import { glance, worst } from "./glance.js";
import { COLUMNS } from "./table.js";

export const overview = {
  name: "Overview",
  filters: ["task", "workload", "dtype", "device", "machine", "runPath", "text"],
  draw() {
    const rows = filtered(this);
    if (!rows.length) return [answered(this), troubles(), empty("No case matches these filters.")];
    const kept = new Set(rows.map((row) => row.panel));
    const contests = grouped(
      panels.filter((panel) => kept.has(panel)),
      (panel) => `${panel.run.place}/${panel.contest}`,
    );
    subjectsFirst(contests, (contest) => contest.flatMap((panel) => panel.rows.map((row) => row.operator)));
    const matching = new Set(rows);
    const words = rows.length < contests.flat().reduce((sum, panel) => sum + panel.rows.length, 0);
    return [
      answered(this),
      news(rows),
      glance(rows),
      troubles(),
      el("h2", {}, "Every workload"),
      el("p", { class: "note" }, intervals(rows)),
      gradually(contests, 12, (contest) => contestTable(contest, words ? matching : null), "workload"),
    ];
  },
};

// What a person came with a question for: the sentences on the machine that is chosen, else that of the newest run.
function answered(view) {
  const machine = chosen(view, "machine");
  const found = answers.find((one) => one.machine === machine) ?? answers[0];
  if (!found) return null;
  return el(
    "section",
    { id: "answer", "aria-label": "Answer" },
    el("p", { class: "note" }, found.machine),
    el(
      "ul",
      { lang },
      found.sentences.map((sentence) => el("li", {}, sentence)),
    ),
  );
}

// What a person who opens the page must not miss: cases that failed, and what the last run of each machine made worse.
function news(rows) {
  const failed = grouped(
    rows.filter((row) => row.outcome !== "ok"),
    (row) => row.outcome,
  ).map((of) => {
    const cases = new Set(of.map((row) => `${row.runPath}/${row.id}/${row.contender}`)).size;
    return el(
      "li",
      {},
      el("a", { class: "bad", href: address("proof", { outcome: of[0].outcome, machine: away(of[0].machine) }) }, `${cases} ${of[0].outcome}`),
    );
  });
  const newest = grouped(pairs, (pair) => `${pair.head.machine}\n${pair.head.suite}`).map((of) => of.at(-1));
  const moved = newest.map((pair) =>
    el(
      "li",
      {},
      el("a", { href: address("difference", { base: pair.base.path, head: pair.head.path }) }, nameOf(pair.head)),
      machines.length > 1 ? ` on ${pair.head.machine}` : "",
      ", against the run before it: ",
      el("span", { class: pair.bad ? "bad" : undefined }, pair.tally),
    ),
  );
  return failed.length || moved.length ? el("ul", { class: "news", "aria-label": "News" }, failed, moved) : null;
}

function troubles() {
  if (!problems.length) return null;
  return el(
    "details",
    { class: "problems", open: problems.length < 4 },
    el("summary", {}, `${plural(problems.length, "remark")} on documents that are not shown, or not wholly`),
    el(
      "ul",
      {},
      problems.slice(0, 200).map(({ path, sentence }) => el("li", {}, el("code", {}, path), `: ${sentence}`)),
    ),
    problems.length > 200 ? el("p", {}, `and ${problems.length - 200} more`) : null,
  );
}

function intervals(rows) {
  const kinds = [...new Set(rows.map((row) => row.interval).filter(Boolean))];
  return `Latency vs baseline: above 1x is slower. In brackets: ${kinds.join("; ") || "no interval"}. ${notes} Bars: inference, log scale, the line is 1x, pale where undecided.`;
}

function contestTable(contest, matching) {
  const [first] = contest;
  const leading = contest.find((panel) => panel.mode === "inference") ?? first;
  const columns = contest.flatMap((panel) =>
    [...new Set(panel.rows.map((row) => row.method))].map((method) => ({ panel, method })),
  );
  const training = contest.find((panel) => panel.mode === "training");
  const every = contest.flatMap((panel) => panel.rows);
  const shownHere = counted.filter(
    (one) => (training || !one.training) && every.some((row) => row[one.key] !== null),
  );
  const names = [...new Set(every.map((row) => row.contender))].filter(
    (name) => !matching || every.some((row) => row.contender === name && (row.base || matching.has(row))),
  );
  const domain = ratioDomain(leading.rows);
  const of = (panel, name, method) =>
    panel?.rows.find((row) => row.contender === name && (method === undefined || row.method === method));
  const heads = [
    "contender",
    "",
    ...columns.map(
      ({ panel, method }) => `${panel.mode} latency${columns.length > contest.length && method ? ` (${method})` : ""}`,
    ),
    ...shownHere.map((one) => one.heading.replace("{mode}", leading.mode)),
    COLUMNS.error.label,
    "outcome",
  ];
  const link = address("compare", {
    task: first.task,
    workload: first.workload,
    dtype: first.dtype,
    device: first.device,
    run: "",
    runPath: first.current ? "" : first.run.path,
    machine: away(first.run.machine),
  });
  const title = `${first.task}: ${titleOf(first)}`;
  const anchor = anchorOf(title);
  return el(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": titleOf(first), id: `at-${anchor}` },
    el(
      "table",
      { class: "contest" },
      el(
        "caption",
        {},
        el(
          "span",
          { class: "told" },
          el("a", { href: link }, title),
          here(anchor, title),
          copyButtons(linesOf),
          el(
            "span",
            { class: "note below" },
          ` ${first.dims}${first.source ? ` · ${first.source}` : ""} · `,
          el("a", { href: address("runs", { runPath: first.run.path }) }, nameOf(first.run)),
          machines.length > 1 ? ` · ${first.run.machine}` : "",
          ),
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
              { scope: "col", class: index > 1 && index < heads.length - 1 ? "number" : undefined },
              head || el("span", { class: "hidden" }, `${leading.mode} latency, drawn`),
            ),
          ),
        ),
      ),
      el(
        "tbody",
        {},
        names.map((name) => {
          const shown = of(leading, name) ?? every.find((row) => row.contender === name);
          const amounts = [
            ...shownHere.map(({ key, heading, training: kept }) => {
              const told = kept ? of(training, name) : heading.includes("{mode}") ? of(leading, name) : shown;
              return told?.[`${key}Text`];
            }),
            worstError(every, name),
          ];
          return el(
            "tr",
            { class: subjectOf(shown.operator) ? "subject" : undefined },
            el(
              "th",
              { scope: "row" },
              el(
                "a",
                {
                  href: address("shapes", {
                    contender: name,
                    task: first.task,
                    dtype: first.dtype,
                    device: first.device,
                    machine: away(first.run.machine),
                  }),
                },
                el("code", {}, name),
              ),
            ),
            el("td", {}, spark(of(leading, name) ?? { ratio: null }, domain)),
            columns.map(({ panel, method }) => {
              const row = of(panel, name, method);
              return el(
                "td",
                { class: row?.ratio === null ? "number missing" : "number" },
                row?.ratioText ?? "not planned",
              );
            }),
            amounts.map((text) => el("td", { class: "number" }, text ?? "not planned")),
            outcome(every.filter((row) => row.contender === name)),
          );
        }),
      ),
    ),
  );
}

const worstError = (rows, name) => worst(rows.filter((row) => row.contender === name)).errorText;

function outcome(rows) {
  const kinds = [...new Set(rows.map((row) => row.verdict))];
  const words = kinds.length === 1 ? kinds[0] : rows.map((row) => `${row.mode}: ${row.verdict}`).join("; ");
  const said = [...new Set(rows.map((row) => row.message).filter(Boolean))].join("; ");
  return el(
    "td",
    { class: rows.some((row) => row.outcome !== "ok") ? "bad" : undefined, title: said || undefined },
    words,
  );
}
