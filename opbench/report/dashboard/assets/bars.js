// Bars with the whiskers of their intervals: contenders down the side, a quantity along the bottom.
import { figure, shorten, svg, widthOf } from "./dom.js";
import { fewestRounds, offered, styles, subjectOf } from "./data.js";
import { extent, scale, tick } from "./scales.js";

// What can be drawn of a row. A ratio is on a log axis from 1; the rest are amounts from 0.
export const METRICS = Object.fromEntries(
  offered.map(({ key, label, unit }) => [key, { label, value: key, text: `${key}Text`, unit, log: key === "ratio" }]),
);

export const BOLD = "600 12px system-ui, sans-serif";

export function speedOf(row) {
  if (row.base || !row.decided || row.low === null || row.high === null) return "undecided";
  return row.high < 1 ? "faster" : row.low > 1 ? "slower" : "undecided";
}

// Domain of ratios that always holds 1 and some air around it.
export function ratioDomain(rows) {
  const ends = extent(rows.flatMap((row) => [row.ratio, clip(row.low, row.ratio), clip(row.high, row.ratio)]));
  const [low, high] = ends ?? [1, 1];
  return [Math.min(0.8, Math.max(low, 1e-9) / 1.1), Math.max(1.25, high * 1.1)];
}

// A very wide interval is cut where the picture still shows the rest.
function clip(end, value) {
  if (end === null || !(value > 0)) return value;
  return Math.min(Math.max(end, value / 10), value * 10);
}

export function ratioMark(row, x, y, height, style) {
  if (!(row.ratio > 0)) return null;
  if (row.base) return svg("path", { d: `M${x(1)},${y - 4}l4,4l-4,4l-4,-4Z`, class: "baseline" });
  const [from, to] = [x(1), x(row.ratio)];
  const parts = [
    svg("rect", {
      x: Math.min(from, to),
      y: y - height / 2,
      width: Math.max(1, Math.abs(to - from)),
      height,
      class: `bar c${style.colour % 7} ${speedOf(row)}`,
    }),
  ];
  if (row.low !== null && row.high !== null) {
    const [low, high] = [x(clip(row.low, row.ratio)), x(clip(row.high, row.ratio))];
    parts.push(svg("path", { d: `M${low},${y}H${high}M${low},${y - 4}v8M${high},${y - 4}v8`, class: "whisker" }));
  }
  return parts;
}

export function barChart(rows, metric, { title, note, width, nameOf = (row) => row.contender, label }) {
  const of = METRICS[metric];
  const looks = styles(rows.map((row) => row.contender));
  // Among the implementations of one operator alone nothing stands out.
  const several = new Set(rows.map((row) => row.operator)).size > 1;
  const accented = (row) => several && subjectOf(row.operator) !== "";
  // On a phone the interval is left to the whiskers, and to whoever taps the bar.
  const narrow = width < 520;
  const names = rows.map((row) => shorten(nameOf(row), Math.min(260, width * 0.36)));
  const left = Math.ceil(Math.max(...names.map((name) => widthOf(name, BOLD)), 40)) + 12;
  const texts = rows.map((row) => shorten(narrow ? row[of.text].replace(/ \[.*/, "") : row[of.text], 230));
  const right = Math.ceil(Math.max(...texts.map((text) => widthOf(text)), 20)) + 14;
  const step = 22;
  const top = 4;
  const bottom = top + rows.length * step;
  const to = Math.max(left + 60, width - right);
  const largest = extent(rows.map((row) => row[of.value]))?.[1] || 1;
  const [low, high] = of.log ? ratioDomain(rows) : [0, largest * 1.02];
  const x = scale({ low, high, from: left, to, log: of.log, unit: of.unit });
  const ticks = x.ticks.filter(spaced(x, (value) => tick(value, of.unit)));
  return figure(
    {
      title,
      note: [
        of.label +
          (of.log
            ? ` (log scale): left of 1x is faster; pale: undecided, as is what has fewer than ${fewestRounds} rounds; whiskers: intervals`
            : ""),
        note,
      ]
        .filter(Boolean)
        .join(" · "),
      width: to + right,
      height: bottom + 24,
      label: label ?? rows.map((row) => `${nameOf(row)}: ${row[of.text]}`).join("; "),
    },
    ticks.map((value) => [
      svg("path", { d: `M${x(value)},${top}V${bottom}`, class: value === 1 && of.log ? "one" : "grid" }),
      svg("text", { x: x(value), y: bottom + 15, "text-anchor": "middle", class: "tick" }, tick(value, of.unit)),
    ]),
    of.log ? svg("path", { d: `M${x(1)},${top}V${bottom}`, class: "one" }) : null,
    rows.map((row, index) => {
      const y = top + step * (index + 0.5);
      const value = row[of.value];
      return svg(
        "g",
        {},
        svg("title", {}, `${nameOf(row)}: ${row[of.text]}${row.message ? ` (${row.message})` : ""}`),
        svg("rect", { x: 0, y: y - step / 2, width: to + right, height: step, class: accented(row) ? "hit accent" : "hit" }),
        svg("text", { x: left - 8, y: y + 4, "text-anchor": "end", class: accented(row) ? "label accented" : "label" }, names[index]),
        of.log
          ? ratioMark(row, x, y, 12, looks.get(row.contender))
          : value === null
            ? null
            : svg("rect", { x: x(0), y: y - 6, width: Math.max(1, x(value) - x(0)), height: 12, class: `bar c${looks.get(row.contender).colour % 7}` }),
        svg("text", { x: to + 8, y: y + 4, class: value === null ? "value missing" : "value" }, texts[index]),
      );
    }),
  );
}

// Keeps the tick labels that don't run into the one before.
export function spaced(place, label) {
  let last = -Infinity;
  return (value) => {
    const half = widthOf(label(value)) / 2 + 4;
    if (place(value) - half < last) return false;
    last = place(value) + half;
    return true;
  };
}

// A small drawing inside a table cell; the number stands in the next cell.
export function spark(row, [low, high], width = 150) {
  const x = scale({ low, high, from: 6, to: width - 6, log: true });
  return svg(
    "svg",
    { width, height: 18, viewBox: `0 0 ${width} 18`, class: "spark", "aria-hidden": "true" },
    svg("path", { d: `M${x(1)},0V18`, class: "one" }),
    row.ratio > 0 ? ratioMark(row, x, 9, 9, styles([row.contender]).get(row.contender)) : null,
  );
}
