// The page at its edges, in a real browser against mock.mjs: `node --test test/edges.mjs`. With SHOTS=FOLDER it leaves
// pictures there. CHROMIUM names another program than Debian's.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { deflateRawSync } from "node:zlib";
import puppeteer from "puppeteer-core";
import { MARKUP, startMock } from "./mock.mjs";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const { SHOTS, CHROMIUM = "/usr/bin/chromium" } = process.env;

let browser;
let mock;
before(async () => {
  mock = await startMock();
  browser = await puppeteer.launch({
    executablePath: CHROMIUM,
    // Its sandbox needs another user than root. It sees pages of this test alone.
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
  });
});
after(async () => {
  await browser?.close();
  await mock?.close();
});

/** Opens the page, and notes all that must not be: requests to elsewhere, violations of the policy, errors. */
async function open({ url = mock.url, size = [1280, 800], dark = false, fragment = "" } = {}) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  const isMobile = size[0] < 500;
  await page.setViewport({ width: size[0], height: size[1], isMobile, hasTouch: isMobile });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }]);
  const faults = [];
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  page.on("request", (request) => {
    const asked = request.url();
    if (!asked.startsWith("blob:") && new URL(asked).origin !== new URL(url).origin) faults.push(`asks for ${asked}`);
  });
  await page.evaluateOnNewDocument(() => {
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) => {
      window.violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`);
    });
  });
  await page.goto(url + fragment);
  return {
    page,
    async close() {
      assert.deepEqual([...faults, ...(await page.evaluate(() => window.violations))], []);
      assert.equal(await page.evaluate(() => window.harmed), undefined);
      await context.close();
    },
  };
}

const ready = (page) => page.waitForSelector("[data-ready]");
const text = (page, selector) => page.$eval(selector, (found) => found.textContent);

/** Replaces the program by one that says which case it is, and runs it, with the keyboard alone. */
async function run(page, name) {
  await page.evaluate(() => document.getElementById("editor").shadowRoot.querySelector(".cm-content").focus());
  const held = async (key) => {
    await page.keyboard.down("Control");
    await page.keyboard.press(key);
    await page.keyboard.up("Control");
  };
  await held("KeyA");
  await page.keyboard.press("Delete");
  await page.keyboard.sendCharacter(`# case ${name}`);
  await held("Enter");
}

/** The words of the state, when it is none of waiting and running. */
async function ended(page) {
  await page.waitForFunction(() => !["busy", undefined].includes(document.getElementById("state").dataset.kind));
  return text(page, "#state");
}

/** What axe finds. It comes by the protocol, which the page's policy does not bind. */
async function violations(page) {
  await page.evaluate(axe);
  await page.waitForFunction(() => document.getAnimations().every((one) => one.playState !== "running"));
  const found = await page.evaluate(async () => (await window.axe.run(document)).violations);
  return found.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.target} ${node.failureSummary}`).join("; ")}`);
}

async function shot(page, name) {
  if (SHOTS) await page.screenshot({ path: `${SHOTS}/${name}.png` });
}

const LOOKS = { light: {}, "phone-dark": { size: [360, 740], dark: true } };

