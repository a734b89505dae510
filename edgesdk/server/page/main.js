// The page: one conversation is shown; what users do changes it, and then what is shown.

import { describeModel, listModels, ServerError, setKey } from "/page/api.js";
import { requestFor, writeAnswer } from "/page/answer.js";
import { add, children, choose, newConversation, NO_SETTINGS, path, readConversation, ROOT } from "/page/conversation.js";
import { facts, find, grow, make, openDialog, say } from "/page/dom.js";
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
const NARROW = matchMedia("(max-width: 50rem)");
const KEEP_MS = 1000;
const NEAR_END_PX = 80;

let chat = newConversation();
let models = [];
let running = null;  // { node, stop, chat }
let keptAt = 0;
const actions = { edit, again, choose: show, results };

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
  if (running && !chats.some((each) => each.id === running.chat.id)) chats.unshift(running.chat);
  showChats(chats, chat.id, { open, remove, save: saveFile });
  find("kept").textContent = shelf.trouble ?? "Conversations stay in this browser.";
  find("kept").classList.toggle("trouble", shelf.trouble !== null);
}

function drawBusy() {
  const busy = running?.chat.id === chat.id;
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
  const found = running?.chat.id === id ? running.chat : shelf.load(id);
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
        if (running?.chat.id === kept.id) running.stop();
        shelf.forget(kept.id);
        if (kept.id === chat.id) begin();
        drawList();
        say("Deleted");
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
  if (running) {
    say("An answer is still being written.");
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
  const node = add(mine, parent, { role: "assistant", model: mine.model, state: "streaming" });
  const control = new AbortController();
  running = { node, chat: mine, stop: () => control.abort() };
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
  running = null;
  mine.updated = Date.now();
  if (shelf.load(mine.id)) shelf.keep(mine);  // it may have been deleted meanwhile
  if (chat === mine) draw();
  drawList();
  refreshModels();
  say({ done: "The answer is there.", stopped: "Stopped.", failed: "The answer failed." }[node.state]);
  if (node.status === 401) askKey();
}

function edit(node) {
  if (running) {
    say("An answer is still being written.");
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

function show(id, step) {
  if (running?.chat.id === chat.id) running.stop();
  choose(chat, id);
  keep();
  draw();
  const element = document.querySelector(`[data-id="${id}"]`);
  const button = element?.querySelector(`[data-step="${step}"]:not(:disabled)`) ?? element?.querySelector("[data-step]:not(:disabled)");
  button?.focus();
  const all = children(chat, chat.nodes[id].parent);
  say(`Version ${all.findIndex((each) => each.id === id) + 1} of ${all.length}`);
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
    else say(error.message);
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

// Around it -------------------------------------------------------------------------------------------------

function togglePanel(shown) {
  find("panel").hidden = !shown;
  find("show-panel").setAttribute("aria-expanded", String(shown));
  document.body.classList.toggle("with-panel", shown);
  if (shown) find("hide-panel").focus();
  else find("show-panel").focus();
}

function toggleSide(shown) {
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

function showKeys() {
  openDialog("Keyboard", facts([
    ["Enter", "sends"], ["Shift+Enter", "begins a line"], ["Esc", "stops the answer; closes what is open"],
    ["Arrow up", "in an empty question: writes the last one anew"], ["Ctrl+Shift+O", "begins a conversation"],
    ["Ctrl+/", "shows this"],
  ]));
}

function onKey(event) {
  const command = event.ctrlKey || event.metaKey;
  if (command && event.shiftKey && event.key.toLowerCase() === "o") {
    event.preventDefault();
    begin();
  } else if (command && event.key === "/") {
    event.preventDefault();
    if (!find("dialog").open) showKeys();
  } else if (event.key === "Escape" && !document.querySelector("dialog[open]")) {
    if (running) running.stop();
    else if (!find("panel").hidden) togglePanel(false);
    else if (document.body.classList.contains("with-side") && NARROW.matches) toggleSide(false);
  }
}

function onAskKey(event) {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
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

function connect() {
  const on = (id, event, act) => find(id).addEventListener(event, act);
  on("composer", "submit", (event) => {
    event.preventDefault();
    const text = find("ask").value;
    if (!text.trim() || running || !chat.model) return;
    if (!ready()) return;
    find("ask").value = "";
    grow(find("ask"));
    ask(text);
  });
  on("ask", "keydown", onAskKey);
  on("ask", "input", () => { grow(find("ask")); drawBusy(); });
  on("stop", "click", () => { running?.stop(); find("ask").focus(); });
  on("new-chat", "click", begin);
  on("model", "change", () => { chat.model = find("model").value; if (Object.keys(chat.nodes).length) keep(); drawModel(); });
  on("show-side", "click", () => { toggleSide(true); find("hide-side").focus(); });
  on("hide-side", "click", () => { toggleSide(false); find("show-side").focus(); });
  on("show-panel", "click", () => togglePanel(find("panel").hidden));
  on("hide-panel", "click", () => togglePanel(false));
  on("help", "click", showKeys);
  on("bring", "click", () => find("bring-file").click());
  on("bring-file", "change", (event) => { const [file] = event.target.files; event.target.value = ""; if (file) bring(file); });
  on("theme", "click", () => {
    const next = { "": "light", light: "dark", dark: "" }[document.documentElement.dataset.theme] ?? "";
    shelf.theme.write(next);
    applyTheme(next);
  });
  on("receipt", "click", async () => {
    const { receipt } = await describeModel(chat.model);
    if (receipt) showReceipt(chat.model, receipt);
  });
  on("key-form", "submit", () => { setKey(find("key").value); find("key").value = ""; refreshModels(); });
  on("jump", "click", () => { toEnd(); find("ask").focus(); });
  on("scroll", "scroll", () => { find("jump").hidden = isAtEnd(); });
  document.addEventListener("keydown", onKey);
  shelf.watch((id) => {
    if (id === chat.id && !running) {
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
  applyTheme(shelf.theme.read());
  toggleSide(!NARROW.matches);
  NARROW.addEventListener("change", () => toggleSide(!NARROW.matches));
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
