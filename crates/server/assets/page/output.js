// What a program writes, as text in the page. Nothing of it ever becomes markup: it goes into text nodes, and into
// classes that are chosen here.
//
//   chunk ─▶ waiting ─▶ (once for each frame) escapes, \r, \b ─▶ lines ─▶ blocks of lines, the oldest removed
//         └▶ kept (what "Download output" gives)
//
// Programs may write more than a page can hold. What is shown is bounded, and so is the work of showing it: of what comes
// faster than that, the beginning is skipped, and the page says so.

/** Lines in one block: what is removed at once. */
const BLOCK_LINES = 250;
/** Characters after which a block is full, however few lines they are. */
const BLOCK_CHARACTERS = 64 * 1024;
/** Pieces of another look after which a block is full: each is an element, and there may be one for each character. */
const BLOCK_PIECES = 250;
/** Blocks that stay: some 5,000 lines. */
const MOST_BLOCKS = 20;
/** Characters that may wait for a frame. */
const MOST_WAITING = 256 * 1024;
/** Characters of a line in which \r can still go back. */
const LONGEST_LINE = 8192;
/** Pieces of a line after which it is as one that is too long. */
const LINE_PIECES = 125;
/** Characters that are looked at at once, and milliseconds after which the rest waits for the next frame. */
const PORTION = 16 * 1024;
const FRAME = 30;
/** Characters that are kept for the download; those of JavaScript take two bytes. */
const MOST_KEPT = 64 * 1024 * 1024;
/** Characters of an escape sequence after which it is none. */
const LONGEST_ESCAPE = 256;

const COLOURS = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

/** The look that "select graphic rendition" asks for. Colours that the page has no class for are left out. */
class Look {
  #bold = false;
  #dim = false;
  #italic = false;
  #underlined = false;
  #colour = "";
  #back = "";

  constructor(stream) {
    this.stream = stream;
    this.#name();
  }

  select(parameters) {
    const codes = parameters.split(/[;:]/).map((code) => Number(code) || 0);
    for (let at = 0; at < codes.length; at += 1) {
      const code = codes[at];
      if (code === 0) [this.#bold, this.#dim, this.#italic, this.#underlined, this.#colour, this.#back] = [];
      else if (code === 1) this.#bold = true;
      else if (code === 2) this.#dim = true;
      else if (code === 3) this.#italic = true;
      else if (code === 4) this.#underlined = true;
      else if (code === 22) this.#bold = this.#dim = false;
      else if (code === 23) this.#italic = false;
      else if (code === 24) this.#underlined = false;
      else if (code === 39) this.#colour = "";
      else if (code === 49) this.#back = "";
      else if (code >= 30 && code <= 37) this.#colour = COLOURS[code - 30];
      else if (code >= 90 && code <= 97) this.#colour = COLOURS[code - 90];
      else if (code >= 40 && code <= 47) this.#back = COLOURS[code - 40];
      else if (code >= 100 && code <= 107) this.#back = COLOURS[code - 100];
      else if (code === 38 || code === 48) {
        // 38;5;N of a palette, 38;2;R;G;B
        const colour = codes[at + 1] === 5 ? COLOURS[codes[at + 2] % 8 || 0] : "";
        if (codes[at + 1] === 5 && codes[at + 2] < 16) {
          if (code === 38) this.#colour = colour;
          else this.#back = colour;
        }
        at += codes[at + 1] === 5 ? 2 : 4;
      }
    }
    this.#name();
  }

  #name() {
    const classes = [
      this.stream === "stderr" && "stderr",
      this.#bold && "bold",
      this.#dim && "dim",
      this.#italic && "italic",
      this.#underlined && "underlined",
      this.#colour && `ink-${this.#colour}`,
      this.#back && `back-${this.#back}`,
    ];
    this.classes = classes.filter(Boolean).join(" ");
  }
}

/** What one execution has written. */
export class Output {
  #lines;
  #skipped;
  #current;
  #blocks = [];
  #line = [];
  #column = 0;
  #waiting = [];
  #waitingCharacters = 0;
  #missing = 0;
  #frame = 0;
  #looks = { stdout: new Look("stdout"), stderr: new Look("stderr") };
  #rests = { stdout: "", stderr: "" };
  #kept = [];
  #keptCharacters = 0;

