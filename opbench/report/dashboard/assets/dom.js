// Elements by name. Text reaches the page as text nodes and attribute values only, so that nothing in it is markup.
import { address, state } from "./state.js";

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child !== undefined && child !== null && child !== false) {
      node.append(child instanceof Node ? child : document.createTextNode(String(child)));
    }
  }
  return node;
}

export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

export function replace(node, ...children) {
  node.replaceChildren();
  return fill(node, {}, children);
}

export function plural(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

const pen = document.createElement("canvas").getContext("2d");

export function widthOf(text, font = "12px system-ui, sans-serif") {
  pen.font = font;
  return pen.measureText(text).width;
}

export function shorten(text, room) {
  if (widthOf(text) <= room) return text;
  let kept = text.length;
  while (kept > 1 && widthOf(`${text.slice(0, kept)}…`) > room) kept = Math.floor(kept * 0.9);
  return `${text.slice(0, kept)}…`;
}

let taken = new Map();

// Before a view is drawn: no place of it has a name yet.
export function begin() {
  taken = new Map();
}

// A name for a place of the page, which stands in its address: "#compare?at=cases".
export function anchorOf(title) {
  const plain = title.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 80);
  const times = (taken.get(plain) ?? 0) + 1;
  taken.set(plain, times);
  return times === 1 ? plain : `${plain}-${times}`;
}

// The link to a figure or a table, which is also the address of what is filtered and sorted around it.
export function here(anchor, title) {
  const { view, params } = state();
  params.set("at", anchor);
  return el("a", { class: "here", href: address(view, params), "aria-label": `Link to ${title}` }, "#");
}

let drawings = 0;

// A drawing with its title and description for those who don't see it; the table beside it holds the same numbers.
export function figure({ title, note, width, height, label }, ...parts) {
  const id = `figure-${(drawings += 1)}`;
  const anchor = anchorOf(title);
  return el(
    "figure",
    { id: `at-${anchor}` },
    el("figcaption", {}, el("strong", {}, title, here(anchor, title)), note ? el("span", { class: "note" }, note) : null),
    svg(
      "svg",
      { role: "img", "aria-labelledby": `${id}-title ${id}-desc`, viewBox: `0 0 ${width} ${height}`, width, height },
      svg("title", { id: `${id}-title` }, title),
      svg("desc", { id: `${id}-desc` }, label || note || title),
      parts,
    ),
    el("p", { class: "readout", "aria-live": "polite" }),
  );
}

export function empty(sentence) {
  return el("p", { class: "empty", role: "status" }, sentence);
}

// What is drawn up to `step` at a time: a thousand tables at once would hold the page up.
export function gradually(items, step, draw, what) {
  const box = el("div");
  const list = el("div", { class: "list" });
  const more = el("button", { type: "button", class: "more", click: next });
  let drawn = 0;
  function next() {
    for (const item of items.slice(drawn, drawn + step)) list.append(draw(item));
    drawn = Math.min(items.length, drawn + step);
    more.textContent = `Show ${Math.min(step, items.length - drawn)} more of ${plural(items.length - drawn, what)} not drawn yet`;
    if (drawn >= items.length) more.remove();
  }
  box.append(list, more);
  next();
  return box;
}
