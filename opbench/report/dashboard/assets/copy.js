// What leaves the page, and only when asked: tables as Markdown or CSV, commands, links, and the data as files.
import { el, replace } from "./dom.js";

export function copy(text, what) {
  written(text).then((done) => say(done ? `${what} copied` : `${what} could not be copied: the browser does not allow it`));
}

async function written(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without a secure origin there is only the old way, through a selection.
    const field = el("textarea", { class: "hidden", "aria-hidden": "true" });
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}

let silence = 0;

// A sentence at the edge of the screen, which is read aloud and goes away.
export function say(sentence) {
  const place = document.getElementById("said");
  replace(place, sentence);
  place.classList.add("shown");
  clearTimeout(silence);
  silence = setTimeout(() => place.classList.remove("shown"), 2500);
}

export function save(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = el("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
  say(`${name} saved`);
}

// `lines`: rows of texts, the header first.
function markdownOf([header, ...lines]) {
  const cell = (text) => String(text ?? "").replace(/[\\`*_<>|[\]~$]/g, "\\$&").replace(/\s+/g, " ");
  const row = (texts) => `| ${texts.map(cell).join(" | ")} |`;
  return `${[row(header), `|${header.map(() => " --- |").join("")}`, ...lines.map(row)].join("\n")}\n`;
}

// RFC 4180. A text that a spreadsheet would take for a formula gets an apostrophe before it, as in `opbench export`.
const FORMULA = /(^|;)(\s*)(?=[-=+@＝＋－＠])/g;

export function csvOf(lines) {
  const cell = (value) => {
    if (value === null || value === undefined) return "";
    if (typeof value === "number") return String(value);
    const text = value.replace(FORMULA, "$1'$2");
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return `${lines.map((row) => row.map(cell).join(",")).join("\n")}\n`;
}

// What stands in a table that is drawn: headings and cells as texts, drawings left out.
export function linesOf(table) {
  const text = (node) => {
    const plain = node.cloneNode(true);
    for (const drawn of plain.querySelectorAll("svg, .hidden, .arrow, button.copy")) drawn.remove();
    return plain.textContent.replace(/\s+/g, " ").trim();
  };
  return [...table.rows].map((row) => [...row.cells].map(text));
}

// The buttons of a table's caption. `lines()` gives its rows when one is pressed.
export function copyButtons(lines) {
  const button = (name, made) =>
    el(
      "button",
      {
        type: "button",
        class: "copy",
        title: `Copy this table as ${name}`,
        click: (event) => copy(made(lines(event.target.closest("table"))), `Table as ${name}`),
      },
      name,
    );
  return el("span", { class: "copies" }, button("Markdown", markdownOf), button("CSV", csvOf));
}

// A command with a button that copies it.
export function command(text, attributes = {}) {
  return el(
    "div",
    { class: "command" },
    el("pre", { tabindex: 0, ...attributes }, text),
    el("button", { type: "button", class: "copy", click: () => copy(text, "Command") }, "Copy"),
  );
}
