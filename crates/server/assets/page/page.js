// The page: what its elements do. What it shows of a program is in results.js, its files in files.js.

import { EXAMPLES, nothing } from "./examples.js";
import { Files } from "./files.js";
import { MOST_INPUTS, fromFragment, toCurl, toFragment, toRequest } from "./program.js";
import { Results } from "./results.js";
import { RUN, Refused, languages, run } from "./service.js";

const element = (id) => document.getElementById(id);
const DRAFT = "llm-firecracker.draft";
const TOKEN = "llm-firecracker.token";
const THEME = "llm-firecracker.theme";

/** Storage may be forbidden, full, or of another release: the page works without. */
const stored = {
  get(storage, key) {
    try {
      return window[storage].getItem(key);
    } catch {
      return null;
    }
  },
  set(storage, key, value) {
    try {
      if (value === null) window[storage].removeItem(key);
      else window[storage].setItem(key, value);
    } catch {
      // See above.
    }
  },
};

let known = [];
let token = stored.get("sessionStorage", TOKEN) ?? "";
let needsToken = token !== "";
let running = null;
/** The program that an example or a link has brought, as long as nobody has changed it. */
let untouched = true;

// What is said

function notify(text, action) {
  const notice = element("notice");
  notice.replaceChildren();
  notice.hidden = text === "";
  if (text === "") return;
  notice.append(text);
  const button = (label, act) => {
    const made = document.createElement("button");
    made.type = "button";
    made.className = "quiet small";
    made.textContent = label;
    made.addEventListener("click", () => (notify(""), act()));
    notice.append(" ", made);
  };
  if (action) button(action.label, action.act);
  button("Dismiss", () => element("run").focus());
}

/** For screen readers: short, and seldom. */
function say(text) {
  element("said").textContent = text;
}

// The program

let curlIsOld = true;
function changed() {
  untouched = false;
  programChanged();
}

function programChanged() {
  curlIsOld = true;
  if (element("curl").open) showCurl();
}

const files = new Files({ changed, programChanged, notify, run: () => start() });
const results = new Results();

function stdins() {
  return [...element("stdins").querySelectorAll("textarea")];
}

function showStdins(texts) {
  const several = texts.length > 1;
  const rows = texts.map((text, index) => {
    const row = document.createElement("div");
    row.className = "stdin";
    const label = document.createElement("label");
    label.textContent = several ? `Standard input ${index + 1}` : "Standard input";
    label.htmlFor = `stdin-${index}`;
    const area = document.createElement("textarea");
    Object.assign(area, { id: `stdin-${index}`, rows: several ? 2 : 3, value: text, spellcheck: false });
    area.autocomplete = "off";
    row.append(label, area);
    if (several) {
      const remove = document.createElement("button");
      remove.type = "button";
      remove.className = "quiet small";
      remove.textContent = "Remove";
      remove.setAttribute("aria-label", `Remove standard input ${index + 1}`);
      remove.addEventListener("click", () => {
        const left = stdins().map((one) => one.value);
        left.splice(index, 1);
        showStdins(left);
        stdins()[Math.min(index, left.length - 1)].focus();
        changed();
      });
      label.after(remove);
    }
    return row;
  });
  element("stdins").replaceChildren(...rows);
  element("batch-note").hidden = !several;
  element("stdin-add").hidden = texts.length >= MOST_INPUTS;
  summarize();
}

/** What is in the part that may be folded away. */
function summarize() {
  const texts = stdins().map((area) => area.value);
  const said = [];
  if (texts.length > 1) said.push(`${texts.length} inputs`);
  else if (texts[0]) said.push("standard input");
  if (element("args").value.trim()) said.push("arguments");
  if (element("timeout").value) said.push(`${element("timeout").value} s`);
  element("input-summary").textContent = said.length > 0 ? said.join(", ") : "standard input, arguments, time limit";
}

function program() {
  return {
    language: element("language").value || wanted,
    files: files.all(),
    stdin: stdins().map((area) => area.value),
    args: element("args").value,
    timeout: element("timeout").value,
  };
}

/** The language of a program that was shown before it was known which there are. */
let wanted = "python";

