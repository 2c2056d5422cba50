// The result: what a program writes while it runs, how it ended, how long that took, and the files that it left.

import { Output } from "./output.js";

const element = (id) => document.getElementById(id);

/** Images that a browser can show. What others call an image is a download. */
const SHOWN = new Set(["image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml"]);

/** Why the service has ended a program, in words. */
const EXCEPTIONS = {
  Timeout: "Timed out",
  MemoryLimitExceeded: "Out of memory",
  OutputLimitExceeded: "Too much output",
};

const REASONS = { too_large: "too large", too_many: "too many files", unreadable: "cannot be read" };

/** A time for people. */
export function seconds(milliseconds) {
  if (milliseconds < 1) return `${milliseconds.toFixed(2)} ms`;
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  return `${(milliseconds / 1000).toFixed(milliseconds < 10_000 ? 2 : 1)} s`;
}

function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1_000_000) return `${(bytes / 1000).toFixed(1)} kB`;
  return `${(bytes / 1_000_000).toFixed(1)} MB`;
}

const plural = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** How one execution ended: a kind, and words. */
function ending({ exception, exitCode }) {
  if (exception) return ["bad", EXCEPTIONS[exception] ?? exception.replace(/^Killed: /, "Killed by ")];
  return exitCode === 0 ? ["good", "Exit status 0"] : ["poor", `Exit status ${exitCode}`];
}

/** What the last run has shown. */
export class Results {
  #request = null;
  #outputs = [];
  #since = 0;
  #queue = null;
  #ticking = 0;
  #urls = [];

  /** A run begins. */
  begin(request) {
    this.#urls.splice(0).forEach((url) => URL.revokeObjectURL(url));
    this.#request = request;
    this.#outputs = [];
    this.#queue = null;
    this.#since = performance.now();
    element("output").replaceChildren();
    element("output").setAttribute("aria-busy", "true");
    for (const id of ["made", "timing", "save"]) element(id).hidden = true;
    element("images").replaceChildren();
    element("downloads").replaceChildren();
    this.#tick();
    this.#ticking = setInterval(() => this.#tick(), 100);
  }

  /** Something has come while it runs. */
  event(name, data) {
    if (name === "started") {
      this.#queue = data.queue_micros / 1000;
      this.#tick();
    } else if (name === "stdout" || name === "stderr") this.#output(data.index).output.write(name, data.text);
  }

  /** All of it has come. Gives what a screen reader is to say. */
  end(answer) {
    const total = performance.now() - this.#since;
    const executions = Array.isArray(answer) ? answer : [answer];
    this.#over();
    executions.forEach((execution, index) => {
      const { end } = this.#output(index);
      const [kind, words] = ending(execution);
      if (end) {
        end.textContent = `${words}, ${seconds(execution.executionTime)}`;
        end.dataset.kind = kind;
      }
    });
    const bad = executions.filter(({ exception, exitCode }) => exception || exitCode !== 0);
    const [kind, words] = executions.length === 1 ? ending(executions[0])
      : bad.length === 0 ? ["good", `All ${executions.length} succeeded`]
      : ["poor", `${bad.length} of ${executions.length} failed`];
    this.#state(kind, words);
    if (executions.length === 1 && this.#outputs[0].output.isEmpty) {
      element("output").append(make("p", { className: "empty", textContent: "The program has written nothing." }));
    }
    const made = this.#files(executions);
    this.#times(executions, total);
    const characters = this.#outputs.reduce((sum, { output }) => sum + output.characters, 0);
    return `Program ended: ${words}, after ${seconds(total)}. ${plural(characters, "character")} of output${made}.`;
  }

  /** It was ended, or has failed. */
  stopped(words) {
    this.#over();
    this.#state(words === "Cancelled" ? "poor" : "bad", words);
    return words;
  }

  /** Why there is no result. */
  fault({ message, traceId }) {
    const fault = make("div", { className: "fault" }, make("p", { textContent: message }));
    if (traceId) fault.append(make("p", { className: "soft", textContent: `Request ${traceId}` }));
    element("output").append(fault);
    fault.scrollIntoView({ block: "nearest" });
  }

