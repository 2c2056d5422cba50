// A service that answers as the real one does and runs nothing: for what a real one does seldom, or only to its own harm.
// It serves the page's files with the policy that the real service sends. What it answers to a run, the first line of the
// main file chooses: `# case NAME`.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { pathToFileURL } from "node:url";

/** Where the page is: elsewhere than beside this, where the tests of `e2e` have copied it. */
const { SERVER_CRATE } = process.env;
const crate = SERVER_CRATE ? pathToFileURL(`${SERVER_CRATE}/`) : new URL("../../crates/server/", import.meta.url);
const assets = new URL("assets/page/", crate);
const TYPES = { html: "text/html; charset=utf-8", css: "text/css", js: "text/javascript", svg: "image/svg+xml" };

/** The policy as routes/page.rs has it: a string of Rust, whose lines go on after a backslash. */
async function policy() {
  const source = await readFile(new URL("src/routes/page.rs", crate), "utf8");
  const [, text] = /const POLICY: &str = "([^"]*)"/.exec(source);
  return text.replace(/\\\n\s*/g, "");
}

const execution = (more = {}) => ({
  stdout: "", stderr: "", exitCode: 0, executionTime: 12.5, exception: null, dropped: { stdout: 0, stderr: 0 }, ...more,
});
const ESCAPE = "\u001b";
/** The smallest PNG that there is: one pixel. */
const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const base64 = (text) => Buffer.from(text).toString("base64");
const file = (name, type, content) => ({ name, media_type: type, size: Buffer.from(content, "base64").length, content });

/** What may be in an output, and must stay what it is. */
export const MARKUP =
  '<img src=x onerror="window.harmed=1"><script>window.harmed=1</script><svg onload="window.harmed=1">&amp;</svg>';

/** What the service does with a request that it runs. `gone` is a promise of the client's leaving. */
const CASES = {
  async plain(send, request) {
    const inputs = Array.isArray(request.stdin) ? request.stdin : [request.stdin ?? ""];
    inputs.forEach((text, index) => send("stdout", { index, text: `got ${text}\n` }));
    const all = inputs.map((text) => execution({ stdout: `got ${text}\n` }));
    send("result", Array.isArray(request.stdin) ? all : all[0]);
  },
  async markup(send) {
    send("stdout", { index: 0, text: `${MARKUP}\n${ESCAPE}]0;title\u0007${ESCAPE}[31;1mred${ESCAPE}[0m plain\n` });
    send("stderr", { index: 0, text: MARKUP });
    const names = [`${MARKUP}.png`, `${MARKUP}.csv`].map((name) => name.replaceAll("/", "|"));
    send("result", execution({
      files: [file(names[0], "image/png", PNG), file(names[1], "text/csv", base64("a,b"))],
      files_omitted: [{ name: MARKUP, size: 9e6, reason: "too_large" }],
    }));
  },
  async svg(send) {
    const svg = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40" onload="window.harmed=1">' +
      '<script>window.harmed=1</script><image href="http://127.0.0.1:9/elsewhere.png"/><rect width="40" height="40"/></svg>';
    const files = [file("a.svg", "image/svg+xml", base64(svg)), file("not.png", "image/png", base64("no"))];
    send("result", execution({ files }));
  },
  async progress(send) {
    for (let done = 0; done <= 100; done += 1) send("stdout", { index: 0, text: `\r${done} % ${"#".repeat(done / 5)}` });
    send("stdout", { index: 0, text: `\nlonger text\rshort\nsplit ${ESCAPE}[3` });
    send("stdout", { index: 0, text: `2mgreen${ESCAPE}[0m\n` });
    send("result", execution());
  },
  async huge(send) {
    const text = `${"x".repeat(79)}\n`.repeat(800);
    for (let count = 0; count < 400; count += 1) if (!send("stdout", { index: 0, text })) await send.drained();
    send("stdout", { index: 0, text: "the end\n" });
    send("result", execution());
  },
  async coloured(send) {
    // Each character has a look of its own, and no line ends.
    let text = "";
    for (let count = 0; count < 6000; count += 1) text += `${ESCAPE}[3${1 + (count % 6)}m${count % 10}`;
    for (let count = 0; count < 100; count += 1) if (!send("stdout", { index: 0, text })) await send.drained();
    send("stdout", { index: 0, text: `${ESCAPE}[0m\nthe end\n` });
    send("result", execution());
  },
  async midway(send) {
    send("stdout", { index: 0, text: "so far\n" });
    send("error", { status: "failed", error: "E007: the microVM is gone", trace_id: "0123456789abcdef" });
  },
  async broken(send) {
    send("stdout", { index: 0, text: "so far\n" });
    await send.breakOff();
  },
  async silent(send, _, gone) {
    send("stdout", { index: 0, text: "first\n" });
    await gone;
  },
  async failing(send) {
    send("stderr", { index: 0, text: 'Traceback (most recent call last):\n  File "main.py", line 1\nValueError: no\n' });
    send("result", execution({ exitCode: 1 }));
  },
};

