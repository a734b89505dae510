// The server's interface, which is OpenAI's: models, and answers in pieces.

const KEY = "edgesdk.key";
let key = "";
try {
  key = sessionStorage.getItem(KEY) ?? "";
} catch { /* it is asked for again */ }

/** What the server refused, in its own words. */
export class ServerError extends Error {
  constructor(message, status, retryAfterS) {
    super(message);
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

/** Remembers the key until the tab is closed. */
export function setKey(value) {
  key = value;
  try {
    sessionStorage.setItem(KEY, value);
  } catch { /* it lasts until the page is left */ }
}

/** The models that may be asked. */
export async function listModels() {
  return (await (await call("/v1/models")).json()).data;
}

/** One model; once it is loaded, with what runs it. */
export async function describeModel(name) {
  return (await call(`/v1/models/${name.split("/").map(encodeURIComponent).join("/")}`)).json();
}

/**
 * Asks, and yields the pieces of the answer as they come.
 * @param {Object} body as `/v1/chat/completions` takes it.
 * @param {AbortSignal} signal ends the answer on the server, too.
 */
export async function* streamAnswer(body, signal) {
  const asked = { ...body, stream: true, stream_options: { include_usage: true } };
  const answer = await call("/v1/chat/completions", {
    method: "POST", body: JSON.stringify(asked), headers: { "Content-Type": "application/json" }, signal,
  });
  try {
    for await (const data of events(answer.body)) {
      if (data === "[DONE]") return;
      const piece = JSON.parse(data);
      if (piece.error) throw new ServerError(piece.error.message, 0, null);
      yield piece;
    }
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;  // which is what browsers make of a lost connection
  }
  throw new ServerError("The connection ended before the answer did.", 0, null);
}

async function call(path, options = {}) {
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server does not answer. Is `edgesdk serve` still running?", 0, null);
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => null);
  const message = said?.error?.message ?? `The server answered ${answer.status}.`;
  throw new ServerError(message, answer.status, Number(answer.headers.get("Retry-After")) || null);
}

/** The data of server-sent events (HTML Living Standard, 9.2.6), as far as this server writes them. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split(/\r?\n\r?\n/);
      rest = parts.pop();
      for (const part of parts) {
        const lines = part.split(/\r?\n/).filter((line) => line.startsWith("data:"));
        if (lines.length) yield lines.map((line) => line.slice(5).replace(/^ /, "")).join("\n");
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
