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
    tell("The browser does not let this page copy.");
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

/** Tells everybody: a line that is seen for a moment, and said. */
export function tell(text) {
  say(text);
  const line = find("told");
  line.textContent = text;
  line.hidden = false;
  clearTimeout(told);
  told = setTimeout(() => { line.hidden = true; }, 3500);
}

let told = 0;

/**
 * Gives an element other children; those that are the same stay, with their focus, selection and scroll position.
 * @param {Element} element what is changed.
 * @param {Node[]} wanted its children from now on.
 * @param {string} deeper selector of children that are not replaced but given other children.
 */
export function patch(element, wanted, deeper) {
  const there = [...element.childNodes];
  wanted.forEach((node, place) => {
    const old = there[place];
    if (!old) element.append(node);
    else if (old.isEqualNode(node)) return;
    else if (deeper && old instanceof Element && node instanceof Element && old.tagName === node.tagName && old.matches(deeper) && node.matches(deeper)) {
      old.className = node.className;
      patch(old, [...node.childNodes], "");
    } else old.replaceWith(node);
  });
  for (const old of there.slice(wanted.length)) old.remove();
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
