// A conversation is a tree: whoever edits a question or asks again gets a branch, and nothing is lost.
//
// Each message has one parent; of the children of a message one is chosen, and the chosen ones from the root
// down are what is shown and sent. The server's prefix tree lets branches share their cells.

export const ROOT = "root";

/** Settings of a new conversation. */
export const NO_SETTINGS = Object.freeze({
  system: "", temperature: "", top_p: "", max_tokens: "", seed: "", thinking: "", thinking_tokens: "",
  use_schema: false, schema: "", use_tools: false, tools: "", tool_choice: "",
});

const MOST_NODES = 5000;
const LONGEST_TITLE = 80;
const ROLES = ["user", "assistant", "tool"];
const STATES = ["done", "stopped", "failed"];

/** A conversation without messages. */
export function newConversation(model = "", settings = NO_SETTINGS) {
  const now = Date.now();
  return { id: newId(), title: "", created: now, updated: now, model, settings: { ...NO_SETTINGS, ...settings }, nodes: {}, chosen: {} };
}

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  return [...bytes].map((byte) => byte.toString(36).padStart(2, "0")).join("");
}

/**
 * Adds a message below another and chooses it.
 * @param {Object} chat the conversation.
 * @param {string} parent id of a message, or ROOT.
 * @param {Object} message its role and whatever else it has.
 */
export function add(chat, parent, message) {
  const node = { id: newId(), parent, at: Date.now(), content: "", state: "done", ...message };
  chat.nodes[node.id] = node;
  chat.chosen[parent] = node.id;
  chat.updated = Date.now();
  if (!chat.title && node.role === "user") {
    const title = node.content.trim().replace(/\s+/g, " ");
    chat.title = title.length > LONGEST_TITLE ? `${title.slice(0, LONGEST_TITLE - 1)}…` : title;
  }
  return node;
}

/** The messages below one, in the order in which they came. */
export function children(chat, parent) {
  return Object.values(chat.nodes).filter((node) => node.parent === parent);
}

/** What is shown: the chosen messages from the root down. */
export function path(chat) {
  const shown = [];
  let at = ROOT;
  while (chat.chosen[at] && chat.nodes[chat.chosen[at]] && shown.length <= MOST_NODES) {
    shown.push(chat.nodes[chat.chosen[at]]);
    at = chat.chosen[at];
  }
  return shown;
}

/** The messages from the root down to one, both included. */
export function pathTo(chat, id) {
  const found = [];
  for (let node = chat.nodes[id]; node && found.length <= MOST_NODES; node = chat.nodes[node.parent]) found.unshift(node);
  return found;
}

/** Chooses a message among its siblings; what was chosen below it stays chosen. */
export function choose(chat, id) {
  chat.chosen[chat.nodes[id].parent] = id;
}

/** Which of how many versions a message is. */
export function version(chat, node) {
  const siblings = children(chat, node.parent);
  return { siblings, place: siblings.indexOf(node) };
}

/**
 * A conversation that was kept or brought along, or null where it is none: what a browser stores may have been
 * damaged, or written by another version of this page.
 */
export function readConversation(found) {
  if (!isObject(found) || typeof found.id !== "string" || !/^[a-z0-9]{1,40}$/.test(found.id) || !isObject(found.nodes)) return null;
  const chat = newConversation(text(found.model), {});
  Object.assign(chat, { id: found.id, title: text(found.title).slice(0, LONGEST_TITLE), created: time(found.created), updated: time(found.updated) });
  for (const [name, value] of Object.entries(isObject(found.settings) ? found.settings : {})) {
    if (Object.hasOwn(NO_SETTINGS, name) && typeof value === typeof NO_SETTINGS[name]) chat.settings[name] = value;
  }
  for (const node of Object.values(found.nodes).slice(0, MOST_NODES)) {
    if (isObject(node) && typeof node.id === "string" && ROLES.includes(node.role)) chat.nodes[node.id] = readNode(node);
  }
  for (const [id, node] of Object.entries(chat.nodes)) {
    if (node.parent !== ROOT && !Object.hasOwn(chat.nodes, node.parent)) delete chat.nodes[id];
  }
  for (const [parent, id] of Object.entries(isObject(found.chosen) ? found.chosen : {})) {
    if (Object.hasOwn(chat.nodes, id) && chat.nodes[id].parent === parent) chat.chosen[parent] = id;
  }
  return chat;
}

function readNode(node) {
  const read = {
    id: node.id, parent: text(node.parent), role: node.role, at: time(node.at), content: text(node.content),
    // What was still being written when the page went away was not written to its end.
    state: STATES.includes(node.state) ? node.state : "stopped",
  };
  for (const name of ["thought", "error", "model", "callId", "name", "finish"]) if (typeof node[name] === "string") read[name] = node[name];
  if (typeof node.thoughtSeconds === "number") read.thoughtSeconds = node.thoughtSeconds;
  for (const name of ["figures", "receipt"]) if (isObject(node[name])) read[name] = node[name];
  if (Array.isArray(node.calls)) {
    read.calls = node.calls.filter(isObject).map((call) => ({ id: text(call.id), name: text(call.name), arguments: text(call.arguments) }));
  }
  return read;
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const text = (value) => (typeof value === "string" ? value : "");
const time = (value) => (Number.isFinite(value) ? value : 0);
