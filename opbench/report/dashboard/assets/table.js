// A table that sorts by its heads and stands in pages; both are in the address.
import { anchorOf, el, here, plural } from "./dom.js";
import { commandOf, offered, quantities } from "./data.js";
import { changed, go, state } from "./state.js";
import { copy, copyButtons } from "./copy.js";

const PAGE = 100;

// `columns`: {key, label, text(row), value(row) to sort by, number, cell(row) for what is no text}.
export function dataTable({ caption, columns, rows, prefix = "" }) {
  const { params } = state();
  const [sort, page] = [`${prefix}sort`, `${prefix}page`];
  const [key, direction] = (params.get(sort) ?? "").split(" ");
  const by = columns.find((column) => column.key === key && column.value);
  const ordered = by ? sorted(rows, by.value, direction === "desc" ? -1 : 1) : rows;
  const pages = Math.max(1, Math.ceil(rows.length / PAGE));
  const at = Math.min(pages, Math.max(1, Number.parseInt(params.get(page) ?? "1", 10) || 1));
  const shown = ordered.slice((at - 1) * PAGE, at * PAGE);
  const anchor = anchorOf(caption);
  const lines = () => [
    columns.map((column) => column.label),
    ...ordered.map((row) => columns.map((column) => column.text(row))),
  ];
  const turn = (to, name, possible) =>
    el(
      "button",
      { type: "button", disabled: !possible, click: () => go(changed({ [page]: to === 1 ? "" : to })) },
      name,
    );
  return el(
    "div",
    { class: "table", id: `at-${anchor}` },
    el(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
      el(
        "table",
        {},
        el(
          "caption",
          {},
          el(
            "span",
            { class: "told" },
            caption,
            here(anchor, caption),
            el(
              "span",
              { class: "note" },
            pages > 1
              ? ` rows ${(at - 1) * PAGE + 1} to ${(at - 1) * PAGE + shown.length} of ${plural(rows.length, "row")}`
              : ` ${plural(rows.length, "row")}`,
            ),
            copyButtons(lines),
          ),
        ),
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            columns.map((column) => head(column, by === column ? direction || "asc" : "", sort)),
          ),
        ),
        el(
          "tbody",
          {},
          shown.map((row) =>
            el(
              "tr",
              {},
              columns.map((column, index) => cell(column, row, index)),
            ),
          ),
        ),
      ),
    ),
    pages > 1
      ? el(
          "p",
          { class: "pager" },
          turn(at - 1, "Previous", at > 1),
          el("span", {}, `Page ${at} of ${pages}`),
          turn(at + 1, "Next", at < pages),
        )
      : null,
  );
}

export function head(column, direction, sort) {
  const kind = column.number ? "number" : undefined;
  if (!column.value) return el("th", { scope: "col", class: kind }, column.label);
  const next = direction === "asc" ? "desc" : direction === "desc" ? null : "asc";
  const spoken = { asc: "ascending", desc: "descending" }[direction] ?? "none";
  const press = () => {
    go(changed({ [sort]: next ? `${column.key} ${next}` : "" }));
  };
  return el(
    "th",
    { scope: "col", class: kind, "aria-sort": spoken },
    el(
      "button",
      { type: "button", id: `${sort}-${column.key}`, click: press },
      column.label,
      el("span", { class: "arrow", "aria-hidden": "true" }, { asc: "▲", desc: "▼" }[direction] ?? ""),
    ),
  );
}

function cell(column, row, index) {
  const content = column.cell ? column.cell(row) : column.text(row);
  const kind = [column.number ? "number" : "", column.kind?.(row) ?? ""].join(" ").trim() || undefined;
  return index ? el("td", { class: kind }, content) : el("th", { scope: "row", class: kind }, content);
}

// Stable; what has no value stands last either way.
export function sorted(rows, value, sign) {
  const keys = new Map(rows.map((row) => [row, value(row)]));
  const missing = (key) => key === null || key === undefined || key === "";
  return [...rows].sort((one, other) => {
    const [a, b] = [keys.get(one), keys.get(other)];
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    return sign * (typeof a === "string" ? natural.compare(a, b) : a - b);
  });
}

export const natural = new Intl.Collator("en", { numeric: true });

// How a verdict looks.
export const KINDS = { regressed: "bad", changed: "bad", refuted: "bad", improved: "good", confirmed: "good" };

// The columns that most views share.
const plainText = (key) => ({ text: (row) => row[key], value: (row) => row[key] });
const amount = (key) => ({ text: (row) => row[`${key}Text`], value: (row) => row[key], number: true });
export const COLUMNS = {
  contender: {
    key: "contender",
    label: "contender",
    ...plainText("contender"),
    cell: (row) => el("code", {}, row.contender),
  },
  task: { key: "task", label: "task", ...plainText("task") },
  workload: { key: "workload", label: "workload", ...plainText("workload") },
  dims: { key: "dims", label: "dimensions", text: (row) => row.dims, value: (row) => row.size },
  spread: {
    key: "spread",
    label: "spread, px",
    ...plainText("spread"),
    value: (row) => (row.spread === "" ? null : Number(row.spread)),
    number: true,
  },
  dtype: { key: "dtype", label: "dtype", ...plainText("dtype") },
  device: { key: "device", label: "device", ...plainText("device") },
  mode: { key: "mode", label: "mode", ...plainText("mode") },
  method: { key: "method", label: "timed by", ...plainText("method") },
  ...Object.fromEntries(quantities.map(({ key, title }) => [key, { key, label: title, ...amount(key) }])),
  verdict: {
    key: "verdict",
    label: "outcome",
    ...plainText("verdict"),
    kind: (row) => (row.outcome === "ok" ? "" : "bad"),
  },
  machine: { key: "machine", label: "machine", ...plainText("machine") },
  again: {
    key: "again",
    label: "measure again",
    text: commandOf,
    cell: (row) =>
      el(
        "button",
        { type: "button", class: "copy", title: commandOf(row), click: () => copy(commandOf(row), "Command") },
        "copy command",
      ),
  },
  run: { key: "run", label: "run", text: (row) => row.runPath, value: (row) => row.runPath },
};
export const FIGURES = offered.map(({ key }) => COLUMNS[key]);
