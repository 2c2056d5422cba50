// The service's API, as far as the page uses it. Addresses are relative to this file, so that a proxy may serve the page
// under another path.

const API = new URL("../api/v1/", import.meta.url);

/** Where programs are run. */
export const RUN = new URL("run", API).href;

/** The most of one line of a stream: an answer holds 4 MiB of files as base64 and 2 MiB of output, which JSON makes up
 * to six times as long; for a batch, several of them. */
const LONGEST_LINE = 512 * 1024 * 1024;

/** The service has said no. */
export class Refused extends Error {
  constructor(status, said) {
    super(typeof said?.error === "string" ? said.error : `the service answered with status ${status}`);
    this.status = status;
    this.traceId = typeof said?.trace_id === "string" ? said.trace_id : "";
  }
}

async function ask(url, token, options = {}) {
  const headers = new Headers(options.headers);
  if (token) headers.set("Authorization", `Bearer ${token}`);
  const answer = await fetch(url, { ...options, headers, credentials: "omit", cache: "no-store", redirect: "error" });
  if (answer.ok) return answer;
  throw new Refused(answer.status, await answer.json().catch(() => null));
}

/** Lets the page do what it has to. Timers would wait a second in a tab that is not looked at. */
function turn() {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resume) => {
    port1.onmessage = () => (port1.close(), resume());
    port2.postMessage(null);
  });
}

/** The languages that there are. */
export async function languages(token) {
  const answer = await ask(new URL("languages", API), token);
  return answer.json();
}

/**
 * Runs a program, and calls `event` with the name and the data of each event as it comes. Gives what `result` says.
 * Aborting the signal ends the program.
 */
export async function run(request, token, signal, event) {
  const answer = await ask(RUN, token, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
    body: JSON.stringify(request),
    signal,
  });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let name = "";
  // The line that is not whole yet, in pieces: answers are long, and come in many.
  let pieces = [];
  let length = 0;
  let rested = performance.now();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Error("The connection broke off before the program's end was known.");
      const lines = value.split("\n");
      const rest = lines.pop();
      for (const end of lines) {
        pieces.push(end);
        const line = pieces.join("");
        [pieces, length] = [[], 0];
        if (line.startsWith("event: ")) name = line.slice(7);
        if (!line.startsWith("data: ")) continue;
        const data = JSON.parse(line.slice(6));
        if (name === "result") return data;
        if (name === "error") throw new Refused(200, data);
        event(name, data);
      }
      pieces.push(rest);
      length += rest.length;
      if (length > LONGEST_LINE) throw new Error("The service has sent a line that is longer than any answer.");
      // Whoever looks at the page comes first: frames and clicks between chunks, however fast they come. Meanwhile nothing
      // is read, which holds the program up.
      if (performance.now() - rested > 12) {
        await turn();
        rested = performance.now();
      }
    }
  } finally {
    // Where all has come, that does nothing; else it ends the program.
    reader.cancel().catch(() => {});
  }
}