function show({ language, files: list, stdin = [""], args = "", timeout = "" }) {
  wanted = language;
  if (known.some(({ name }) => name === language)) element("language").value = language;
  files.show(list);
  showStdins(stdin);
  element("args").value = args;
  element("timeout").value = timeout;
  element("input").open = stdin.length > 1 || stdin[0] !== "" || args !== "" || timeout !== "";
  summarize();
  untouched = true;
  programChanged();
}

/** The same, with a way back for whoever has written something. */
function replace(next, text) {
  const [before, wasUntouched] = [program(), untouched];
  show(next);
  if (wasUntouched) return;
  notify(text, { label: "Undo", act: () => (show(before), changed(), files.focus()) });
}

const mainFile = (language) => known.find(({ name }) => name === language)?.main_file ?? "main.py";
const examples = (language) => EXAMPLES[language] ?? [nothing(mainFile(language))];

function showExamples(language) {
  const titles = examples(language).map(({ title }, index) => new Option(title, String(index)));
  element("example").replaceChildren(new Option("Examples", ""), ...titles);
}

// The service

async function findLanguages() {
  try {
    known = await languages(token);
  } catch (error) {
    if (error instanceof Refused && error.status === 401) askForToken(error);
    else notify(`The service does not answer: ${error.message}`, { label: "Try again", act: findLanguages });
    return;
  }
  const options = known.map(({ name, available }) => {
    const option = new Option(available ? name : `${name} (no image)`, name);
    option.disabled = !available;
    return option;
  });
  const picker = element("language");
  picker.replaceChildren(...options);
  picker.disabled = false;
  const usable = known.filter(({ available }) => available);
  if (known.some(({ name, available }) => name === wanted && available)) picker.value = wanted;
  else if (usable.length > 0) {
    const [{ name, main_file: main }] = usable;
    if (!untouched || fromLink) notify(`This service cannot run ${wanted}.`);
    picker.value = name;
    files.renameMain(main);
  } else {
    notify("No language has an image yet. Whoever runs this service makes one: infra.operator rootfs create --lang python");
  }
  wanted = picker.value || wanted;
  showExamples(wanted);
  element("run").disabled = usable.length === 0;
  element("access").hidden = !needsToken;
  programChanged();
  performance.mark("interactive");
  document.documentElement.dataset.ready = "true";
}

let afterToken = findLanguages;
function askForToken(error, then = findLanguages) {
  needsToken = true;
  afterToken = then;
  element("access").hidden = false;
  element("asks-why").hidden = token !== "" && error !== null;
  element("asks-wrong").textContent = token !== "" && error ? "The service does not accept this token." : "";
  if (!element("asks").open) element("asks").showModal();
  element("token").focus();
  programChanged();
}

// Running

async function start() {
  if (running || element("run").disabled) return;
  if (known.length === 0) return void findLanguages();
  let request;
  try {
    // What is no number at all has no value that could be checked.
    if (element("timeout").validity.badInput) throw new Error("The time limit is a number of seconds.");
    request = toRequest(program());
  } catch (error) {
    element("input").open = true;
    notify(error.message);
    return;
  }
  notify("");
  const controller = new AbortController();
  running = controller;
  element("run").setAttribute("aria-disabled", "true");
  element("cancel").hidden = false;
  results.begin(request);
  // On a phone the result is below.
  if (matchMedia("(max-width: 760px)").matches) element("result").scrollIntoView({ block: "start" });
  say("Running.");
  try {
    const answer = await run(request, token, controller.signal, (name, data) => results.event(name, data));
    say(results.end(answer));
  } catch (error) {
    if (controller.signal.aborted) {
      say(results.stopped("Cancelled"));
    } else if (error instanceof Refused && error.status === 401) {
      results.stopped("Not run");
      askForToken(error, () => findLanguages().then(start));
    } else {
      say(`${results.stopped("Not finished")}. ${error.message}`);
      results.fault(error);
    }
  } finally {
    running = null;
    element("run").removeAttribute("aria-disabled");
    if (document.activeElement === element("cancel")) element("run").focus();
    element("cancel").hidden = true;
  }
}

// Links, curl, copies

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without https there is no clipboard but this one.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "unseen";
    const before = document.activeElement;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    before?.focus();
    return copied;
  }
}

