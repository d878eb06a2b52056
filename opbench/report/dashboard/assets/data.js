// The embedded data: columns back to rows, places among the strings back to text.

const payload = JSON.parse(document.getElementById("data").textContent);
const strings = payload.strings;

export const text = (place) => strings[place] ?? "";

function table({ length, texts, others }) {
  const columns = [
    ...Object.entries(texts).map(([name, column]) => [name, column, true]),
    ...Object.entries(others).map(([name, column]) => [name, column, false]),
  ];
  return Array.from({ length }, (_, index) => {
    const row = {};
    for (const [name, column, isText] of columns) row[name] = isText ? strings[column[index]] : column[index];
    return row;
  });
}

export const version = payload.version;
export const problems = payload.problems.map(([path, sentence]) => ({ path: text(path), sentence: text(sentence) }));
// Operators by name: colour and shape, the same everywhere, and the name under which one is accented, or "".
const operators = new Map(
  payload.operators.map((one) => [
    text(one.name),
    { ...one, subject: text(one.subject), implementations: one.implementations.map(text) },
  ]),
);
export const operatorOf = (contender) => contender.split("[", 1)[0];
export const subjectOf = (operator) => operators.get(operator)?.subject ?? "";
// What sorts rows: 0 where one of the operators is of what opbench is about, else 1.
export const withoutSubject = (...names) => Number(!names.some((name) => subjectOf(name)));
const every = new Set([...operators.values()].map((one) => one.subject).filter(Boolean));
// What opbench is about, one by one: "CARAFE and DCNv3" together are no third thing.
export const subjects = [...every].filter((name) => ![...every].some((other) => other !== name && name.includes(other)));

// What holds one of them stands first; else the order stays. `operators(item)` are the names in an item.
export function subjectsFirst(items, operators) {
  const without = new Map(items.map((item) => [item, withoutSubject(...operators(item))]));
  return items.sort((one, other) => without.get(one) - without.get(other));
}

// How contenders of one drawing look: an operator's colour and shape; its implementations differ in filling and dash.
export function styles(contenders) {
  const found = new Map();
  for (const own of grouped([...new Set(contenders)], operatorOf)) {
    const { colour, shape, implementations, subject } = operators.get(operatorOf(own[0])) ?? UNKNOWN;
    const place = (name) => {
      const at = implementations.indexOf(name.replace(/^[^[]*\[([^\]]*)\].*/, "$1"));
      return at < 0 ? implementations.length : at;
    };
    own.sort((one, other) => place(one) - place(other) || (one < other ? -1 : 1));
    own.forEach((name, variant) => found.set(name, { colour, shape, variant: variant % 4, subject }));
  }
  return found;
}
const UNKNOWN = { colour: 6, shape: 0, implementations: [], subject: "" };

// What a row holds figures of: titles, labels and units are said once, where they are measured.
export const quantities = payload.quantities;
export const offered = quantities.filter((one) => one.offered);
export const counted = offered.filter((one) => one.exact && one.heading);
// Rounds that a figure needs for a decision.
export const fewestRounds = payload.fewestRounds;
export const notes = quantities
  .map((one) => one.note)
  .filter(Boolean)
  .join(" ");

const readTable = (one) => ({
  title: text(one.title),
  note: text(one.note),
  header: one.header.map(text),
  rows: one.rows.map((row) => row.map(text)),
});

export const runs = payload.runs.map((run, place) => ({
  ...run,
  place,
  path: text(run.path),
  suite: text(run.suite),
  machine: text(run.machine),
  started: text(run.started),
  commit: text(run.commit),
  command: text(run.command),
  carried: run.carried.map(text),
  tally: text(run.tally),
  tables: run.tables.map(readTable),
}));

// For each machine what its runs answer, in sentences; the machine of the newest run first.
export const lang = payload.lang;
export const answers = payload.answers.map(({ machine, sentences }) => ({
  machine: text(machine),
  sentences: sentences.map(text),
}));

export const machines = [...new Set(runs.map((run) => run.machine))];
// Where the newest run was taken: what a person who opens the page came for.
export const home = runs.at(-1).machine;
export const away = (machine) => (machine === home ? "" : machine);

export const panels = table(payload.panels);
for (const panel of panels) panel.run = runs[panel.run];

