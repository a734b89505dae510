// The page: one conversation is shown; what users do changes it, and then what is shown.

import { describeModel, listModels, ServerError, setKey } from "/page/api.js";
import { requestFor, writeAnswer } from "/page/answer.js";
import { add, choose, newConversation, NO_SETTINGS, path, readConversation, ROOT, version } from "/page/conversation.js";
import { find, grow, make, openDialog, say, tell } from "/page/dom.js";
import { NARROW, showKeys, startFrame, togglePanel, toggleSide } from "/page/frame.js";
import { check, showChips, showSettings, startPanel } from "/page/panel.js";
import * as shelf from "/page/shelf.js";
import { saveFile, showChats } from "/page/sidebar.js";
import { clearThread, editInPlace, redraw, showReceipt, showThread } from "/page/thread.js";

const IDEAS = [
  "Explain what a transformer is to a ten-year-old.",
  "Write a haiku about a quiet kitchen.",
  "Three names for a small bakery, as a table with reasons.",
  "What is the capital of South Korea?",
];
const TOUCH = matchMedia("(pointer: coarse)");  // there the key begins a line, and the button sends
const KEEP_MS = 1000;
const NEAR_END_PX = 80;

let chat = newConversation();
let models = [];
const running = new Map();  // by id of the conversation: { node, stop, chat }
let keptAt = 0;
let leaving = false;
const actions = { edit, again, step, results };

// What is shown ---------------------------------------------------------------------------------------------

function draw() {
  const atEnd = isAtEnd();
  showThread(chat, actions);
  find("title").textContent = chat.title || "New chat";
  document.title = chat.title ? `${chat.title} - edgesdk` : "edgesdk chat";
  showChips(chat.settings, () => togglePanel(true));
  drawBusy();
  if (atEnd) toEnd();
}

function drawList() {
  const chats = shelf.allConversations();
  for (const each of running.values()) if (!chats.some(({ id }) => id === each.chat.id)) chats.unshift(each.chat);
  showChats(chats, chat.id, { open, remove, save: saveFile });
  find("kept").textContent = shelf.trouble ?? "Conversations stay in this browser.";
  find("kept").classList.toggle("trouble", shelf.trouble !== null);
}

function drawBusy() {
  const busy = running.has(chat.id);
  find("send").hidden = busy;
  find("stop").hidden = !busy;
  find("send").disabled = !chat.model || !find("ask").value.trim();
}

function isAtEnd() {
  const scroll = find("scroll");
  return scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < NEAR_END_PX;
}

function toEnd() {
  find("scroll").scrollTop = find("scroll").scrollHeight;
}

// Conversations ---------------------------------------------------------------------------------------------

function keep() {
  keptAt = Date.now();
  shelf.keep(chat);
  shelf.last.write({ id: chat.id, model: chat.model, settings: chat.settings });
}

function begin() {
  const { model, settings } = chat;
  showConversation(newConversation(model, settings));
  find("ask").focus();
}

function open(id) {
  const found = running.get(id)?.chat ?? shelf.load(id);
  if (found) showConversation(found);
  if (NARROW.matches) toggleSide(false);
}

function showConversation(found) {
  chat = found;
  clearThread();
  if (!models.some((model) => model.id === chat.model)) chat.model = models[0]?.id ?? chat.model;
  find("model").value = chat.model;
  showSettings(chat.settings);
  shelf.last.write({ id: chat.id, model: chat.model, settings: chat.settings });
  draw();
  drawList();
  drawModel();
  toEnd();
}

function remove(kept) {
  const answer = make("div", { class: "row" },
    make("button", { type: "button", class: "plain", onclick: () => find("dialog").close() }, "Keep it"),
    make("button", {
      type: "button", class: "filled danger", onclick: () => {
        find("dialog").close();
        running.get(kept.id)?.stop();
        shelf.forget(kept.id);
        if (kept.id === chat.id) begin();
        drawList();
        tell("Deleted");
      },
    }, "Delete"));
  openDialog("Delete this conversation?", make("p", {}, `“${kept.title || "New chat"}” is kept in this browser only.`), answer);
}

async function bring(file) {
  let found = null;
  try {
    found = readConversation(JSON.parse(await file.text()));
  } catch { /* told below */ }
  if (!found) {
    openDialog("This is no conversation", make("p", {}, `${file.name} was not saved by this page.`));
    return;
  }
  shelf.keep(found);
  showConversation(found);
}

