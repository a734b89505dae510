// The messages that are shown. A message is drawn anew when it changes, and only then.

import { figuresText } from "/page/answer.js";
import { path, version } from "/page/conversation.js";
import { copy, facts, find, grow, icon, iconButton, make, openDialog, patch } from "/page/dom.js";
import { renderMarkdown } from "/page/markdown.js";

const views = new Map();

/**
 * Shows a conversation.
 * @param {Object} chat the conversation.
 * @param {Object} actions what buttons do: edit, again, step, results.
 */
export function showThread(chat, actions) {
  const shown = path(chat);
  const ids = new Set(shown.map((node) => node.id));
  for (const id of views.keys()) if (!ids.has(id)) views.delete(id);
  const elements = shown.map((node, place) => {
    if (!views.has(node.id)) views.set(node.id, new View(node));
    const view = views.get(node.id);
    view.draw(chat, node, actions, place === shown.length - 1, shown[place + 1]);
    return view.element;
  });
  const thread = find("thread");
  const same = elements.length === thread.children.length && elements.every((element, place) => element === thread.children[place]);
  if (!same) thread.replaceChildren(...elements);
  find("empty").hidden = shown.length > 0;
}

/** Draws one message that is being written. */
export function redraw(chat, node, actions) {
  views.get(node.id)?.draw(chat, node, actions, true);
}

/** Forgets what is drawn, for another conversation. */
export function clearThread() {
  views.clear();
}

class View {
  constructor(node) {
    this.element = make("article", { class: `message ${node.role}`, "data-id": node.id });
    this.drawn = "";
  }

  draw(chat, node, actions, isLast, next) {
    const { siblings, place } = version(chat, node);
    const answered = next?.role === "tool";
    const now = JSON.stringify([node, siblings.length, place, isLast, answered]);
    if (now === this.drawn || this.element.querySelector("form.edit")) return;
    const opened = this.element.querySelector("details")?.open ?? false;
    this.drawn = now;
    this.element.setAttribute("aria-label", { user: "You", assistant: "Answer", tool: `Result of ${node.name}` }[node.role]);
    this.element.classList.toggle("last", isLast);
    this.element.setAttribute("aria-busy", String(node.state === "streaming"));
    const parts = { user: drawQuestion, assistant: drawAnswer, tool: drawResult }[node.role](node, actions, { answered, opened });
    const bar = node.state === "streaming" && node.role === "assistant"
      ? make("div", { class: "bar-under" }, make("span", { class: "figures" }, figuresText(node)))
      : drawBar(node, actions, siblings, place);
    patch(this.element, [...parts, bar], ".prose, .thought");
  }
}

function drawQuestion(node) {
  return [make("div", { class: "bubble", dir: "auto" }, node.content)];
}

function drawResult(node) {
  return [make("div", { class: "result" }, make("span", { class: "tag" }, icon("tool"), `Result of ${node.name}`), make("pre", { tabIndex: 0, role: "region", "aria-label": "Result" }, node.content))];
}

function drawAnswer(node, actions, { answered, opened }) {
  const parts = [];
  if (node.thought) parts.push(drawThought(node, opened));
  if (node.content) {
    const body = make("div", { class: "prose", dir: "auto" });
    body.append(renderMarkdown(node.content));
    parts.push(body);
  } else if (node.state === "streaming" && !node.thought && !node.calls) {
    const what = node.loading ? "The model is being loaded" : "";
    parts.push(make("div", { class: "waiting" }, make("span"), make("span"), make("span"), what));
  }
  for (const call of node.calls ?? []) if (call) parts.push(drawCall(call));
  if (node.calls?.length && node.state === "done" && !answered) parts.push(drawResultForm(node, actions));
  if (node.state === "failed") {
    const wait = node.retryAfterS ? ` Try again in ${node.retryAfterS} s.` : "";
    parts.push(make("div", { class: "failed", role: "alert" }, make("p", {}, `${node.error}${wait}`),
      make("button", { type: "button", class: "plain", onclick: () => actions.again(node) }, icon("again"), "Try again")));
  } else if (node.state === "done" && node.finish === "length") {
    parts.push(make("p", { class: "note" }, "The answer ends here because it has the most tokens that it may have."));
  } else if (node.state === "stopped") {
    parts.push(make("p", { class: "note" }, "Stopped."));
  } else if (node.state === "done" && !node.content && !node.calls?.length) {
    parts.push(make("p", { class: "note" }, "The model had nothing to say."));
  }
  return parts;
}

function drawThought(node, opened) {
  const busy = node.state === "streaming" && !node.content && !node.calls;
  const seconds = node.thoughtSeconds ? ` ${node.thoughtSeconds < 10 ? node.thoughtSeconds.toFixed(1) : Math.round(node.thoughtSeconds)} s` : "";
  const summary = make("summary", {}, busy ? `Thinking,${seconds || " a moment"}` : `Thought for${seconds || " a moment"}`);
  return make("details", { class: `thought${busy ? " busy" : ""}`, open: opened }, summary, make("div", { dir: "auto" }, node.thought.trim()));
}