// A row says what its panel says, so that a filter reads one object. It reads its columns when it is asked: to fill in
// seventy fields of each of a hundred thousand rows would take seconds.
class Row {
  constructor(place) {
    this.place = place;
  }
  get panel() {
    return panels[payload.rows.others.panel[this.place]];
  }
  get machine() {
    return this.panel.run.machine;
  }
  get runPath() {
    return this.panel.run.path;
  }
  get haystack() {
    return `${this.contender} ${this.workload} ${this.task} ${this.dims} ${this.outcome}`.toLowerCase();
  }
}
function reads(name, of) {
  if (!Object.hasOwn(Row.prototype, name))
    Object.defineProperty(Row.prototype, name, {
      get() {
        return of(this);
      },
    });
}
for (const name of Object.keys(panels[0] ?? {})) reads(name, (row) => row.panel[name]);
for (const [name, column] of Object.entries(payload.rows.texts)) reads(name, (row) => strings[column[row.place]]);
for (const [name, column] of Object.entries(payload.rows.others)) reads(name, (row) => column[row.place]);

export const rows = Array.from({ length: payload.rows.length }, (_, place) => new Row(place));
for (const row of rows) (row.panel.rows ??= []).push(row);

const byPlace = new Map(panels.map((panel) => [`${panel.run.place}/${panel.id}`, panel]));
export const sweeps = payload.sweeps
  .map((sweep) => ({
    run: runs[sweep.run],
    method: text(sweep.method),
    axis: text(sweep.axis),
    fixed: text(sweep.fixed),
    points: sweep.panels.map((id, at) => ({ x: sweep.values[at], panel: byPlace.get(`${sweep.run}/${text(id)}`) })),
  }))
  .filter((sweep) => sweep.points.every((point) => point.panel));

export const pairs = payload.differences.pairs.map((pair) => ({
  base: runs[pair.base],
  head: runs[pair.head],
  tally: text(pair.tally),
  notes: pair.notes.map(text),
  bad: Boolean(pair.bad),
  lines: [],
}));
for (const line of table(payload.differences.lines)) pairs[line.pair].lines.push(line);

export const claims = payload.claims.map((claim) =>
  Object.fromEntries(Object.entries(claim).map(([name, place]) => [name, text(place)])),
);

export const devices = {
  yardsticks: payload.devices.yardsticks.map(text),
  machines: payload.devices.machines.map((one) => ({
    ...one,
    ...Object.fromEntries(
      ["machine", "path", "suite", "started", "status", "contributor", "note"].map((name) => [name, text(one[name])]),
    ),
    checked: one.checked.map(text),
    unchecked: one.unchecked.map(text),
    texts: one.texts.map(text),
  })),
};

// The moments of a trend: every run, also those whose document was let go.
export const moments = payload.trends.moments.map((moment) => ({
  ...moment,
  run: runs[moment.run],
  suite: text(moment.suite),
  machine: text(moment.machine),
  started: text(moment.started),
  commit: text(moment.commit),
  changed: moment.changed.map(text),
}));

const NAMES = [
  "case",
  "contender",
  "suite",
  "operator",
  "task",
  "workload",
  "dtype",
  "device",
  "mode",
  "machine",
  "quantity",
  "method",
  "baseline",
];
export const series = payload.trends.series.map((one) => ({
  ...one,
  ...Object.fromEntries(NAMES.map((name) => [name, text(one[name])])),
  moments: one.at.map((at) => moments[at]),
  texts: one.text.map(text),
  steps: one.steps.map((step) => ({ ...step, text: text(step.text), share: text(step.share), with: text(step.with) })),
}));

export function grouped(items, key) {
  const groups = new Map();
  for (const item of items) {
    const name = key(item);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(item);
  }
  return [...groups.values()];
}

export function shortCommit(run) {
  return (run.commit ? run.commit.slice(0, 9) : "no commit") + (run.dirty ? "+" : "");
}

export function when(run) {
  return run.started.replace("T", " ").replace(/(\d\d:\d\d):\d\d.*/, "$1");
}

export function nameOf(run) {
  return `${run.suite}, ${when(run)}, ${shortCommit(run)}`;
}

export function titleOf(panel) {
  const spread = panel.spread === "" ? "" : `, offset spread ${panel.spread} px`;
  const seed = panel.seed ? `, seed ${panel.seed}` : "";
  const executed = panel.executed ? `, ${panel.executed}` : "";
  return `${panel.workload}, ${panel.dtype}, ${panel.device}${executed}${spread}${seed}`;
}

export const quote = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\"'\"'")}'`);

// The command that measures one row again, with its baseline beside it.
export function commandOf(row) {
  const words = ["opbench", "run", "--suite", row.run.suite];
  for (const option of ["task", "workload", "operator", "implementation", "dtype", "device", "mode"]) {
    // Across runtimes an operator stands beside the implementation that it takes in torch.
    if (option !== "implementation" || !row.across) words.push(`--${option}`, row[option]);
  }
  if (row.across) words.push("--across-runtimes");
  if (row.runtime) words.push("--runtime", row.runtime);
  if (row.memoryFormat) words.push("--memory-format", row.memoryFormat);
  return [...words, ...row.run.carried].map(quote).join(" ");
}
