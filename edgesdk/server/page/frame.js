// What stands around a conversation: the side, the settings, the theme, the list of keys.

import { facts, find, openDialog } from "/page/dom.js";
import { theme } from "/page/shelf.js";

/** Whether the side lies over the conversation. */
export const NARROW = matchMedia("(max-width: 50rem)");

/** Shows or hides the settings, and moves the focus along. */
export function togglePanel(shown) {
  find("panel").hidden = !shown;
  find("show-panel").setAttribute("aria-expanded", String(shown));
  document.body.classList.toggle("with-panel", shown);
  if (shown) find("hide-panel").focus();
  else find("show-panel").focus();
}

/** Shows or hides the conversations. */
export function toggleSide(shown) {
  document.body.classList.toggle("without-side", !shown);
  document.body.classList.toggle("with-side", shown);
  find("show-side").setAttribute("aria-expanded", String(shown));
  find("side").inert = !shown;
}

function applyTheme(value) {
  document.documentElement.dataset.theme = value;
  const label = `Theme: ${value || "system"}`;
  find("theme").setAttribute("aria-label", label);
  find("theme").title = label;
}

/** Shows what keys do. */
export function showKeys() {
  openDialog("Keyboard", facts([
    ["Enter", "sends"], ["Shift+Enter", "begins a line"], ["Esc", "stops the answer; closes what is open"],
    ["Arrow up", "in an empty question: writes the last one anew"], ["Ctrl+Shift+O", "begins a conversation"],
    ["Ctrl+/", "shows this"],
  ]));
}

/** Sets all of it up. */
export function startFrame() {
  applyTheme(theme.read());
  toggleSide(!NARROW.matches);
  NARROW.addEventListener("change", () => toggleSide(!NARROW.matches));
  const on = (id, act) => find(id).addEventListener("click", act);
  on("show-side", () => { toggleSide(true); find("hide-side").focus(); });
  on("hide-side", () => { toggleSide(false); find("show-side").focus(); });
  on("show-panel", () => togglePanel(find("panel").hidden));
  on("hide-panel", () => togglePanel(false));
  on("help", showKeys);
  on("theme", () => {
    const next = { "": "light", light: "dark", dark: "" }[document.documentElement.dataset.theme] ?? "";
    theme.write(next);
    applyTheme(next);
  });
  const overSide = () => { if (NARROW.matches && !find("side").inert) toggleSide(false); };
  document.querySelector("main").addEventListener("click", overSide, true);
}
