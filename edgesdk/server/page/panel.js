// The settings of a conversation, and what is wrong with them.

import { NO_SETTINGS } from "/page/conversation.js";
import { find, make } from "/page/dom.js";

const SCHEMA = {
  type: "object",
  properties: { name: { type: "string", maxLength: 40 }, year: { type: "integer", minimum: 0, maximum: 2100 } },
  required: ["name", "year"],
  additionalProperties: false,
};
const TOOLS = [{
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather in a city, now.",
    parameters: { type: "object", properties: { city: { type: "string" }, unit: { enum: ["celsius", "fahrenheit"] } }, required: ["city"] },
  },
}];
const NAMES = Object.keys(NO_SETTINGS);

/**
 * Connects the fields with a conversation.
 * @param {function(): Object} chatNow the conversation that is shown.
 * @param {function()} changed called after a setting has changed.
 */
export function startPanel(chatNow, changed) {
  for (const name of NAMES) {
    field(name).addEventListener("input", () => {
      const from = field(name);
      chatNow().settings[name] = from.type === "checkbox" ? from.checked : from.value;
      check(chatNow().settings);
      changed();
    });
  }
  for (const [name, example] of [["schema", SCHEMA], ["tools", TOOLS]]) {
    find(`x-${name}`).addEventListener("click", () => {
      field(name).value = JSON.stringify(example, null, 2);
      field(`use_${name}`).checked = true;
      for (const each of [name, `use_${name}`]) field(each).dispatchEvent(new Event("input"));
      field(name).focus();
    });
  }
}

/** Fills the fields. */
export function showSettings(settings) {
  for (const name of NAMES) {
    const to = field(name);
    if (to.type === "checkbox") to.checked = settings[name];
    else if (to.value !== settings[name]) to.value = settings[name];
  }
  check(settings);
}

/** What is on, in words, for the line below the question. */
export function showChips(settings, open) {
  const on = [];
  if (settings.system.trim()) on.push("Instructions");
  if (settings.use_schema) on.push("JSON schema");
  if (settings.use_tools) on.push(toolCount(settings));
  if (settings.thinking) on.push(`Thinking ${settings.thinking}`);
  find("chips").replaceChildren(...on.map((text) => make("button", { type: "button", class: "chip", onclick: open }, text)));
}

function toolCount(settings) {
  try {
    const { length } = JSON.parse(settings.tools);
    return length === 1 ? "1 tool" : `${length ?? 0} tools`;
  } catch {
    return "Tools";
  }
}

/** The field of the first setting that cannot be sent, or null. */
export function check(settings) {
  const wrong = { schema: "", tools: "" };
  if (settings.use_schema) wrong.schema = problem(settings.schema, (value) => (isObject(value) ? "" : "Expected an object: a JSON schema."));
  if (settings.use_tools) {
    wrong.tools = problem(settings.tools, (value) => (Array.isArray(value) && value.length > 0 && value.every((tool) => isObject(tool) && tool.type === "function" && typeof tool.function?.name === "string")
      ? "" : 'Expected a list of tools: [{"type": "function", "function": {"name": ...}}].'));
  }
  let first = null;
  for (const [name, message] of Object.entries(wrong)) {
    find(`e-${name}`).textContent = message;
    field(name).toggleAttribute("aria-invalid", Boolean(message));
    if (message) field(name).setAttribute("aria-invalid", "true");
    if (message) first ??= field(name);
  }
  for (const name of NAMES) if (!first && field(name).type === "number" && !field(name).checkValidity()) first = field(name);
  return first;
}

function problem(text, check) {
  try {
    return check(JSON.parse(text));
  } catch (error) {
    return text.trim() ? `This is not JSON: ${error.message}` : "Nothing is here yet.";
  }
}

const field = (name) => find(`s-${name}`);
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