  /** Gives the output as a file. */
  save() {
    const parts = this.#outputs.flatMap(({ output }, index) => {
      const head = this.#outputs.length > 1 ? [`${index > 0 ? "\n" : ""}--- input ${index + 1} ---\n`] : [];
      return [...head, output.blob(), output.isWhole ? "" : "\n--- the rest was not kept ---\n"];
    });
    const url = URL.createObjectURL(new Blob(parts, { type: "text/plain;charset=utf-8" }));
    make("a", { href: url, download: "output.txt" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }

  /** The output of one execution; before it there are those of all before it. */
  #output(index) {
    const count = Array.isArray(this.#request.stdin) ? this.#request.stdin.length : 1;
    if (!(index >= 0 && index < count)) throw new Error("The service tells of an execution that was not asked for.");
    while (this.#outputs.length <= index) {
      const number = this.#outputs.length + 1;
      const section = make("section", { className: "execution" });
      let end = null;
      if (count > 1) {
        end = make("span", { className: "end" });
        section.append(make("h3", {}, `Input ${number} `, end));
      }
      element("output").append(section);
      this.#outputs.push({ output: new Output(section, element("output")), end });
    }
    element("save").hidden = false;
    return this.#outputs[index];
  }

  #over() {
    clearInterval(this.#ticking);
    element("output").removeAttribute("aria-busy");
    for (const { output } of this.#outputs) output.flush();
  }

  #state(kind, words) {
    element("state").textContent = words;
    element("state").dataset.kind = kind;
  }

  #tick() {
    const words = this.#queue === null ? "Waiting" : "Running";
    this.#state("busy", `${words} ${((performance.now() - this.#since) / 1000).toFixed(1)} s`);
  }

  #times(executions, total) {
    const queue = this.#queue ?? 0;
    const program = executions.reduce((sum, { executionTime }) => sum + executionTime, 0);
    // Three clocks: none of them is exact.
    const parts = { queue, start: Math.max(0, total - queue - program), program };
    for (const [name, part] of Object.entries(parts)) {
      element("timing").querySelector(`.track .${name}`).style.flexGrow = String(part / total);
      element(`time-${name}`).textContent = seconds(part);
    }
    element("time-total").textContent = seconds(total);
    element("timing").hidden = false;
  }

  /** Shows the files. Gives what is to be said of them. */
  #files(executions) {
    // What the program was given and has left as it was is nothing that it has made.
    const given = new Map(this.#request.files.map(({ name, content }) => [name, content]));
    let images = 0;
    let others = 0;
    executions.forEach(({ files = [], files_omitted: omitted = [] }, index) => {
      const of = executions.length > 1 ? `Input ${index + 1}: ` : "";
      for (const { name, media_type: type, size: length, content } of files) {
        const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
        if (given.has(name) && given.get(name) === new TextDecoder().decode(bytes)) continue;
        const isImage = SHOWN.has(type);
        if (isImage) images += 1;
        else others += 1;
        // Whatever it is, it is saved: opened here, it would be a page of this service.
        const link = make("a", {
          href: this.#url(bytes, "application/octet-stream"),
          download: name.split("/").at(-1),
          textContent: name,
        });
        const told = [of, link, " ", make("span", { className: "soft", textContent: size(length) })];
        if (!isImage) {
          element("downloads").append(make("li", {}, ...told));
          continue;
        }
        const image = make("img", { src: this.#url(bytes, type), alt: `${of}${name}, an image that the program made` });
        const figure = make("figure", {}, image, make("figcaption", {}, ...told));
        image.addEventListener("error", () => image.replaceWith(make("p", { className: "soft", textContent: "This image cannot be shown." })));
        element("images").append(figure);
      }
      for (const { name, size: length, reason } of omitted) {
        if (given.has(name)) continue;
        const why = `${of}${name} (${size(length)}) is not here: ${REASONS[reason] ?? reason}`;
        element("downloads").append(make("li", { className: "soft", textContent: why }));
      }
    });
    element("made").hidden = images === 0 && element("downloads").childElementCount === 0;
    const said = [images > 0 && plural(images, "image"), others > 0 && plural(others, "file")].filter(Boolean);
    return said.length > 0 ? `, ${said.join(", ")}` : "";
  }

  #url(bytes, type) {
    const url = URL.createObjectURL(new Blob([bytes], { type }));
    this.#urls.push(url);
    return url;
  }
}