  /** Shows it in an element; `scroller` is what is scrolled. */
  constructor(element, scroller) {
    this.scroller = scroller;
    this.#skipped = document.createElement("p");
    this.#skipped.className = "skipped";
    this.#skipped.hidden = true;
    this.#lines = document.createElement("pre");
    this.#lines.className = "lines";
    this.#current = document.createElement("span");
    this.#lines.append(this.#current);
    element.append(this.#skipped, this.#lines);
    /** Whether there was any. */
    this.isEmpty = true;
    /** Whether all of it is in what can be downloaded. */
    this.isWhole = true;
    /** How many characters came. */
    this.characters = 0;
  }

  /** Takes what a program has written. It is shown with the next frame. */
  write(stream, text) {
    if (text === "") return;
    this.isEmpty = false;
    this.characters += text.length;
    this.#keep(text);
    for (let at = 0; at < text.length; at += PORTION) this.#waiting.push([stream, text.slice(at, at + PORTION)]);
    this.#waitingCharacters += text.length;
    // A page in the background has no frames.
    while (this.#waitingCharacters > MOST_WAITING) {
      const [, oldest] = this.#waiting[0];
      const over = this.#waitingCharacters - MOST_WAITING;
      if (oldest.length <= over) this.#waiting.shift();
      else this.#waiting[0][1] = oldest.slice(over);
      const gone = Math.min(over, oldest.length);
      this.#waitingCharacters -= gone;
      this.#missing += gone;
    }
    this.#frame ||= requestAnimationFrame(() => this.#flush(FRAME));
  }

  /** Shows all that has come. */
  flush() {
    this.#flush(Infinity);
  }

  /** Shows what has come; what would take longer than so many milliseconds, with the next frame. */
  #flush(most) {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const { scroller } = this;
    const follows = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 40;
    const since = performance.now();
    let shown = 0;
    while (shown < this.#waiting.length && performance.now() - since < most) {
      const [stream, text] = this.#waiting[shown];
      this.#show(stream, text);
      this.#waitingCharacters -= text.length;
      shown += 1;
    }
    this.#waiting.splice(0, shown);
    if (this.#waiting.length > 0) this.#frame = requestAnimationFrame(() => this.#flush(FRAME));
    this.#draw();
    if (this.#missing > 0) {
      const kilobytes = Math.ceil(this.#missing / 1000).toLocaleString("en");
      this.#skipped.textContent = `About ${kilobytes} kB of earlier output are not shown: download the output to see them.`;
      this.#skipped.hidden = false;
    }
    if (follows) scroller.scrollTop = scroller.scrollHeight;
  }

  /** All of it, as far as it was kept. */
  blob() {
    return new Blob(this.#kept, { type: "text/plain;charset=utf-8" });
  }

  #keep(text) {
    const room = MOST_KEPT - this.#keptCharacters;
    if (text.length > room) this.isWhole = false;
    const kept = text.slice(0, room);
    this.#keptCharacters += kept.length;
    this.#kept.push(kept);
    // Blobs may be kept outside of memory, and many strings cost more than one.
    if (this.#kept.length > 1000) this.#kept = [new Blob(this.#kept)];
  }

  #show(stream, text) {
    const look = this.#looks[stream];
    let rest = this.#rests[stream] + text;
    this.#rests[stream] = "";
    while (rest !== "") {
      const at = rest.search(/[\u0000-\u0008\u000a-\u001f\u007f-\u009f]/);
      if (at !== 0) {
        this.#put(at < 0 ? rest : rest.slice(0, at), look.classes);
        if (at < 0) return;
        rest = rest.slice(at);
      }
      const control = rest[0];
      if (control !== "\u001b") {
        rest = rest.slice(1);
        if (control === "\n") this.#newLine();
        else if (control === "\r") this.#column = 0;
        else if (control === "\b") this.#column = Math.max(0, this.#column - 1);
        continue;
      }
      // CSI … final, OSC … BEL or ST, or two or three characters.
      const escape = /^\u001b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\u0007\u001b]*(?:\u0007|\u001b\\)|[ -/]+[0-~]|[0-OQ-WYZ\\`-~])/.exec(rest);
      if (escape) {
        const [sequence] = escape;
        if (sequence.startsWith("\u001b[") && sequence.endsWith("m")) look.select(sequence.slice(2, -1));
        else if (/^\u001b\[[02]?K$/.test(sequence)) this.#erase(sequence[2]);
        rest = rest.slice(sequence.length);
      } else if (rest.length < LONGEST_ESCAPE && /^\u001b(?:\[[0-?]*[ -/]*|[\]PX^_][^\u0007\u001b]*\u001b?|[ -/]*)$/.test(rest)) {
        // Its end is in the next chunk.
        this.#rests[stream] = rest;
        return;
      } else {
        rest = rest.slice(1);
      }
    }
  }

  /** Writes at the cursor, over what is there. The line is a list of [text, classes]. */
  #put(text, classes) {
    let from = 0;
    while (from < text.length) {
      const room = LONGEST_LINE - this.#column;
      let to = Math.min(text.length, from + Math.max(room, 1));
      // Not between the halves of a character.
      if (to < text.length && /[\ud800-\udbff]/.test(text[to - 1])) to += 1;
      this.#putPiece(text.slice(from, to), classes);
      from = to;
      if (this.#column >= LONGEST_LINE || this.#line.length >= LINE_PIECES) this.#commit("");
    }
  }

  #putPiece(text, classes) {
    const length = this.#line.reduce((sum, [piece]) => sum + piece.length, 0);
    const last = this.#line.at(-1);
    if (this.#column >= length) {
      if (last && last[1] === classes) last[0] += text;
      else this.#line.push([text, classes]);
    } else {
      const before = this.#cut(0, this.#column);
      const after = this.#cut(this.#column + text.length, length);
      this.#line = [...before, [text, classes], ...after];
    }
    this.#column += text.length;
  }

  #cut(from, to) {
    const cut = [];
    let at = 0;
    for (const [text, classes] of this.#line) {
      const piece = text.slice(Math.max(0, from - at), Math.max(0, to - at));
      if (piece !== "") cut.push([piece, classes]);
      at += text.length;
    }
    return cut;
  }

  #erase(mode) {
    this.#line = mode === "2" ? [] : this.#cut(0, this.#column);
    if (mode === "2") this.#column = 0;
  }

  #newLine() {
    this.#commit("\n");
  }

  /** The line is finished. */
  #commit(end) {
    let block = this.#blocks.at(-1);
    if (!block || block.lines >= BLOCK_LINES || block.characters >= BLOCK_CHARACTERS || block.pieces >= BLOCK_PIECES) {
      block = { element: document.createElement("span"), waiting: [], lines: 0, characters: 0, pieces: 0 };
      block.element.className = "block";
      this.#blocks.push(block);
      if (this.#blocks.length > MOST_BLOCKS) {
        const oldest = this.#blocks.shift();
        this.#missing += oldest.characters;
        oldest.element.remove();
      }
    }
    // Most lines are plain text: one piece for many of them.
    for (const [text, classes] of [...this.#line, [end, ""]]) {
      const last = block.waiting.at(-1);
      if (last && last[1] === classes) last[0] += text;
      else if (text !== "") block.waiting.push([text, classes]);
      block.characters += text.length;
    }
    block.lines += end === "" ? 0 : 1;
    block.pieces += this.#line.length;
    [this.#line, this.#column] = [[], 0];
  }

  /** Puts what is new of the blocks into the page: only then, as many may come and go with one frame. */
  #draw() {
    for (const { element, waiting } of this.#blocks) {
      if (waiting.length > 0) element.append(...pieces(waiting.splice(0)));
      if (!element.isConnected) this.#current.before(element);
    }
    this.#current.replaceChildren(...pieces(this.#line));
  }
}

function pieces(list) {
  return list.map(([text, classes]) => {
    if (classes === "") return document.createTextNode(text);
    const span = document.createElement("span");
    span.className = classes;
    span.textContent = text;
    return span;
  });
}
