// One series drawn over its runs: levels, steps with their size, spikes, failures and the versions that changed.
import { el, shorten, svg } from "./dom.js";
import { moments, quantities, shortCommit, styles, when } from "./data.js";
import { frame } from "./plots.js";
import { mark } from "./scales.js";

export const QUANTITIES = Object.fromEntries(
  quantities.filter((one) => one.trend).map(({ trend, label, unit, log }) => [trend, { label, unit, log }]),
);

export function timeline(one, width) {
  const of = QUANTITIES[one.quantity];
  const xs = one.at.map((_, index) => index);
  const values = [...one.value, ...one.low, ...one.high].filter((value) => value !== null);
  const spread = Math.max(...values) / Math.min(...values);
  const log = of.log && Math.min(...values) > 0 && spread > 1.5;
  const known = xs.filter((x) => one.value[x] !== null);
  const style = styles([one.contender]).get(one.contender);
  const facts = [
    one.machine,
    one.suite,
    one.method,
    one.quantity === "ratio" ? `against ${one.baseline}` : "",
    one.redefined ? `${one.redefined} older runs of another definition left out` : "",
  ];
  return el(
    "div",
    {},
    frame(
      {
        title: `${one.case}: ${of.label}`,
        note: facts.filter(Boolean).join(" · "),
        width,
        height: 320,
        label: one.moments.map((moment, index) => `${when(moment)}: ${one.texts[index]}`).join("; "),
        x: {
          label: "runs, oldest first: commit",
          values: [...xs, -0.5, xs.length - 0.5],
          tight: true,
          ticks: xs,
          name: (index) => shortCommit(one.moments[index]),
        },
        y: { label: of.label, values, unit: of.unit, log, air: 1.08 },
      },
      (px, py, { top, bottom, left, right }) => [
        xs
          .filter((x) => x && changesBetween(one, x).length)
          .map((x) => marker(px(x - 0.5), top, bottom, left, changesBetween(one, x))),
        levels(one, xs).map(({ from, to, level }) =>
          level === null ? null : svg("path", { d: `M${px(from - 0.4)},${py(level)}H${px(to + 0.4)}`, class: "level" }),
        ),
        one.low.length
          ? svg("path", {
              d: `M${known.map((x) => `${px(x)},${py(one.high[x] ?? one.value[x])}`).join("L")}L${[...known]
                .reverse()
                .map((x) => `${px(x)},${py(one.low[x] ?? one.value[x])}`)
                .join("L")}Z`,
              class: `band c${style.colour % 7}`,
            })
          : null,
        svg("path", { d: `M${known.map((x) => `${px(x)},${py(one.value[x])}`).join("L")}`, class: `line c${style.colour % 7}` }),
        one.steps.map((step) => [
          svg(
            "path",
            { d: `M${px(step.at)},${top}V${bottom}`, class: step.ratio > 1 ? "step worse" : "step better" },
            svg("title", {}, `${step.share}: ${step.text}`),
          ),
          svg(
            "text",
            {
              x: px(step.at) + (px(step.at) > right - 90 ? -6 : 6),
              y: top + 12,
              class: "step-text",
              "text-anchor": px(step.at) > right - 90 ? "end" : "start",
            },
            `${step.ratio > 1 ? "▲" : "▼"} ${step.share}`,
          ),
        ]),
        known.map((x) => {
          const spike = one.spikes.includes(x) || one.undecided.includes(x);
          return svg(
            "g",
            {},
            spike ? svg("circle", { cx: px(x), cy: py(one.value[x]), r: 9, class: "ring" }) : null,
            svg("path", mark(style, px(x), py(one.value[x]), known.length > 80 ? 2 : 4)),
            svg("title", {}, said(one, x)),
          );
        }),
        xs
          .filter((x) => one.value[x] === null)
          .map((x) =>
            svg(
              "text",
              { x: px(x), y: bottom - 4, class: "bad-mark", "text-anchor": "middle" },
              "✕",
              svg("title", {}, said(one, x)),
            ),
          ),
      ],
    ),
    el(
      "p",
      { class: "note" },
      `${one.low.length ? `Band: ${one.quantity === "ratio" ? "95 % interval of each run" : "quartiles of each run's samples"}. ` : ""}Vertical line: a step that lasted at least three runs, with its size; short lines: the level between steps. Ring: a spike, or an end that may yet prove a step. ✕: the run has no figure. Dotted line: versions changed, as its label says.`,
    ),
  );
}

const said = (one, x) =>
  `${when(one.moments[x])}, ${shortCommit(one.moments[x])}: ${one.texts[x]}${one.spikes.includes(x) ? " (spike)" : one.undecided.includes(x) ? " (spike, or the start of a step)" : ""}`;

// Versions that changed at any run of the machine after the point before and up to this one.
function changesBetween(one, x) {
  const found = [];
  for (let at = one.at[x - 1] + 1; at <= one.at[x]; at += 1)
    if (moments[at].machine === one.machine) found.push(...moments[at].changed);
  return [...new Set(found)];
}

function marker(x, top, bottom, left, changes) {
  const label = changes.length > 1 ? `${changes[0]} and ${changes.length - 1} more` : changes[0];
  const end = x > left + 160;
  return svg(
    "g",
    { class: "marker" },
    svg("title", {}, changes.join(", ")),
    svg("path", { d: `M${x},${top}V${bottom}` }),
    svg("text", { x: x + (end ? -5 : 5), y: bottom - 6, "text-anchor": end ? "end" : "start" }, shorten(label, 150)),
  );
}

function levels(one, xs) {
  if (!one.steps.length) return [];
  const cuts = [0, ...one.steps.map((step) => step.at), xs.length];
  const values = [one.steps[0].before, ...one.steps.map((step) => step.after)];
  return values.map((level, index) => ({ from: cuts[index], to: cuts[index + 1] - 1, level }));
}
