// The editor of the page: CodeMirror, with what the page needs of it and nothing else.
//
// It lives in a shadow root: there CodeMirror puts its styles into `adoptedStyleSheets`, which a policy without
// `unsafe-inline` allows; in the document itself it would add a <style> element, which that policy forbids.

import { closeBrackets, closeBracketsKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { python } from "@codemirror/lang-python";
import {
  HighlightStyle,
  StreamLanguage,
  bracketMatching,
  indentOnInput,
  indentUnit,
  syntaxHighlighting,
} from "@codemirror/language";
import { c, cpp, java } from "@codemirror/legacy-modes/mode/clike";
import { go } from "@codemirror/legacy-modes/mode/go";
import { javascript, json, typescript } from "@codemirror/legacy-modes/mode/javascript";
import { ruby } from "@codemirror/legacy-modes/mode/ruby";
import { rust } from "@codemirror/legacy-modes/mode/rust";
import { shell } from "@codemirror/legacy-modes/mode/shell";
import { EditorState } from "@codemirror/state";
import {
  EditorView,
  drawSelection,
  highlightActiveLine,
  highlightActiveLineGutter,
  highlightSpecialChars,
  keymap,
  lineNumbers,
} from "@codemirror/view";
import { tags } from "@lezer/highlight";

/** What a file is written in, by the end of its name. */
const MODES = {
  py: python(),
  ...Object.fromEntries(
    Object.entries({
      bash: shell, c, cc: cpp, cpp, cjs: javascript, go, h: c, hpp: cpp, java, js: javascript, json, mjs: javascript,
      rb: ruby, rs: rust, sh: shell, ts: typescript,
    }).map(([end, mode]) => [end, StreamLanguage.define(mode)]),
  ),
};

// Colours are the page's: its variables reach into the shadow root, and change with its theme.
const COLOURS = HighlightStyle.define([
  { tag: [tags.keyword, tags.modifier, tags.operatorKeyword], color: "var(--code-keyword)" },
  { tag: [tags.string, tags.special(tags.string), tags.regexp], color: "var(--code-string)" },
  { tag: [tags.number, tags.bool, tags.null, tags.atom], color: "var(--code-number)" },
  { tag: tags.comment, color: "var(--code-comment)", fontStyle: "italic" },
  { tag: [tags.function(tags.variableName), tags.function(tags.propertyName)], color: "var(--code-function)" },
  { tag: [tags.definition(tags.className), tags.className, tags.typeName, tags.standard(tags.variableName)],
    color: "var(--code-type)" },
  { tag: [tags.meta, tags.processingInstruction], color: "var(--code-number)" },
  { tag: tags.invalid, color: "var(--bad)" },
]);

const LOOK = EditorView.theme({
  "&": { height: "100%", color: "var(--text)", backgroundColor: "var(--surface)", fontSize: "var(--code-size)" },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.6", overflow: "auto" },
  ".cm-content": { padding: "10px 0", caretColor: "var(--accent)" },
  ".cm-line": { padding: "0 14px 0 8px" },
  ".cm-gutters": { color: "var(--soft)", backgroundColor: "var(--surface)", border: "none", userSelect: "none" },
  ".cm-lineNumbers .cm-gutterElement": { padding: "0 6px 0 14px", minWidth: "34px" },
  ".cm-activeLine": { backgroundColor: "var(--active-line)" },
  ".cm-activeLineGutter": { color: "var(--text)", backgroundColor: "var(--active-line)" },
  ".cm-cursor": { borderLeftColor: "var(--accent)", borderLeftWidth: "2px" },
  "& > .cm-scroller > .cm-selectionLayer .cm-selectionBackground": { background: "var(--selection)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground": { background: "var(--selection)" },
  "&.cm-focused .cm-matchingBracket": { backgroundColor: "var(--selection)", outline: "1px solid var(--line)" },
  ".cm-specialChar": { color: "var(--bad)" },
});

/**
 * Text that replaces a selection. Left to itself Chromium edits what is shown, and where that has several lines keeps their
 * look in `style` attributes, which the policy forbids: that does no harm, but the browser complains of it.
 */
const REPLACE_SELECTION = EditorView.domEventHandlers({
  beforeinput(event, view) {
    const { main } = view.state.selection;
    if (event.inputType !== "insertText" || !event.data || event.isComposing || main.empty) return false;
    const insert = () => view.state.update(view.state.replaceSelection(event.data), { userEvent: "input.type", scrollIntoView: true });
    const handlers = view.state.facet(EditorView.inputHandler);
    if (!handlers.some((handle) => handle(view, main.from, main.to, event.data, insert))) view.dispatch(insert());
    event.preventDefault();
    return true;
  },
});

/**
 * Puts an editor into an element. `changed` is called after each change that somebody makes, `run` when Ctrl+Enter is
 * pressed. The label is what a screen reader says; `description` tells how to leave the editor.
 */
export function createEditor({ host, description, changed, run }) {
  const root = host.attachShadow({ mode: "open" });
  const extensions = (name) => [
    lineNumbers(),
    highlightSpecialChars(),
    history(),
    drawSelection(),
    indentOnInput(),
    bracketMatching(),
    closeBrackets(),
    highlightActiveLine(),
    highlightActiveLineGutter(),
    indentUnit.of("    "),
    EditorState.tabSize.of(4),
    EditorView.lineWrapping,
    REPLACE_SELECTION,
    LOOK,
    syntaxHighlighting(COLOURS),
    MODES[/\.([a-z]+)$/.exec(name.toLowerCase())?.[1]] ?? [],
    EditorView.contentAttributes.of({
      "aria-label": `Text of ${name}`,
      "aria-description": description,
      autocapitalize: "off",
      tabindex: "0",
      spellcheck: "false",
    }),
    EditorView.updateListener.of((update) => update.docChanged && changed()),
    keymap.of([
      { key: "Mod-Enter", run: () => (run(), true) },
      { key: "Ctrl-Enter", run: () => (run(), true) },
      ...closeBracketsKeymap,
      ...defaultKeymap,
      ...historyKeymap,
      indentWithTab,
    ]),
  ];
  const view = new EditorView({ root, parent: root });
  return {
    /** A document that can be shown, with a history of its own. */
    open: (name, text) => EditorState.create({ doc: text, extensions: extensions(name) }),
    /** Shows one; what was shown before is given back, with what has become of it. */
    show(state) {
      const before = view.state;
      view.setState(state);
      return before;
    },
    state: () => view.state,
    text: (state) => state.doc.toString(),
    focus: () => view.focus(),
  };
}
