// A program as the page has it, and its forms: a request, a link, a command for a shell.
//
//   { language, files: [{ name, content }, …], stdin: [text, …], args: text, timeout: text }
//
// The first file is the one that is run. Links come from anywhere: what is in one is bounded before it is unpacked, checked
// before it is used, and never run by itself.

/** Characters of a link's fragment: what mail and chat programs and browsers still pass on whole is less. */
const LONGEST_FRAGMENT = 100_000;
/** Bytes of what is packed in it. */
const MOST_UNPACKED = 1024 * 1024;
const FRAGMENT = "#program=";

/** What the page offers, less than what the service takes. */
export const MOST_FILES = 64;
export const MOST_INPUTS = 50;

/** Files that a program leaves and a page can use. */
const IMAGES = "**/*.{png,jpg,jpeg,gif,webp,svg}";
const OTHERS = "**/*.{csv,tsv,txt,json,html,md,xml,pdf,zip,gz,xlsx,parquet,npy,db,wav,bin}";

const bytes = (text) => new TextEncoder().encode(text).length;

/** What is wrong with the name of a file, in words; nothing where it is good. */
export function wrongName(name, others) {
  if (name === "") return "A file needs a name.";
  if (bytes(name) > 255) return "The name is longer than 255 bytes.";
  if (/[\u0000-\u001f\u007f]/.test(name)) return "A name has no control characters.";
  const parts = name.split("/");
  if (parts.some((part) => part === "" || part === "." || part === "..")) {
    return "A name is a path without empty parts, “.” and “..”.";
  }
  if (others.includes(name)) return "There is a file of this name.";
  if (others.some((other) => other.startsWith(`${name}/`) || name.startsWith(`${other}/`))) {
    return "A file cannot be a folder, too.";
  }
  return "";
}

/** The arguments of a line: quotes and backslashes as in a shell, and nothing else of it. */
export function splitArguments(line) {
  const found = [];
  let word = null;
  let quote = "";
  for (let at = 0; at < line.length; at += 1) {
    const character = line[at];
    if (quote === "'" && character !== "'") word += character;
    else if (character === "\\" && at + 1 < line.length) word = (word ?? "") + line[(at += 1)];
    else if (quote !== "" && character === quote) quote = "";
    else if (quote === "" && (character === '"' || character === "'")) [quote, word] = [character, word ?? ""];
    else if (quote === "" && /\s/.test(character)) {
      if (word !== null) found.push(word);
      word = null;
    } else word = (word ?? "") + character;
  }
  if (quote !== "") throw new Error("A quote in the arguments is not closed.");
  if (word !== null) found.push(word);
  return found;
}

/** The request that runs it. */
export function toRequest({ language, files, stdin, args, timeout }) {
  const request = { language, files };
  if (stdin.length > 1) request.stdin = stdin;
  else if (stdin[0]) request.stdin = stdin[0];
  const split = splitArguments(args);
  if (split.length > 0) request.args = split;
  if (timeout.trim() !== "") {
    const seconds = Number(timeout);
    if (!(seconds > 0 && seconds <= 300)) throw new Error("The time limit is a number of seconds, at most 300.");
    request.timeout = seconds;
  }
  request.fetch = [IMAGES, OTHERS];
  return request;
}

/** A word of a shell, whatever is in it. */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** The most bytes of one argument of a command under Linux, less than its 128 KiB. */
const LONGEST_ARGUMENT = 100_000;

/** The command that does the same. A token is not part of it: it names a variable. */
export function toCurl(request, url, needsToken) {
  // Characters that a terminal might take for its own are escaped, as JSON allows.
  const escape = (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  const body = JSON.stringify(request, null, 2).replace(/[\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g, escape);
  const lines = [`curl --silent --show-error ${quoted(url)}`, "  --header 'Content-Type: application/json'"];
  if (needsToken) lines.push('  --header "Authorization: Bearer $TOKEN"');
  if (bytes(body) <= LONGEST_ARGUMENT) return [...lines, `  --data-raw ${quoted(body)}`].join(" \\\n");
  // No line of the body is this word: each begins with a brace or a space.
  return `${[...lines, "  --data-binary @- <<'REQUEST'"].join(" \\\n")}\n${body}\nREQUEST`;
}

async function through(transform, input) {
  const writer = transform.writable.getWriter();
  // What fails there fails below, too, where it is told.
  writer.write(input).then(() => writer.close()).catch(() => {});
  const reader = transform.readable.getReader();
  const chunks = [];
  let length = 0;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    length += value.length;
    if (length > MOST_UNPACKED) {
      await reader.cancel();
      throw new Error("it is too long");
    }
    chunks.push(value);
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

/** The fragment of a link that holds the program. */
export async function toFragment({ language, files, stdin, args, timeout }) {
  const packed = { language, files: files.map(({ name, content }) => [name, content]), stdin, args, timeout };
  const input = new TextEncoder().encode(JSON.stringify(packed));
  if (input.length > MOST_UNPACKED) throw new Error("The program is too long for a link.");
  const output = await through(new CompressionStream("deflate-raw"), input);
  let text = "";
  for (const byte of output) text += String.fromCharCode(byte);
  const fragment = FRAGMENT + btoa(text).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
  if (fragment.length > LONGEST_FRAGMENT) throw new Error("The program is too long for a link.");
  return fragment;
}

/** The program that a fragment holds; `null` where it is about something else. Fails where it holds none. */
export async function fromFragment(fragment) {
  if (!fragment.startsWith(FRAGMENT)) return null;
  if (fragment.length > LONGEST_FRAGMENT) throw new Error("it is too long");
  const packed = atob(fragment.slice(FRAGMENT.length).replaceAll("-", "+").replaceAll("_", "/"));
  const input = Uint8Array.from(packed, (character) => character.charCodeAt(0));
  const output = await through(new DecompressionStream("deflate-raw"), input);
  return checked(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(output)));
}

function checked(found) {
  const isText = (value, most) => typeof value === "string" && value.length <= most;
  const isList = (value, least, most) => Array.isArray(value) && value.length >= least && value.length <= most;
  const { language, files, stdin, args, timeout } = found ?? {};
  const isGood =
    isText(language, 64) && isText(args, MOST_UNPACKED) && isText(timeout, 16) && isList(files, 1, MOST_FILES) &&
    isList(stdin, 1, MOST_INPUTS) && stdin.every((text) => isText(text, MOST_UNPACKED)) &&
    files.every((file) => isList(file, 2, 2) && file.every((text) => isText(text, MOST_UNPACKED)));
  if (!isGood) throw new Error("it has another form");
  const names = [];
  for (const [name] of files) {
    if (wrongName(name, names) !== "") throw new Error("a file in it has no good name");
    names.push(name);
  }
  return { language, files: files.map(([name, content]) => ({ name, content })), stdin, args, timeout };
}
