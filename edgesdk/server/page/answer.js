// One answer: what is sent for it, and how its pieces become a message.

import { describeModel, streamAnswer } from "/page/api.js";
import { pathTo } from "/page/conversation.js";

const LONGEST_RECEIPT = 6000;

/**
 * The request for an answer below a message.
 * @param {Object} chat the conversation.
 * @param {string} parent id of the last message before the answer.
 */
export function requestFor(chat, parent) {
  const set = chat.settings;
  const messages = pathTo(chat, parent).map(asMessage);
  if (set.system.trim()) messages.unshift({ role: "system", content: set.system });
  const body = { model: chat.model, messages };
  for (const name of ["temperature", "top_p", "max_tokens", "seed", "thinking_tokens"]) {
    if (set[name] !== "") body[name] = Number(set[name]);
  }
  if (set.thinking) body.enable_thinking = set.thinking === "on";
  if (set.use_schema && set.schema.trim()) {
    body.response_format = { type: "json_schema", json_schema: { name: "answer", strict: true, schema: JSON.parse(set.schema) } };
  }
  if (set.use_tools && set.tools.trim()) {
    body.tools = JSON.parse(set.tools);
    // After a result an answer is wanted: a call that is asked for always would never end.
    const answered = chat.nodes[parent]?.role === "tool";
    if (set.tool_choice && !(answered && set.tool_choice === "required")) body.tool_choice = set.tool_choice;
  }
  return body;
}

function asMessage(node) {
  if (node.role === "tool") return { role: "tool", tool_call_id: node.callId, content: node.content };
  const message = { role: node.role, content: node.content };
  if (node.calls?.length) {
    message.tool_calls = node.calls.map((call) => ({ id: call.id, type: "function", function: { name: call.name, arguments: call.arguments } }));
  }
  return message;
}

/**
 * Writes an answer into a message until it ends, is stopped, or fails.
 * @param {Object} node the message, which is changed.
 * @param {Object} body the request.
 * @param {AbortSignal} signal stops it.
 * @param {function()} changed called after each piece.
 */
export async function writeAnswer(node, body, signal, changed) {
  const began = performance.now();
  let first = 0, pieces = 0;  // `live`: tokens a second, until the server says
  node.state = "streaming";
  try {
    for await (const piece of streamAnswer(body, signal)) {
      node.model = piece.model ?? node.model;
      delete node.loading;
      const choice = piece.choices[0];
      if (choice) {
        if (take(node, choice.delta, began)) {
          pieces += 1;
          first ||= performance.now();
          node.live = pieces > 1 ? (1000 * (pieces - 1)) / (performance.now() - first) : null;
        }
        node.finish = choice.finish_reason ?? node.finish;
      }
      if (piece.usage) node.figures = figuresOf(piece);
      changed();
    }
    node.state = "done";
  } catch (error) {
    if (error.name === "AbortError") {
      node.state = "stopped";
    } else {
      node.state = "failed";
      node.error = error.message;
      node.status = error.status;
      node.retryAfterS = error.retryAfterS;
    }
  }
  if (!node.figures && pieces > 1) {
    node.figures = { ttft_ms: first - began, decode_tokens_per_s: node.live, counted: true };
  }
  delete node.live;
  delete node.loading;
  if (node.state !== "failed") node.receipt = await receiptOf(node.model ?? body.model);
  changed();
}

/** Adds a piece to a message; whether it had anything. */
function take(node, delta, began) {
  let had = false;
  if (delta.reasoning_content) {
    node.thought = (node.thought ?? "") + delta.reasoning_content;
    node.thoughtSeconds = (performance.now() - began) / 1000;
    had = true;
  }
  if (delta.content) {
    node.content += delta.content;
    had = true;
  }
  for (const part of delta.tool_calls ?? []) {
    node.calls ??= [];
    const call = (node.calls[part.index] ??= { id: "", name: "", arguments: "" });
    call.id = part.id ?? call.id;
    call.name = part.function?.name ?? call.name;
    call.arguments += part.function?.arguments ?? "";
    had = true;
  }
  return had;
}

function figuresOf({ usage, timings }) {
  return {
    prompt_tokens: usage.prompt_tokens,
    cached_tokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
    completion_tokens: usage.completion_tokens,
    ttft_ms: timings?.ttft_ms ?? null,
    decode_tokens_per_s: timings?.decode_tokens_per_s ?? null,
  };
}

/** What ran the model; without the measurements where they make it long. */
async function receiptOf(model) {
  try {
    const { receipt } = await describeModel(model);
    if (!receipt || JSON.stringify(receipt).length <= LONGEST_RECEIPT) return receipt;
    const { measured, ...rest } = receipt;
    return JSON.stringify(rest).length <= LONGEST_RECEIPT ? rest : undefined;
  } catch {
    return undefined;
  }
}

/** The figures of an answer in one line. */
export function figuresText(node) {
  if (node.live) return `${speed(node.live)} tokens/s`;
  const said = node.figures;
  if (!said) return "";
  const parts = [];
  if (said.decode_tokens_per_s) parts.push(`${said.counted ? "about " : ""}${speed(said.decode_tokens_per_s)} tokens/s`);
  if (said.completion_tokens) parts.push(`${said.completion_tokens} ${said.completion_tokens === 1 ? "token" : "tokens"}`);
  if (said.ttft_ms) parts.push(`first after ${said.ttft_ms < 1000 ? `${Math.round(said.ttft_ms)} ms` : `${(said.ttft_ms / 1000).toFixed(1)} s`}`);
  if (said.prompt_tokens) parts.push(`prompt ${said.prompt_tokens}${said.cached_tokens ? `, ${said.cached_tokens} reused` : ""}`);
  return parts.join(" · ");
}

const speed = (value) => (value < 10 ? value.toFixed(1) : Math.round(value));
