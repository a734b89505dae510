// openai for Node, and the Vercel AI SDK: chats, streams and their helpers, tools, parsed answers, responses.
import assert from "node:assert";
import { readFileSync } from "node:fs";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText, tool, stepCountIs } from "ai";
import { z } from "zod";

const baseURL = process.env.SERVED + "/v1";
const apiKey = process.env.SERVED_KEY;
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const model = "tooled";
const messages = [{ role: "user", content: "What is the capital of France?" }];
const parameters = {
  type: "object",
  properties: { city: { enum: ["Paris", "Rome"] } },
  required: ["city"],
  additionalProperties: false,
};
const weather = { type: "function", function: { name: "weather", parameters } };

const whole = await client.chat.completions.create({ model, messages, max_tokens: 20 });
const said = whole.choices[0].message.content;
assert(said);
const stream = client.chat.completions.stream({ model, messages, max_tokens: 20 });
let text = "";
stream.on("content", (delta) => (text += delta));
assert.equal((await stream.finalChatCompletion()).choices[0].message.content, said);
assert.equal(text, said);
const calls = client.chat.completions.stream({
  model, messages, tools: [weather], tool_choice: "required", max_tokens: 80,
});
const call = (await calls.finalChatCompletion()).choices[0].message.tool_calls[0];
assert.equal(call.function.name, "weather");
assert(["Paris", "Rome"].includes(JSON.parse(call.function.arguments).city));
let ran = 0;
const runner = client.chat.completions.runTools({
  model, messages, max_tokens: 60, tool_choice: { type: "function", function: { name: "weather" } },
  tools: [{ type: "function", function: { ...weather.function, parse: JSON.parse, function: () => (ran++, "Sunny.") } }],
});
await runner.done();
assert.equal(ran, 1);
const shape = zodResponseFormat(z.object({ n: z.union([z.literal(1), z.literal(2)]) }), "number");
const parsed = await client.chat.completions.parse({ model, messages, response_format: shape, max_tokens: 40 });
assert([1, 2].includes(parsed.choices[0].message.parsed.n));
const response = await client.responses.create({ model, input: messages[0].content, max_output_tokens: 20 });
assert.equal(response.output_text, said);
const events = client.responses.stream({ model, input: messages[0].content, max_output_tokens: 20 });
let streamed = "";
events.on("response.output_text.delta", (event) => (streamed += event.delta));
assert.equal((await events.finalResponse()).output_text, said);
assert.equal(streamed, said);
await assert.rejects(client.embeddings.create({ model, input: "x" }), OpenAI.BadRequestError);

const provider = createOpenAICompatible({ name: "served", baseURL, apiKey, includeUsage: true });
const vercel = await generateText({ model: provider(model), prompt: messages[0].content, maxOutputTokens: 20 });
assert.equal(vercel.text, said);
const flow = streamText({ model: provider(model), prompt: messages[0].content, maxOutputTokens: 20 });
let flowed = "";
for await (const delta of flow.textStream) flowed += delta;
assert.equal(flowed, said);
assert((await flow.usage).outputTokens > 0);
const city = z.object({ city: z.enum(["Paris", "Rome"]) });
const tooled = streamText({
  model: provider(model), prompt: "The weather?", maxOutputTokens: 80, toolChoice: "required",
  tools: { weather: tool({ inputSchema: city, execute: async () => "Sunny." }) }, stopWhen: stepCountIs(1),
});
await tooled.consumeStream();
assert.equal((await tooled.toolResults)[0].output, "Sunny.");

const version = (name) =>
  JSON.parse(readFileSync(new URL(`./node_modules/${name}/package.json`, import.meta.url))).version;
for (const name of ["openai", "ai", "@ai-sdk/openai-compatible"]) console.log(`${name} for Node`, version(name));
