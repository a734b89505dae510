// Elements without HTML text: what comes from messages is only ever a text node.

/** The element of an id, which index.html has. */
export const find = (id) => document.getElementById(id);

/**
 * Makes an element.
 * @param {string} tag its name.
 * @param {Object} [props] `class`, `on<event>` handlers, properties, or attributes (names with a dash, `role`, `for`).
 * @param {...(Node|string|null)} children text stays text.
 */
export function make(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** One of the icons of index.html. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("class", "i");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** A button that shows an icon and says what it does. */
export function iconButton(name, label, onclick, more = {}) {
  return make("button", { type: "button", class: "icon", "aria-label": label, title: label, onclick, ...more }, icon(name));
}

/** Copies text; the button shows for a moment that it has. */
export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    say("The browser does not let this page copy.");
    return;
  }
  say("Copied");
  const before = [...button.childNodes];
  button.replaceChildren(icon("check"), ...before.filter((node) => node.nodeType === Node.TEXT_NODE));
  setTimeout(() => button.replaceChildren(...before), 1200);
}

/** Tells people who do not look at the screen. */
export function say(text) {
  find("said").textContent = "";
  requestAnimationFrame(() => { find("said").textContent = text; });
}

/** Lets a text field be as high as its text, to a limit that the style sheet sets. */
export function grow(field) {
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
}

/** Opens the page's dialog. */
export function openDialog(title, ...body) {
  find("dialog-title").textContent = title;
  find("dialog-body").replaceChildren(...body);
  find("dialog").showModal();
}

/** A list of names and values. */
export function facts(pairs) {
  const list = make("dl", { class: "facts" });
  for (const [name, value] of pairs) {
    if (value === null || value === undefined || value === "") continue;
    list.append(make("dt", {}, name), make("dd", {}, String(value)));
  }
  return list;
}
