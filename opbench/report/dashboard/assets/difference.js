// Two runs: the gate's own verdict where the page holds it, and what differs in their figures for any two.
import { el, empty } from "./dom.js";
import { counted, home, nameOf, operatorOf, pairs, quote, rows, runs, withoutSubject } from "./data.js";
import { changed, go, state } from "./state.js";
import { has, wordsOf } from "./filters.js";
import { command } from "./copy.js";
import { KINDS, dataTable } from "./table.js";

export const difference = {
  name: "Difference",
  filters: ["text"],
  draw() {
    const { params } = state();
    const newest = pairs.findLast((pair) => pair.head.machine === home) ?? pairs.at(-1);
    const head = runs.find((run) => run.path === params.get("head")) ?? newest?.head ?? runs.at(-1);
    const others = runs.filter((run) => run !== head && run.suite === head.suite);
    const before =
      pairs.find((pair) => pair.head === head)?.base ??
      others.findLast((run) => run.machine === head.machine) ??
      others.at(-1);
    const base = runs.find((run) => run.path === params.get("base") && run !== head) ?? before;
    this.shown = { base: base?.path, head: head.path };
    if (!base) return [chooser(null, head), alone(head)];
    if (base.suite !== head.suite) return [chooser(base, head), unlike(base, head)];
    const judged = pairs.find((pair) => pair.base === base && pair.head === head);
    const words = wordsOf(this);
    return [
      chooser(base, head),
      judged ? verdict(judged, words) : figures(base, head, words),
      gate(base, head, judged),
      recent(head),
    ];
  },
};

// Another head of another suite leaves no base: the page then chooses the run before it.
function chosenPair(base, head, change) {
  const pair = { base: base?.path, head: head.path, ...change };
  const suites = [pair.base, pair.head].map((path) => runs.find((run) => run.path === path)?.suite);
  return change.head && suites[0] !== suites[1] ? { ...pair, base: "" } : pair;
}

function chooser(base, head) {
  const choice = (id, label, value, offered) =>
    el(
      "label",
      { for: `run-${id}` },
      `${label} `,
      el(
        "select",
        {
          id: `run-${id}`,
          change: (event) => go(changed(chosenPair(base, head, { [id]: event.target.value }))),
        },
        [...offered]
          .reverse()
          .map((run) =>
            el("option", { value: run.path, selected: run === value }, `${nameOf(run)} · ${run.machine} · ${run.path}`),
          ),
      ),
    );
  // Runs of one suite alone are offered: another suite measures other things, or the same with other settings.
  const comparable = runs.filter((run) => run !== head && (run.suite === head.suite || run === base));
  if (runs.length < 2) return null;
  return el(
    "p",
    { class: "tools" },
    choice("head", "Head", head, runs),
    comparable.length ? choice("base", "Base", base, comparable) : null,
  );
}

// What to do where there is nothing to compare with: measure once more, and draw the page anew.
function alone(head) {
  const others = runs.length - 1;
  return el(
    "section",
    {},
    empty(
      `A difference needs two runs of one suite; this page holds one of ${head.suite}${others ? `, and ${others} of other suites, which can't be compared with it` : ""}. Measure again, at another commit or on another day, into the folder that this page is made of:`,
    ),
    command(`opbench run --suite ${quote(head.suite)} -o RESULTS_DIR/again\nopbench dashboard RESULTS_DIR -o SITE_DIR`),
  );
}

const unlike = (base, head) =>
  empty(
    `These two can't be compared: ${base.path} is a run of the suite ${base.suite}, ${head.path} of ${head.suite}. Choose a base of ${head.suite}.`,
  );

const gate = (base, head, judged) => [
  el(
    "p",
    { class: "note" },
    judged ? "The same in a terminal, with an exit code:" : "The gate judges these two in a terminal:",
  ),
  command(`opbench compare ${[base.path, head.path].map(quote).join(" ")}`),
];

function verdict(pair, words) {
  const lines = pair.lines.filter((line) => has(words, line.contender, line.panel, line.what, line.verdict));
  const plain = (key) => ({ key, text: (line) => line[key], value: (line) => line[key] });
  const order = ["regressed", "changed", "improved", "undecided", "allowed"];
  const about = (line) => withoutSubject(operatorOf(line.contender));
  lines.sort((one, other) => order.indexOf(one.verdict) - order.indexOf(other.verdict) || about(one) - about(other));
  return [
    el("p", { class: pair.bad ? "verdict bad" : "verdict" }, pair.tally),
    lines.length
      ? dataTable({
          caption: "Findings, the worst first",
          rows: lines,
          columns: [
            { ...plain("contender"), label: "contender", cell: (line) => el("code", {}, line.contender) },
            { ...plain("panel"), label: "panel" },
            { ...plain("what"), label: "what" },
            { key: "change", label: "change", text: (line) => line.change, value: (line) => line.ratio, number: true },
            {
              key: "verdict",
              label: "verdict",
              text: (line) => line.verdict,
              value: (line) => order.indexOf(line.verdict),
              kind: (line) => KINDS[line.verdict] ?? "",
            },
            {
              key: "absolute",
              label: "absolute time",
              text: (line) => line.absolute,
              value: (line) => Number.parseFloat(line.absolute) || null,
              number: true,
            },
          ],
        })
      : empty(
          words.length
            ? "No finding matches the search."
            : "Nothing that was compared differs; what was left out, and why, is said below.",
        ),
    el(
      "ul",
      { class: "notes" },
      pair.notes.map((note) => el("li", {}, note)),
    ),
  ];
}

