// Drawings with two axes: lines over a dimension, points under a roof, a quantity over runs.
import { figure, shorten, svg, widthOf } from "./dom.js";
import { extent, mark, scale, tick } from "./scales.js";
import { BOLD, spaced } from "./bars.js";

// A frame with axes: `x` and `y` are {values, label, unit, log, ticks, names}. `draw` gets the scales.
export function frame({ title, note, width, height = 300, x, y, label, legend = [] }, draw) {
  const [yLow, yHigh] = domain(y);
  const yTicks = scale({ low: yLow, high: yHigh, from: 1, to: 0, log: y.log, unit: y.unit }).ticks;
  const left = Math.ceil(Math.max(...yTicks.map((value) => widthOf(tick(value, y.unit))), 24)) + 14;
  const [xLow, xHigh] = domain(x);
  const inside = { left, right: width - 14, top: 22, bottom: height - 42 };
  const px = scale({ low: xLow, high: xHigh, from: inside.left, to: inside.right, log: x.log, unit: x.unit });
  const py = scale({ low: yLow, high: yHigh, from: inside.bottom, to: inside.top, log: y.log });
  const named = x.name ?? ((value) => tick(value, x.unit));
  const xTicks = (x.ticks ?? px.ticks).filter(spaced(px, named));
  const rows = legendRows(legend, width);
  const logs = (axis) => (axis.log ? `${axis.label} (log scale)` : axis.label);
  return figure(
    { title, note, width, height: height + rows.length * 18, label },
    xTicks.map((value) => [
      svg("path", { d: `M${px(value)},${inside.top}V${inside.bottom}`, class: "grid" }),
      svg("text", { x: px(value), y: inside.bottom + 15, "text-anchor": "middle", class: "tick" }, named(value)),
    ]),
    yTicks.map((value) => [
      svg("path", { d: `M${inside.left},${py(value)}H${inside.right}`, class: "grid" }),
      svg("text", { x: inside.left - 6, y: py(value) + 4, "text-anchor": "end", class: "tick" }, tick(value, y.unit)),
    ]),
    svg(
      "text",
      { x: (inside.left + inside.right) / 2, y: height - 8, "text-anchor": "middle", class: "axis" },
      logs(x),
    ),
    svg("text", { x: 2, y: 12, class: "axis" }, logs(y)),
    draw(px, py, inside),
    rows.map((entries, line) =>
      entries.map(({ name, style, at }) => [
        svg("path", mark(style, at + 6, height + line * 18 + 6)),
        svg("text", { x: at + 16, y: height + line * 18 + 10, class: style.subject ? "label accented" : "label" }, name),
      ]),
    ),
  );
}

function domain(axis) {
  const [low, high] = extent(axis.values) ?? [1, 1];
  if (axis.log) return [low / (axis.air ?? 1.4), high * (axis.air ?? 1.4)];
  if (axis.tight) return [low, high];
  const air = (high - low || Math.abs(high) || 1) * 0.08;
  return axis.zero ? [0, high + air] : [low - air, high + air];
}

function legendRows(legend, width) {
  const rows = [];
  let at = Infinity;
  for (const { name, style } of legend) {
    const kept = shorten(name, 240);
    const wide = (style.subject ? widthOf(kept, BOLD) : widthOf(kept)) + 32;
    if (at + wide > width) {
      rows.push([]);
      at = 4;
    }
    rows.at(-1).push({ name: kept, style, at });
    at += wide;
  }
  return rows;
}

// Points, and lines through those that differ in one dimension alone: `series` of {name, style, points: [{x, y, text}]}.
// What differs in other dimensions too is not `joined`: a line would say how the time grows, and nothing does.
export function lines({ series, joined = true, ...options }) {
  const every = series.flatMap((one) => one.points);
  const axes = {
    x: { ...options.x, values: every.map((point) => point.x) },
    y: { ...options.y, values: every.map((point) => point.y) },
  };
  return frame({ ...options, ...axes, legend: series }, (px, py) =>
    series.map((one) => [
      joined && one.points.length > 1
        ? svg("path", {
            d: `M${one.points.map((point) => `${px(point.x)},${py(point.y)}`).join("L")}`,
            class: `line c${one.style.colour % 7} v${one.style.variant}`,
          })
        : null,
      one.points.map((point) =>
        svg("path", mark(one.style, px(point.x), py(point.y)), svg("title", {}, `${one.name}: ${point.text}`)),
      ),
    ]),
  );
}

// Points under what the machine reached: `roofs` of {copy, matmul}, bytes and MACs a second.
export function roof({ series, roofs, ...options }) {
  const every = series.flatMap((one) => one.points);
  const ridges = roofs.map(({ copy, matmul }) => matmul / copy);
  const xs = [
    ...every.map((point) => point.x),
    ...ridges.map((ridge) => ridge * 4),
    ...ridges.map((ridge) => ridge / 8),
  ];
  const [low, high] = extent(xs).map((value, index) => (index ? value * 1.5 : value / 1.5));
  const under = ({ copy, matmul }, at) => Math.min(at * copy, matmul);
  const ys = [...every.map((point) => point.y), ...roofs.flatMap((one) => [under(one, low), one.matmul])];
  return frame(
    {
      ...options,
      x: { label: "MACs per byte of least traffic", values: [low, high], log: true, air: 1, unit: "plain" },
      y: { label: "MACs per second (1 MAC = 2 FLOPs)", values: ys, log: true, unit: "" },
      legend: series,
    },
    (px, py) => [
      roofs.map((one) => {
        const ridge = one.matmul / one.copy;
        const corners = [low, ridge, high].map((at) => `${px(at)},${py(under(one, at))}`);
        return svg("path", { d: `M${corners.join("L")}`, class: "roof" }, svg("title", {}, one.name));
      }),
      series.map((one) =>
        one.points.map((point) =>
          svg("path", mark(one.style, px(point.x), py(point.y)), svg("title", {}, `${one.name}: ${point.text}`)),
        ),
      ),
    ],
  );
}
