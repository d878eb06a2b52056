// Charts answer: the mark nearest to the mouse, or to the finger that tapped, says its numbers below the chart.
import { replace } from "./dom.js";

// How far, in pixels of the screen, a finger may be from the mark that it means.
const REACH = 44;

export function readouts(main) {
  main.addEventListener("pointermove", respond);
  main.addEventListener("pointerdown", respond);
}

function respond(event) {
  const drawing = event.target.closest?.("figure > svg");
  if (!drawing) return;
  const found = nearest(drawing, event.clientX, event.clientY);
  drawing.querySelector(".picked")?.classList.remove("picked");
  const place = drawing.parentNode.querySelector(".readout");
  if (!found) {
    replace(place);
    return;
  }
  found.classList.add("picked");
  replace(place, found.querySelector(":scope > title").textContent);
}

function nearest(drawing, x, y) {
  let best = null;
  let least = REACH;
  for (const title of drawing.querySelectorAll(":scope * > title")) {
    const box = title.parentNode.getBoundingClientRect();
    const [dx, dy] = [Math.max(box.left - x, 0, x - box.right), Math.max(box.top - y, 0, y - box.bottom)];
    // Of marks that lie over each other the smaller one is meant.
    const distance = Math.hypot(dx, dy) + Math.min(box.width * box.height, 1e6) * 1e-6;
    if (distance < least) [best, least] = [title.parentNode, distance];
  }
  return best;
}
