// Conversations in the browser's own storage, one entry each, so that tabs do not write over each other.

import { readConversation } from "/page/conversation.js";

const PREFIX = "edgesdk.chat.1.";
const LAST = "edgesdk.last.1";
const THEME = "edgesdk.theme.1";

/** What was asked of the storage that it cannot do, once; null while all is well. */
export let trouble = null;

/** Kept conversations, the one that changed last first. */
export function allConversations() {
  const found = [];
  for (const key of keys()) {
    const chat = load(key.slice(PREFIX.length));
    if (chat) found.push(chat);
  }
  return found.sort((a, b) => b.updated - a.updated);
}

/** One conversation, or null. */
export function load(id) {
  try {
    return readConversation(JSON.parse(localStorage.getItem(PREFIX + id)));
  } catch {
    return null;
  }
}

/** Keeps a conversation; what does not fit is said, and stays on the page. */
export function keep(chat) {
  try {
    localStorage.setItem(PREFIX + chat.id, JSON.stringify(chat));
    trouble = null;
  } catch (error) {
    trouble = error.name === "QuotaExceededError"
      ? "The browser's storage is full: this conversation is not kept. Delete old ones."
      : "The browser lets this page keep nothing: conversations go with the tab.";
  }
}

/** Forgets a conversation. */
export function forget(id) {
  try {
    localStorage.removeItem(PREFIX + id);
  } catch { /* nothing is kept then */ }
}

/** Calls back when another tab has changed something. */
export function watch(changed) {
  addEventListener("storage", (event) => {
    if (event.key === null || event.key.startsWith(PREFIX)) changed(event.key === null ? null : event.key.slice(PREFIX.length));
  });
}

/** The conversation that this tab shows, and settings for the next. */
export const last = {
  read() {
    try {
      const found = JSON.parse(localStorage.getItem(LAST));
      return typeof found === "object" && found !== null ? found : {};
    } catch {
      return {};
    }
  },
  write(value) {
    try {
      localStorage.setItem(LAST, JSON.stringify(value));
    } catch { /* the next conversation begins without */ }
  },
};

/** `light`, `dark`, or empty for the system's. */
export const theme = {
  read() {
    try {
      return localStorage.getItem(THEME) ?? "";
    } catch {
      return "";
    }
  },
  write(value) {
    try {
      localStorage.setItem(THEME, value);
    } catch { /* it lasts until the page is left */ }
  },
};

function keys() {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
  } catch {
    return [];
  }
}