/** Fragments that the page did not make, or that somebody has changed. */
const pack = (value) => deflateRawSync(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");
const program = (more) => ({ language: "python", files: [["main.py", "1"]], stdin: [""], args: "", timeout: "", ...more });
const HOSTILE = {
  "no base64": "%%%",
  "not packed": "AAAA",
  "a bomb": pack("[".repeat(40_000_000)),
  "deeply nested": pack("[".repeat(500_000)),
  "no object": pack("null"),
  "no files": pack(program({ files: [] })),
  "a path that leads out": pack(program({ files: [["../x", ""]] })),
  "a file twice": pack(program({ files: [["a", ""], ["a", ""]] })),
  "other types": pack(program({ stdin: [{ toString: 1 }] })),
  "too many inputs": pack(program({ stdin: Array(5000).fill("") })),
  "too long": "A".repeat(200_000),
};

describe("the page", () => {
  for (const [look, options] of Object.entries(LOOKS)) {
    test(`has nothing that axe finds and does not scroll sideways, in each state: ${look}`, async () => {
      const { page, close } = await open(options);
      await ready(page);
      const faults = [];
      const check = async (state) => {
        faults.push(...(await violations(page)).map((found) => `${state}: ${found}`));
        const [inner, all] = await page.evaluate(() => [innerWidth, document.documentElement.scrollWidth]);
        if (all > inner) faults.push(`${state}: ${all} pixels wide, in ${inner}`);
        await shot(page, `${look}-${state}`);
      };
      await check("start");
      for (const name of ["markup", "failing", "busy", "midway", "svg"]) {
        await run(page, name);
        await ended(page);
        await check(name);
      }
      await page.evaluate(() => ["curl", "input"].forEach((id) => (document.getElementById(id).open = true)));
      await page.click("#add");
      await check("open");
      assert.deepEqual(faults, []);
      await close();
    });
  }

  test("shows what a program writes as text, whatever it is", async () => {
    const { page, close } = await open();
    await ready(page);
    await run(page, "markup");
    assert.equal(await ended(page), "Exit status 0");
    assert.equal(await text(page, "#output .lines"), `${MARKUP}\nred plain\n${MARKUP}`);
    assert.equal(await text(page, "#output .ink-red.bold"), "red");
    assert.equal(await page.$$eval("#output :is(img, script, svg)", (found) => found.length), 0);
    assert.match(await text(page, "#downloads"), /<script>.*is not here: too large/);
    await close();
  });

  test("shows an SVG as an image that can do nothing, and says of a false image that it is none", async () => {
    const { page, close } = await open();
    await ready(page);
    await run(page, "svg");
    await ended(page);
    await page.waitForFunction(() => document.querySelector("#images img")?.naturalWidth === 40);
    await page.waitForFunction(() => document.getElementById("images").textContent.includes("cannot be shown"));
    assert.equal(await page.$$eval("#images img", (images) => images.length), 1);
    await close();
  });

  test("goes back in a line as a terminal does, also where a sequence comes in two chunks", async () => {
    const { page, close } = await open();
    await ready(page);
    await run(page, "progress");
    await ended(page);
    assert.equal(await text(page, "#output .lines"), `100 % ${"#".repeat(20)}\nshortr text\nsplit green\n`);
    assert.equal(await text(page, "#output .ink-green"), "green");
    await close();
  });

  for (const name of ["huge", "coloured"]) {
    test(`holds little of very much output: ${name}`, async (context) => {
      const { page, close } = await open();
      await ready(page);
      await page.evaluate(() => {
        window.longest = 0;
        let last = performance.now();
        const tick = () => {
          const now = performance.now();
          window.longest = Math.max(window.longest, now - last);
          last = now;
          setTimeout(tick);
        };
        tick();
      });
      await run(page, name);
      assert.equal(await ended(page), "Exit status 0");
      const found = await page.evaluate(() => ({
        longest: Math.round(window.longest),
        elements: document.querySelectorAll("#output *").length,
        characters: document.getElementById("output").textContent.length,
        end: document.getElementById("output").textContent.slice(-8),
        note: document.querySelector("#output .skipped").textContent,
        hasDownload: !document.getElementById("save").hidden,
      }));
      // How long it takes depends on what else the machine does: that is told, and what it depends on is checked.
      context.diagnostic(JSON.stringify(found));
      await shot(page, name);
      assert.equal(found.end, "the end\n");
      assert.match(found.note, /not shown/);
      assert.ok(found.hasDownload);
      assert.ok(found.elements < 8_000, `${found.elements} elements`);
      assert.ok(found.characters < 2_000_000, `${found.characters} characters`);
      await close();
    });
  }

  for (const [name, shown, kept] of [
    ["busy", /E013: too many requests: try again in 7 seconds/, ""],
    ["wrong", /E002: `args` has too many entries/, ""],
    ["proxy", /the service answered with status 502/i, ""],
    ["midway", /E007: the microVM is gone/, "so far\n"],
    ["broken", /./, "so far\n"],
  ]) {
    test(`says what went wrong, and keeps what had come: ${name}`, async () => {
      const { page, close } = await open();
      await ready(page);
      await run(page, name);
      if (name === "broken") {
        await page.waitForFunction(() => document.getElementById("output").textContent.includes("so far"));
        mock.breakOff();
      }
      assert.equal(await ended(page), "Not finished");
      assert.match(await text(page, ".fault"), shown);
      const lines = await page.$$eval("#output .lines", (found) => found.map((one) => one.textContent).join(""));
      assert.equal(lines, kept);
      await close();
    });
  }

  test("cancels by leaving, shows what had come before, and runs the next program", async () => {
    const { page, close } = await open();
    await ready(page);
    await run(page, "silent");
    await page.waitForFunction(() => document.getElementById("output").textContent.includes("first"));
    await page.click("#cancel");
    assert.equal(await ended(page), "Cancelled");
    assert.equal(await text(page, "#output .lines"), "first\n");
    await mock.cancelled();
    await run(page, "plain");
    assert.equal(await ended(page), "Exit status 0");
    await close();
  });

  test("asks for a token, keeps it only where somebody says so, and puts it nowhere else", async () => {
    const guarded = await startMock({ token: "secret-token" });
    try {
      const { page, close } = await open({ url: guarded.url });
      const give = async (token, keep) => {
        await page.waitForSelector("#asks[open]");
        await page.type("#token", token);
        if (keep) await page.click("#keep");
        await page.focus("#token");
        await page.keyboard.press("Enter");
      };
      await page.waitForSelector("#asks[open]");
      assert.deepEqual(await violations(page), []);
      await shot(page, "token");
      await give("wrong", false);
      await page.waitForFunction(() => document.getElementById("asks-wrong").textContent !== "");
      await give("secret-token", false);
      await ready(page);
      await run(page, "plain");
      assert.equal(await ended(page), "Exit status 0");
      assert.equal(guarded.requests.at(-1).headers.authorization, "Bearer secret-token");
      await page.evaluate(() => (document.getElementById("curl").open = true));
      await page.click("#share");
      await page.waitForFunction(() => location.hash !== "");
      await page.waitForFunction(() => document.getElementById("curl-text").textContent !== "");
      assert.match(await text(page, "#curl-text"), /--header "Authorization: Bearer \$TOKEN"/);
      const seen = () => page.evaluate(() => {
        const stored = JSON.stringify([{ ...sessionStorage }, { ...localStorage }]);
        return [document.documentElement.outerHTML, location.href, stored].join("\n");
      });
      assert.doesNotMatch(await seen(), /secret-token/);
      await page.reload();
      await give("secret-token", true);
      await ready(page);
      await page.reload();
      await ready(page);
      assert.equal(await page.$("#asks[open]"), null);
      await close();
    } finally {
      await guarded.close();
    }
  });

  for (const [name, packed] of Object.entries(HOSTILE)) {
    test(`takes no harm from a link that is none of its own: ${name}`, async () => {
      const { page, close } = await open({ fragment: `#program=${packed}` });
      await ready(page);
      assert.match(await text(page, "#notice"), /does not hold a program/);
      await run(page, "plain");
      assert.equal(await ended(page), "Exit status 0");
      await close();
    });
  }

  test("shows what a link holds as text, and runs nothing by itself", async () => {
    const before = mock.requests.length;
    const files = [["main.py", MARKUP], [MARKUP.replaceAll("/", "|"), ""]];
    const { page, close } = await open({ fragment: `#program=${pack(program({ files }))}` });
    await ready(page);
    assert.deepEqual(await page.$$eval("#tabs button", (tabs) => tabs.map((tab) => tab.textContent)), files.map(([name]) => name));
    assert.equal(mock.requests.length, before);
    await close();
  });
});
