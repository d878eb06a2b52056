// Numbers to places, and round numbers for an axis.

const tidy = (value) => Number(value.toPrecision(6));

export function logTicks(low, high) {
  const decades = Math.log10(high) - Math.log10(low);
  if (decades < 0.5) return linearTicks(low, high).filter((value) => value >= low && value <= high);
  const mantissas = decades < 1 ? [1, 2, 3, 5, 7] : decades < 2.7 ? [1, 2, 5] : [1];
  const step = Math.max(1, Math.ceil(decades / 7));
  const values = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += step) {
    for (const mantissa of mantissas) values.push(tidy(mantissa * 10 ** power));
  }
  return values.filter((value) => value >= low && value <= high);
}

export function linearTicks(low, high, count = 5) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((nice) => nice * power).find((nice) => nice >= rough * 0.8) ?? rough;
  const values = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high * (1 + 1e-9); index += 1)
    values.push(tidy(index * step));
  return values;
}

// Memory comes in powers of two; so do the round numbers of its axis.
function byteTicks(low, high, log) {
  if (!log) {
    const unit = 1024 ** Math.min(4, Math.max(0, Math.floor(Math.log2(Math.max(high, 1)) / 10)));
    return linearTicks(low / unit, high / unit).map((value) => value * unit);
  }
  const powers = Math.log2(high / low);
  const step = Math.max(1, Math.ceil(powers / 8));
  const values = [];
  for (let power = Math.ceil(Math.log2(low)); power <= Math.log2(high); power += step) values.push(2 ** power);
  return values;
}

export function scale({ low, high, from, to, log = false, unit = "" }) {
  const f = log ? Math.log : (value) => value;
  const [a, b] = [f(low), f(high)];
  const place = (value) => from + ((f(Math.min(Math.max(value, low), high)) - a) / (b - a || 1)) * (to - from);
  place.ticks = unit === "B" ? byteTicks(low, high, log) : log ? logTicks(low, high) : linearTicks(low, high);
  return place;
}

const PREFIXES = [
  [1e15, "P"],
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
  [1, ""],
  [1e-3, "m"],
  [1e-6, "µ"],
  [1e-9, "n"],
];

// The label of a tick: a round number, so few digits. `unit` takes a decimal prefix; bytes take a binary one.
export function tick(value, unit = "") {
  if (value === 0) return unit === "B" ? "0 B" : `0 ${unit}`.trim();
  if (unit === "B") {
    const power = Math.min(4, Math.max(0, Math.floor(Math.log2(Math.abs(value)) / 10)));
    return `${tidy3(value / 1024 ** power)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
  }
  if (unit === "plain") return tidy3(value);
  if (unit === "x") return `${tidy3(value)}x`;
  const [step, prefix] = PREFIXES.find(([step]) => Math.abs(value) >= step * 0.9999) ?? [1, ""];
  return `${tidy3(value / step)} ${prefix}${unit}`.trim();
}

const tidy3 = (value) => String(Number(value.toPrecision(3)));

export function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return low <= high ? [low, high] : null;
}

// The shapes of marks, in the order of opbench.report.marks; the style sheet has its colours, a light and a dark set.
const SHAPES = [
  (x, y, r) => `M${x - r},${y}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0Z`,
  (x, y, r) => `M${x - r * 0.9},${y - r * 0.9}h${r * 1.8}v${r * 1.8}h${-r * 1.8}Z`,
  (x, y, r) => `M${x},${y - r * 1.15}L${x + r * 1.1},${y + r * 0.85}H${x - r * 1.1}Z`,
  (x, y, r) => `M${x},${y - r * 1.25}L${x + r * 1.25},${y}L${x},${y + r * 1.25}L${x - r * 1.25},${y}Z`,
  (x, y, r) => `M${x},${y + r * 1.15}L${x + r * 1.1},${y - r * 0.85}H${x - r * 1.1}Z`,
  (x, y, r) =>
    `M${x - r * 1.2},${y - r * 0.45}h${r * 0.75}v${-r * 0.75}h${r * 0.9}v${r * 0.75}h${r * 0.75}v${r * 0.9}h${-r * 0.75}v${r * 0.75}h${-r * 0.9}v${-r * 0.75}h${-r * 0.75}Z`,
];

export function mark({ colour, shape, variant }, x, y, r = 4.5) {
  return { d: SHAPES[shape % SHAPES.length](x, y, r), class: `mark c${colour % 7} v${variant}` };
}
