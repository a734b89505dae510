// The list of conversations.

import { find, iconButton, make } from "/page/dom.js";

const DAY_MS = 86_400_000;

/**
 * Shows the conversations.
 * @param {Object[]} chats the one that changed last first.
 * @param {string} current id of the one that is shown.
 * @param {Object} actions what buttons do: open, remove, save.
 */
export function showChats(chats, current, actions) {
  const list = find("chats");
  const rows = [];
  let group = "";
  for (const chat of chats) {
    const of = groupOf(chat.updated);
    if (of !== group) rows.push(make("li", { class: "group" }, of));
    group = of;
    const title = chat.title || "New chat";
    const open = make("button", { type: "button", class: "open", onclick: () => actions.open(chat.id), title, dir: "auto" }, title);
    if (chat.id === current) open.setAttribute("aria-current", "page");
    rows.push(make("li", { class: chat.id === current ? "chat current" : "chat" }, open,
      make("span", { class: "do" },
        iconButton("save", `Save ${title} as a file`, () => actions.save(chat)),
        iconButton("trash", `Delete ${title}`, () => actions.remove(chat)))));
  }
  list.replaceChildren(...rows);
}

function groupOf(then) {
  const today = new Date().setHours(0, 0, 0, 0);
  if (then >= today) return "Today";
  if (then >= today - DAY_MS) return "Yesterday";
  if (then >= today - 6 * DAY_MS) return "This week";
  return "Earlier";
}

/** Hands a conversation to the user as a file. */
export function saveFile(chat) {
  const url = URL.createObjectURL(new Blob([JSON.stringify(chat, null, 2)], { type: "application/json" }));
  const name = (chat.title || "chat").toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 50).replace(/^-|-$/g, "") || "chat";
  make("a", { href: url, download: `${name}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