async function copied(button, text) {
  const label = button.querySelector("span") ?? button;
  const before = (button.dataset.label ??= label.textContent);
  const is = await copy(text);
  label.textContent = is ? "Copied" : "Not copied";
  say(is ? "Copied." : "The browser did not allow to copy.");
  clearTimeout(button.timer);
  button.timer = setTimeout(() => (label.textContent = before), 2000);
}

async function share() {
  let fragment;
  try {
    fragment = await toFragment(program());
  } catch (error) {
    notify(error.message);
    return;
  }
  history.replaceState(null, "", fragment);
  await copied(element("share"), location.href);
}

function showCurl() {
  curlIsOld = false;
  let text;
  try {
    text = toCurl(toRequest(program()), RUN, needsToken);
  } catch (error) {
    text = `# ${error.message}`;
  }
  element("curl-text").textContent = text;
}

let fromLink = false;
/** Shows what the address holds. */
async function open(isFirst) {
  let found = null;
  try {
    found = await fromFragment(location.hash);
  } catch {
    notify("This link does not hold a program that can be read.");
  }
  if (!found) return;
  fromLink = true;
  if (isFirst) show(found);
  else replace(found, "The link's program is shown.");
  if (known.length > 0) await findLanguages();
}

/** What was there before the page was loaded again, if that was at the same address. */
function draft() {
  try {
    const { at, program: found } = JSON.parse(stored.get("sessionStorage", DRAFT));
    return at === location.hash && found.files.length > 0 ? found : null;
  } catch {
    return null;
  }
}

// The theme

const THEMES = { system: "as the system", light: "light", dark: "dark" };
function setTheme(theme) {
  const chosen = Object.hasOwn(THEMES, theme) ? theme : "system";
  document.documentElement.dataset.theme = chosen;
  element("theme").setAttribute("aria-label", `Theme: ${THEMES[chosen]}`);
  element("theme").title = `Theme: ${THEMES[chosen]}`;
  stored.set("localStorage", THEME, chosen === "system" ? null : chosen);
}

// What elements do

function connect() {
  const on = (id, event, act) => element(id).addEventListener(event, act);
  on("run", "click", start);
  on("cancel", "click", () => running?.abort());
  on("share", "click", share);
  on("save", "click", () => results.save());
  on("theme", "click", () => {
    const themes = Object.keys(THEMES);
    const next = themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % themes.length];
    setTheme(next);
    say(`Theme: ${THEMES[next]}`);
  });
  on("language", "change", () => {
    const language = element("language").value;
    wanted = language;
    if (untouched) show({ language, ...examples(language)[0] });
    else files.renameMain(mainFile(language));
    showExamples(language);
    programChanged();
  });
  on("example", "change", () => {
    const chosen = examples(wanted)[Number(element("example").value || NaN)];
    element("example").value = "";
    if (chosen) replace({ language: wanted, ...chosen }, `“${chosen.title}” has replaced your program.`);
  });
  on("stdin-add", "click", () => {
    showStdins([...stdins().map((area) => area.value), ""]);
    stdins().at(-1).focus();
    changed();
  });
  on("input", "input", () => (summarize(), changed()));
  on("curl", "toggle", () => element("curl").open && curlIsOld && showCurl());
  on("curl-copy", "click", () => (showCurl(), copied(element("curl-copy"), element("curl-text").textContent)));
  on("access", "click", () => askForToken(null));
  on("token-cancel", "click", () => element("asks").close());
  on("token-form", "submit", (event) => {
    event.preventDefault();
    token = element("token").value.trim();
    stored.set("sessionStorage", TOKEN, element("keep").checked ? token : null);
    element("token").value = "";
    element("asks").close();
    afterToken();
  });
  addEventListener("hashchange", () => open(false));
  addEventListener("pagehide", () => {
    stored.set("sessionStorage", DRAFT, JSON.stringify({ at: location.hash, program: program() }));
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.defaultPrevented) return;
    if (element("asks").open) return;
    event.preventDefault();
    start();
  });
  if (/Mac|iP(hone|ad)/.test(navigator.platform)) element("run-key").textContent = "⌘ ↵";
}

setTheme(stored.get("localStorage", THEME) ?? "system");
connect();
showExamples(wanted);
const before = draft();
show(before ?? { language: wanted, ...EXAMPLES.python[0] });
if (before) untouched = false;
else await open(true);
await findLanguages();