function drawCall(call) {
  return make("div", { class: "call" }, make("span", { class: "tag" }, icon("tool"), call.name || "a call"),
    make("pre", { tabIndex: 0, role: "region", "aria-label": `Arguments of ${call.name}` }, pretty(call.arguments)));
}

function drawResultForm(node, actions) {
  const fields = node.calls.map((call, place) => {
    const id = `result-${node.id}-${place}`;
    const field = make("textarea", { id, rows: 2, required: true, oninput: () => grow(field) });
    return { call, field, row: make("div", {}, make("label", { for: id }, `Result of ${call.name}`), field) };
  });
  return make("form", {
    class: "results",
    onsubmit: (event) => {
      event.preventDefault();
      actions.results(node, fields.map(({ call, field }) => ({ call, content: field.value })));
    },
  }, ...fields.map(({ row }) => row), make("button", { class: "plain" }, icon("send"), fields.length > 1 ? "Send results" : "Send result"));
}

function drawBar(node, actions, siblings, place) {
  const bar = make("div", { class: "bar-under" });
  if (siblings.length > 1) {
    const go = (step) => () => actions.step(node, step);
    bar.append(make("span", { class: "versions", role: "group", "aria-label": "Versions" },
      iconButton("left", "Earlier version", go(-1), { disabled: place === 0, "data-step": "-1" }),
      make("span", {}, `${place + 1} / ${siblings.length}`),
      iconButton("right", "Later version", go(1), { disabled: place === siblings.length - 1, "data-step": "1" })));
  }
  const buttons = make("span", { class: "buttons" });
  if (node.role === "user") buttons.append(iconButton("edit", "Edit", () => actions.edit(node), { "data-do": "edit" }));
  if (node.role === "assistant" && node.state !== "failed") buttons.append(iconButton("again", "Answer again", () => actions.again(node), { "data-do": "again" }));
  if (node.content) {
    const button = iconButton("copy", "Copy", () => copy(node.content, button));
    buttons.append(button);
  }
  bar.append(buttons);
  if (node.role === "assistant") {
    const figures = figuresText(node);
    if (figures) bar.append(make("span", { class: "figures" }, figures));
    if (node.receipt) bar.append(make("button", { type: "button", class: "plain small", onclick: () => showReceipt(node.model, node.receipt) }, "Receipt"));
  }
  return bar;
}

/**
 * Lets a question be written anew, in its place.
 * @param {Object} node the question.
 * @param {function(string)} done gets the new text.
 */
export function editInPlace(node, done) {
  const view = views.get(node.id);
  if (!view) return;
  const field = make("textarea", { value: node.content, "aria-label": "Your question, anew", dir: "auto", oninput: () => grow(field) });
  const before = [...view.element.childNodes];
  const leave = () => {
    view.element.replaceChildren(...before);
    view.element.querySelector("[data-do=edit]")?.focus();
  };
  const form = make("form", {
    class: "edit",
    onsubmit: (event) => {
      event.preventDefault();
      if (!field.value.trim()) return;
      view.element.replaceChildren(...before);
      done(field.value);
    },
    onkeydown: (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        leave();
      } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      }
    },
  }, field, make("div", { class: "row" },
    make("span", { class: "note" }, "The old version stays, as a branch."),
    make("button", { type: "button", class: "plain", onclick: leave }, "Cancel"),
    make("button", { class: "filled" }, "Send")));
  view.element.replaceChildren(form);
  grow(field);
  field.focus();
  field.setSelectionRange(field.value.length, field.value.length);
}

/** Shows what ran a model. */
export function showReceipt(model, receipt) {
  const share = receipt.accelerated_share;
  const one = (found, text) => (found ?? []).map(text).join("\n");
  const runner = (found) => (found ? `${found.variant} with ${found.backend} on ${found.device}` : "");
  openDialog("Receipt",
    make("p", { class: "note" }, "What ran the model, and what was refused on the way."),
    facts([
      ["Model", model], ["Bundle", receipt.bundle], ["Variant", receipt.variant], ["Recipe", receipt.recipe], ["Backend", receipt.backend],
      ["Device", receipt.device], ["Provider", receipt.provider], ["On it", share === null || share === undefined ? null : `${Math.round(100 * share)} % of the operations`],
      ["Threads", receipt.threads], ["Load", receipt.load_ms ? `${Math.round(receipt.load_ms)} ms` : null], ["Packed weights", receipt.weight_cache],
      ["Files", receipt.integrity], ["Choice", receipt.choice],
      ["Phases", one(receipt.phases, (phase) => `${phase.phase}: ${runner(phase.runner)}`)],
      ["Refused", one(receipt.refusals, (refusal) => `${refusal.backend} on ${refusal.device}: ${refusal.reason}`)],
      ["Notes", one(receipt.notes, String)],
      ["Changes", one(receipt.incidents, (incident) => `${incident.kind}: ${runner(incident.before)}: ${incident.reason}`)],
    ]));
}

function pretty(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}