const EXACT = [...counted.map((one) => one.key), "outcome"];

// Any two runs, from the figures on this page: no test, no correction, and said so.
function figures(base, head, words) {
  const id = (row) => `${row.id}/${row.contender}/${row.method}`;
  const before = new Map(rows.filter((row) => row.run === base).map((row) => [id(row), row]));
  const both = rows
    .filter((row) => row.run === head && before.has(id(row)) && has(words, row.contender, row.id))
    .map((row) => ({ row, old: before.get(id(row)) }));
  if (!both.length)
    return empty(
      words.length ? "No case of both runs matches the search." : "These runs have no case in common on this page.",
    );
  const same = base.machine === head.machine;
  for (const pair of both) {
    const { row, old } = pair;
    pair.quotient =
      same && !row.base && row.ratio > 0 && old.ratio > 0 && old.baseline === row.baseline
        ? row.ratio / old.ratio
        : null;
    pair.apart =
      pair.quotient !== null && row.low !== null && old.low !== null && (row.low > old.high || row.high < old.low);
    pair.exact = EXACT.filter((name) => row[name] !== old[name]).map(
      (name) => `${name} ${old[`${name}Text`] ?? old[name]} -> ${row[`${name}Text`] ?? row[name]}`,
    );
  }
  both.sort(
    (one, other) =>
      other.exact.length - one.exact.length ||
      Math.abs(Math.log(other.quotient ?? 1)) - Math.abs(Math.log(one.quotient ?? 1)),
  );
  return [
    el(
      "p",
      { class: "note" },
      `Figures side by side, not a verdict: nothing here was tested, and of many rows some lie apart by chance. The page judges a run only against the one before it of its suite and machine.${same ? "" : " They come from different machines or thread counts, so their times are not compared."}`,
    ),
    dataTable({
      caption: "Figures of both runs",
      rows: both,
      columns: [
        {
          key: "contender",
          label: "contender",
          text: ({ row }) => row.contender,
          value: ({ row }) => row.contender,
          cell: ({ row }) => el("code", {}, row.contender),
        },
        { key: "panel", label: "panel", text: ({ row }) => row.id, value: ({ row }) => row.id },
        {
          key: "old",
          label: "ratio in base",
          text: ({ old }) => old.ratioText,
          value: ({ old }) => old.ratio,
          number: true,
        },
        {
          key: "new",
          label: "ratio in head",
          text: ({ row }) => row.ratioText,
          value: ({ row }) => row.ratio,
          number: true,
        },
        {
          key: "quotient",
          label: "head / base",
          text: ({ quotient }) => (quotient === null ? "not compared" : `${quotient.toPrecision(3)}x`),
          value: ({ quotient }) => quotient,
          number: true,
        },
        {
          key: "apart",
          label: "intervals",
          text: ({ apart, quotient }) => (quotient === null ? "" : apart ? "apart" : "overlap"),
          value: ({ apart }) => Number(apart),
        },
        {
          key: "exact",
          label: "counts that differ",
          text: ({ exact }) => exact.join(", ") || "none",
          value: ({ exact }) => exact.length,
        },
      ],
    }),
  ];
}

function recent(head) {
  if (!pairs.length) return null;
  return dataTable({
    caption: "Every run against the one before it, newest first",
    prefix: "pairs-",
    rows: [...pairs].reverse(),
    columns: [
      {
        key: "head",
        label: "head",
        text: (pair) => nameOf(pair.head),
        value: (pair) => pair.head.place,
        cell: (pair) =>
          el(
            "a",
            {
              href: changed({ base: pair.base.path, head: pair.head.path }),
              "aria-current": pair.head === head ? "true" : undefined,
            },
            nameOf(pair.head),
          ),
      },
      { key: "base", label: "base", text: (pair) => nameOf(pair.base) },
      { key: "machine", label: "machine", text: (pair) => pair.head.machine, value: (pair) => pair.head.machine },
      {
        key: "tally",
        label: "verdict",
        text: (pair) => pair.tally,
        value: (pair) => Number(!pair.bad),
        kind: (pair) => (pair.bad ? "bad text" : "text"),
      },
    ],
  });
}