// Questions and answers -------------------------------------------------------------------------------------

function ask(text) {
  const shown = path(chat);
  put(shown.at(-1)?.id ?? ROOT, text);
}

function put(parent, text) {
  if (!ready()) return;
  const question = add(chat, parent, { role: "user", content: text });
  answer(question.id);
}

/** Whether something can be sent; what is in the way is shown. */
function ready() {
  if (running.has(chat.id)) {
    tell("An answer is still being written.");
    return false;
  }
  const wrong = check(chat.settings);
  if (wrong) {
    togglePanel(true);
    wrong.focus();
    wrong.reportValidity?.();
  }
  return !wrong && Boolean(chat.model);
}

async function answer(parent) {
  const mine = chat;
  const body = requestFor(mine, parent);
  const loading = models.find((model) => model.id === mine.model)?.loaded === false;
  const node = add(mine, parent, { role: "assistant", model: mine.model, state: "streaming", loading });
  const control = new AbortController();
  running.set(mine.id, { node, chat: mine, stop: () => control.abort() });
  keep();
  draw();
  drawList();
  toEnd();
  say("The model answers.");
  let frame = 0;
  await writeAnswer(node, body, control.signal, () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      if (chat !== mine) return;
      const atEnd = isAtEnd();
      redraw(mine, node, actions);
      if (atEnd) toEnd();
    });
    if (Date.now() - keptAt > KEEP_MS) {
      keptAt = Date.now();
      shelf.keep(mine);
    }
  });
  cancelAnimationFrame(frame);
  running.delete(mine.id);
  if (leaving && node.state === "failed") {
    node.state = "stopped";
    delete node.error;
  }
  mine.updated = Date.now();
  if (shelf.load(mine.id)) shelf.keep(mine);  // it may have been deleted meanwhile
  if (chat === mine) draw();
  drawList();
  refreshModels();
  say({ done: "The answer is there.", stopped: "Stopped.", failed: "The answer failed." }[node.state]);
  if (node.status === 401) askKey();
}

function edit(node) {
  if (running.has(chat.id)) {
    tell("An answer is still being written.");
    return;
  }
  editInPlace(node, (text) => {
    put(node.parent, text);
    find("ask").focus();
  });
}

function again(node) {
  if (!ready()) return;
  if (node.state === "failed") {  // nothing is lost with it
    delete chat.nodes[node.id];
    delete chat.chosen[node.parent];
  }
  answer(node.parent);
}

function step(node, by) {
  const { siblings, place } = version(chat, node);
  const id = siblings[place + by]?.id;
  if (!id) return;
  choose(chat, id);  // an answer that is under way goes on, unseen
  keep();
  draw();
  const element = document.querySelector(`[data-id="${id}"]`);
  const button = element?.querySelector(`[data-step="${by}"]:not(:disabled)`) ?? element?.querySelector("[data-step]:not(:disabled)");
  button?.focus();
  say(`Version ${place + by + 1} of ${siblings.length}`);
}

function results(node, given) {
  if (!ready()) return;
  let parent = node.id;
  for (const { call, content } of given) {
    parent = add(chat, parent, { role: "tool", callId: call.id, name: call.name, content }).id;
  }
  answer(parent);
}

// Models and their receipts ---------------------------------------------------------------------------------

async function refreshModels() {
  try {
    models = await listModels();
  } catch (error) {
    if (error instanceof ServerError && error.status === 401) askKey();
    else tell(error.message);
    find("runs-on").textContent = error.message;
    return;
  }
  const select = find("model");
  select.replaceChildren(...models.map(({ id }) => make("option", { value: id }, id)));
  if (!models.length) select.append(make("option", { value: "" }, "no model"));
  if (!models.some((model) => model.id === chat.model)) chat.model = models[0]?.id ?? "";
  select.value = chat.model;
  drawModel();
  drawBusy();
}

