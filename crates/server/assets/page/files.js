// The files of the program: tabs, and the editor that shows one of them. The first is the one that is run: its name is the
// language's.

import { createEditor } from "./editor.js";
import { MOST_FILES, wrongName } from "./program.js";

const element = (id) => document.getElementById(id);

/** The files, as tabs. */
export class Files {
  #files = [];
  #at = 0;
  #editor;
  #tell;
  /** What the naming is for: a file, or a new one. */
  #naming = null;

  /** `changed` is called when somebody changes the program; `programChanged` when another one is shown, too. */
  constructor({ changed, programChanged, notify, run }) {
    this.#tell = { changed, programChanged, notify };
    this.#editor = createEditor({
      host: element("editor"),
      description: "Press Escape, then Tab to leave the editor. Control and Enter run the program.",
      changed,
      run,
    });
    const on = (id, event, act) => element(id).addEventListener(event, act);
    on("add", "click", () => this.#ask("new"));
    on("rename", "click", () => this.#ask("rename"));
    on("close", "click", () => this.#close(this.#at));
    on("name-cancel", "click", () => this.#stopNaming());
    on("naming", "submit", (event) => (event.preventDefault(), this.#named()));
    on("naming", "keydown", (event) => event.key === "Escape" && this.#stopNaming());
    on("name", "input", () => this.#wrong(""));
    on("tabs", "keydown", (event) => this.#key(event));
    on("tabs", "dblclick", () => this.#at > 0 && this.#ask("rename"));
  }

  /** Shows these. */
  show(files) {
    this.#files = files.map(({ name, content }) => ({ name, state: this.#editor.open(name, content) }));
    this.#at = 0;
    this.#editor.show(this.#files[0].state);
    this.#stopNaming(false);
    this.#draw();
  }

  /** All of them, as they are now. */
  all() {
    this.#keep();
    return this.#files.map(({ name, state }) => ({ name, content: this.#editor.text(state) }));
  }

  /** The first has another name now. */
  renameMain(name) {
    if (this.#files[0].name === name) return;
    this.#keep();
    // Another one that has this name makes way.
    this.#files = this.#files.filter((file, index) => index === 0 || file.name !== name);
    this.#at = 0;
    this.#editor.show(this.#files[0].state);
    this.#rename(0, name);
  }

  focus() {
    this.#editor.focus();
  }

  #keep() {
    if (this.#files[this.#at]) this.#files[this.#at].state = this.#editor.state();
  }

  #select(index) {
    this.#keep();
    this.#at = index;
    this.#editor.show(this.#files[index].state);
    this.#draw();
  }

  #rename(index, name) {
    this.#keep();
    // Another end of the name may be another language.
    this.#files[index] = { name, state: this.#editor.open(name, this.#editor.text(this.#files[index].state)) };
    this.#editor.show(this.#files[this.#at].state);
    this.#draw();
  }

  #draw() {
    const hadFocus = element("tabs").contains(document.activeElement);
    const tabs = this.#files.map(({ name }, index) => {
      const tab = document.createElement("button");
      const isChosen = index === this.#at;
      Object.assign(tab, { type: "button", id: `tab-${index}`, tabIndex: isChosen ? 0 : -1, title: name });
      tab.role = "tab";
      tab.textContent = name;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.setAttribute("aria-controls", "panel");
      tab.addEventListener("click", () => (this.#select(index), element(`tab-${index}`).focus()));
      return tab;
    });
    element("tabs").replaceChildren(...tabs);
    element("panel").setAttribute("aria-labelledby", `tab-${this.#at}`);
    tabs[this.#at].scrollIntoView({ block: "nearest", inline: "nearest" });
    if (hadFocus) tabs[this.#at].focus();
    element("rename").disabled = element("close").disabled = this.#at === 0;
    element("add").disabled = this.#files.length >= MOST_FILES;
  }

  #key(event) {
    const last = this.#files.length - 1;
    const next = {
      ArrowLeft: this.#at === 0 ? last : this.#at - 1,
      ArrowRight: this.#at === last ? 0 : this.#at + 1,
      Home: 0,
      End: last,
    }[event.key];
    if (next !== undefined) this.#select(next);
    else if (event.key === "F2" && this.#at > 0) this.#ask("rename");
    else if (event.key === "Delete" && this.#at > 0) this.#close(this.#at);
    else return;
    event.preventDefault();
  }

  #ask(what) {
    this.#naming = what;
    element("naming").hidden = false;
    element("name").value = what === "new" ? "" : this.#files[this.#at].name;
    this.#wrong("");
    element("name").focus();
    element("name").select();
  }

  #wrong(text) {
    element("name-wrong").textContent = text;
    element("name").setAttribute("aria-invalid", String(text !== ""));
  }

  #stopNaming(focus = true) {
    const what = this.#naming;
    this.#naming = null;
    element("naming").hidden = true;
    if (focus && what) element(what === "new" ? "add" : "rename").focus();
  }

  #named() {
    const name = element("name").value.trim();
    const isNew = this.#naming === "new";
    const others = this.#files.filter((_, index) => isNew || index !== this.#at).map((file) => file.name);
    const wrong = wrongName(name, others);
    this.#wrong(wrong);
    if (wrong !== "") return;
    this.#stopNaming(false);
    if (isNew) {
      this.#files.push({ name, state: this.#editor.open(name, "") });
      this.#select(this.#files.length - 1);
    } else {
      this.#rename(this.#at, name);
    }
    this.#tell.changed();
    this.focus();
  }

  #close(index) {
    this.#keep();
    const [closed] = this.#files.splice(index, 1);
    this.#at = index - 1;
    this.#editor.show(this.#files[this.#at].state);
    this.#draw();
    element(`tab-${this.#at}`).focus();
    this.#tell.changed();
    if (this.#editor.text(closed.state) === "") return;
    this.#tell.notify(`${closed.name} was closed.`, {
      label: "Undo",
      act: () => {
        // There may be another one of that name by now.
        if (wrongName(closed.name, this.#files.map((file) => file.name)) !== "") return;
        this.#files.splice(index, 0, closed);
        this.#keepAt(index);
        this.focus();
      },
    });
  }

  #keepAt(index) {
    // What is shown is still where it was, unless the file came before it.
    if (index <= this.#at) this.#at += 1;
    this.#select(index);
    this.#tell.changed();
  }
}
