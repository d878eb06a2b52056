// The page: which view the address names, its filters, and drawing it anew when either changes.
import { begin, el, plural, replace } from "./dom.js";
import { claims, devices, machines, rows, runs, version } from "./data.js";
import { address, state } from "./state.js";
import { copy } from "./copy.js";
import { downloads } from "./downloads.js";
import { themeSwitch } from "./theme.js";
import { readouts } from "./readout.js";
import { drawFilters, pinned } from "./filters.js";
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
let shownView = null;
let unfolded = "";

function render() {
  const { view: name, params } = state();
  const key = Object.hasOwn(VIEWS, name) ? name : "overview";
  const view = VIEWS[key];
  const focused = document.activeElement?.id;
  document.title = `${view.name} · opbench`;
  drawViews(key, params);
  drawFilters(view, form);
  begin();
  delete document.documentElement.dataset.elsewhere;
  if (shownView !== view) unfolded = "";
  shownView = view;
  fold();
  const began = performance.now();
  replace(main, el("h2", { class: "hidden" }, view.name), view.draw(Math.max(300, main.clientWidth)));
  main.dataset.view = key;
  main.dataset.milliseconds = String(Math.round(performance.now() - began));
  // A sort button that was pressed is a new element now; the keyboard stays on it.
  if (focused && !document.activeElement?.id) document.getElementById(focused)?.focus({ preventScroll: true });
  if (drawn !== null && drawn !== key) scrollTo(0, 0);
  if (params.has("at")) reach(params.get("at"));
  drawn = key;
}

// What the address points at, even if it is among what is not drawn yet.
function reach(anchor) {
  const found = () => document.getElementById(`at-${anchor}`);
  for (let more; !found() && (more = main.querySelector("button.more")); ) more.click();
  found()?.scrollIntoView({ block: "start" });
}

// On a phone the views and the filters are folded away until they are asked for.
const FOLDS = { views: "Views", filters: "Filters" };

function fold() {
  const folds = Object.entries(FOLDS).map(([id, name]) => {
    const open = id === unfolded;
    document.getElementById(id).classList.toggle("unfolded", open);
    if (id === "filters") document.getElementById("machines").classList.toggle("unfolded", open);
    const words = id === "views" ? (shownView?.name ?? name) : name;
    return el(
      "button",
      {
        type: "button",
        id: `fold-${id}`,
        "aria-expanded": String(open),
        "aria-controls": id,
        hidden: id === "filters" && form.hidden,
        click: () => {
          unfolded = open ? "" : id;
          fold();
        },
      },
      `${words} ${open ? "▴" : "▾"}`,
    );
  });
  const focused = document.activeElement?.id;
  replace(document.getElementById("folds"), folds);
  if (focused?.startsWith("fold-")) document.getElementById(focused)?.focus();
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
  downloads(),
  `opbench ${version}. Every number here comes from a run document; the view “Runs” names each, with the command that measures it again.`,
);
const link = () => copy(new URL(pinned(shownView), location.href).href, "Link to what is shown");
replace(
  document.getElementById("actions"),
  el("button", { type: "button", id: "link", click: link }, "Copy link"),
  themeSwitch(),
);
readouts(main);
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