async function drawModel() {
  const listed = models.find((model) => model.id === chat.model);
  find("dot").className = listed?.loaded ? "dot on" : "dot";
  find("dot").title = listed?.loaded ? "loaded" : "loaded with the first question";
  find("receipt").hidden = !listed?.receipt;
  const { receipt } = listed ?? {};
  if (!models.length) {
    find("runs-on").textContent = "The server has no model yet. Get one with: edgesdk pull smollm2";
  } else if (receipt) {
    find("runs-on").textContent = `${chat.model} runs on this machine, with ${receipt.backend} on ${receipt.device}. Nothing leaves it.`;
  } else {
    find("runs-on").textContent = "The model runs on this machine. Nothing leaves it.";
  }
}

function askKey() {
  const dialog = find("key-dialog");
  if (!dialog.open) dialog.showModal();
}

// Keys and buttons ------------------------------------------------------------------------------------------

function onKey(event) {
  const command = event.ctrlKey || event.metaKey;
  if (command && event.shiftKey && event.key.toLowerCase() === "o") {
    event.preventDefault();
    begin();
  } else if (command && event.key === "/") {
    event.preventDefault();
    if (!find("dialog").open) showKeys();
  } else if (event.key === "Escape" && !document.querySelector("dialog[open]")) {
    if (running.has(chat.id)) running.get(chat.id).stop();
    else if (!find("panel").hidden) togglePanel(false);
    else if (document.body.classList.contains("with-side") && NARROW.matches) toggleSide(false);
  }
}

function onAskKey(event) {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing && !TOUCH.matches) {
    event.preventDefault();
    find("composer").requestSubmit();
  } else if (event.key === "ArrowUp" && !event.target.value) {
    const last = path(chat).findLast((node) => node.role === "user");
    if (last) {
      event.preventDefault();
      edit(last);
    }
  }
}

/** Stops and keeps what is under way when the page is left. */
function leave() {
  for (const each of running.values()) {
    each.stop();
    each.node.state = "stopped";
    if (shelf.load(each.chat.id)) shelf.keep(each.chat);
  }
}

function connect() {
  const on = (id, event, act) => find(id).addEventListener(event, act);
  on("composer", "submit", (event) => {
    event.preventDefault();
    const text = find("ask").value;
    if (!text.trim() || !chat.model) return;
    if (!ready()) return;
    find("ask").value = "";
    grow(find("ask"));
    ask(text);
  });
  on("ask", "keydown", onAskKey);
  on("ask", "input", () => { grow(find("ask")); drawBusy(); });
  on("stop", "click", () => { running.get(chat.id)?.stop(); find("ask").focus(); });
  on("new-chat", "click", begin);
  on("model", "change", () => { chat.model = find("model").value; if (Object.keys(chat.nodes).length) keep(); drawModel(); });
  on("bring", "click", () => find("bring-file").click());
  on("bring-file", "change", (event) => { const [file] = event.target.files; event.target.value = ""; if (file) bring(file); });
  on("receipt", "click", async () => {
    const { receipt } = await describeModel(chat.model);
    if (receipt) showReceipt(chat.model, receipt);
  });
  on("key-form", "submit", () => { setKey(find("key").value); find("key").value = ""; refreshModels(); });
  on("jump", "click", () => { toEnd(); find("ask").focus(); });
  on("scroll", "scroll", () => { find("jump").hidden = isAtEnd(); });
  document.addEventListener("keydown", onKey);
  addEventListener("pagehide", leave);
  addEventListener("beforeunload", () => {  // connections are lost between this and `pagehide`
    leaving = true;
    setTimeout(() => { leaving = false; }, 2000);
  });
  shelf.watch((id) => {
    if (id === chat.id && !running.has(id)) {
      const found = shelf.load(id);
      if (found) showConversation(found);
    }
    drawList();
  });
  startPanel(() => chat, () => {
    showChips(chat.settings, () => togglePanel(true));
    if (Object.keys(chat.nodes).length) keep();
    else shelf.last.write({ id: chat.id, model: chat.model, settings: chat.settings });
  });
}

async function start() {
  startFrame();
  connect();
  find("ideas").append(...IDEAS.map((idea) => make("li", {}, make("button", { type: "button", onclick: () => { ask(idea); find("ask").focus(); } }, idea))));
  const before = shelf.last.read();
  const asked = readConversation({ id: "a", nodes: {}, model: before.model, settings: before.settings });
  const kept = typeof before.id === "string" ? shelf.load(before.id) : null;
  showConversation(kept ?? newConversation(asked.model, asked.settings ?? NO_SETTINGS));
  await refreshModels();
  find("ask").focus();
}

start();
