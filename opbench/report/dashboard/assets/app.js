// The page: which view the address names, its filters, and drawing it anew when either changes.
import { el, plural, replace } from "./dom.js";
import { claims, devices, machines, rows, runs, version } from "./data.js";
import { address, state } from "./state.js";
import { drawFilters } from "./filters.js";
import { overview } from "./overview.js";
import { compare } from "./compare.js";
import { shapes } from "./shapes.js";
import { roofline } from "./roofline.js";
import { trends } from "./trends.js";
import { difference } from "./difference.js";
import { proof } from "./proof.js";
import { claimsView } from "./claims.js";
import { devicesView } from "./devices.js";
import { runsView } from "./runs.js";

const VIEWS = {
  overview,
  compare,
  shapes,
  roofline,
  trends,
  difference,
  proof,
  ...(claims.length ? { claims: claimsView } : {}),
  ...(devices.machines.length > 1 || devices.machines.some((one) => one.checked.length) ? { devices: devicesView } : {}),
  runs: runsView,
};
// Filters that mean the same in another view go along when it is opened.
const SHARED = ["task", "workload", "dtype", "device", "machine"];

const main = document.getElementById("main");
const form = document.getElementById("filters");
let drawn = null;

function render() {
  const { view: name, params } = state();
  const key = Object.hasOwn(VIEWS, name) ? name : "overview";
  const view = VIEWS[key];
  const focused = document.activeElement?.id;
  document.title = `${view.name} · opbench`;
  drawViews(key, params);
  drawFilters(view, form);
  const began = performance.now();
  replace(main, el("h2", { class: "hidden" }, view.name), view.draw(Math.max(300, main.clientWidth)));
  main.dataset.view = key;
  main.dataset.milliseconds = String(Math.round(performance.now() - began));
  // A sort button that was pressed is a new element now; the keyboard stays on it.
  if (focused && !document.activeElement?.id) document.getElementById(focused)?.focus({ preventScroll: true });
  if (drawn !== null && drawn !== key) scrollTo(0, 0);
  drawn = key;
}

function drawViews(current, params) {
  const kept = Object.fromEntries(SHARED.filter((name) => params.has(name)).map((name) => [name, params.get(name)]));
  replace(
    document.getElementById("views"),
    Object.entries(VIEWS).map(([key, { name }]) =>
      el("li", {}, el("a", { href: address(key, kept), "aria-current": key === current ? "page" : undefined }, name)),
    ),
  );
}

const newest = runs.at(-1);
replace(
  document.getElementById("scope"),
  `${plural(runs.length, "run")} of ${plural(machines.length, "machine")}, ${plural(rows.length, "row")}; the newest: ${newest.suite} on ${newest.machine}`,
);
replace(
  document.getElementById("footer"),
  `opbench ${version}. Every number here comes from a run document; the view “Runs” names each, with the command that measures it again.`,
);
form.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

let width = innerWidth;
let waiting = 0;
addEventListener("resize", () => {
  if (innerWidth === width) return;
  width = innerWidth;
  clearTimeout(waiting);
  waiting = setTimeout(render, 150);
});
addEventListener("hashchange", render);
render();