/** What is refused before a stream. */
const REFUSALS = {
  busy: [429, { status: "failed", error: "E013: too many requests: try again in 7 seconds", trace_id: "0123" }, { "Retry-After": "7" }],
  wrong: [400, { status: "failed", error: "E002: `args` has too many entries", trace_id: "0123" }],
  proxy: [502, "<html>Bad gateway</html>"],
};

/** Starts it. With a token, requests without it are refused. `requests` are those of runs; `cancelled()` waits until
 * somebody has left before the end; `breakOff()` ends the connection of the case `broken`. */
export async function startMock({ token = "" } = {}) {
  const csp = await policy();
  const requests = [];
  let breakOff;
  let left;
  let hasLeft = new Promise((resolve) => (left = resolve));

  async function answer(request, response, json) {
    let text = "";
    for await (const chunk of request) text += chunk;
    const asked = JSON.parse(text);
    requests.push({ asked, headers: request.headers });
    const name = /^# case (\w+)/.exec(asked.files[0].content)?.[1] ?? "plain";
    if (REFUSALS[name]) return json(...REFUSALS[name]);
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    let isOver = false;
    const gone = new Promise((resolve) => response.once("close", resolve));
    response.once("close", () => isOver || left());
    const send = (event, data) => {
      isOver ||= event === "result" || event === "error";
      return response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
    };
    send.drained = () => Promise.race([new Promise((go) => response.once("drain", go)), gone]);
    // Where the test says so, so that what was written is there by then: the stream has no last chunk.
    send.breakOff = async () => {
      await new Promise((resolve) => (breakOff = resolve));
      isOver = true;
      response.destroy();
    };
    response.write(": heartbeat\n\n");
    send("started", { trace_id: "0123456789abcdef", queue_micros: 1500 });
    await CASES[name](send, asked, gone);
    response.end();
  }

  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://mock");
    const json = (status, body, headers = {}) => {
      response.writeHead(status, { "Content-Type": "application/json", ...headers });
      response.end(typeof body === "string" ? body : JSON.stringify(body));
    };
    if (pathname.startsWith("/api/") && token && request.headers.authorization !== `Bearer ${token}`) {
      return json(401, { status: "failed", error: "E010: a token is needed", trace_id: "0123" });
    }
    if (pathname === "/api/v1/languages") return json(200, [{ name: "python", main_file: "main.py", available: true }]);
    if (pathname === "/api/v1/run") return answer(request, response, json);
    const name = pathname === "/" ? "index.html" : /^\/page\/([a-z]+\.[a-z]+)$/.exec(pathname)?.[1];
    const body = name && (await readFile(new URL(name, assets)).catch(() => null));
    if (!body) return json(404, { status: "failed", error: "E012: not found", trace_id: "0123" });
    response.writeHead(200, {
      "Content-Type": TYPES[name.split(".")[1]], "Content-Security-Policy": csp, "X-Content-Type-Options": "nosniff",
    });
    response.end(body);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    requests,
    breakOff: () => breakOff(),
    async cancelled() {
      await hasLeft;
      hasLeft = new Promise((resolve) => (left = resolve));
    },
    close: () => (server.closeAllConnections(), new Promise((resolve) => server.close(resolve))),
  };
}
