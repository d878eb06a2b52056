// Light, dark, or as the system is. The choice is kept by the browser, where it keeps anything for a page.
import { el, replace } from "./dom.js";

const THEMES = ["auto", "light", "dark"];
const KEY = "opbench-theme";

function kept() {
  try {
    const found = localStorage.getItem(KEY);
    return THEMES.includes(found) ? found : "auto";
  } catch {
    return "auto"; // a browser may refuse a file its memory
  }
}

export function themeSwitch() {
  const button = el("button", { type: "button", id: "theme" });
  let theme = kept();
  const show = () => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    replace(button, `Theme: ${theme}`);
  };
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // then for as long as the page is open
    }
    show();
  });
  show();
  return button;
}
