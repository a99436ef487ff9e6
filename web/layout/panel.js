// Below the frame: buttons, list of subjects, exact numbers, the text, one line of advice.

import { LIMITS } from "./document.js";
import { button, element, matchCount, numberField, showSubject } from "./elements.js";
import { sourceName } from "./stage.js";
import { say } from "./texts.js";

/** Label and title by what the button does. */
const buttonTexts = () => ({
  undo: ["\u21b6", say("Undo (Ctrl+Z)")],
  redo: ["\u21b7", say("Redo (Ctrl+Y)")],
  findPlace: [say("Place"), say("Find a place for this subject")],
  keepAll: [say("Keep"), say("Keep all places as they are shown")],
  earlier: ["\u25c0", say("Exchange with the subject before (Page Up)")],
  later: ["\u25b6", say("Exchange with the next subject (Page Down)")],
  duplicate: [say("Copy"), say("Same size and settings for the next subject (Ctrl+D)")],
  clear: ["\u2715", say("Remove what was drawn for this subject (Delete)")],
  lock: [say("Lock"), say("Hold this box where it is (Ctrl+L)")],
  popOut: ["\u2922", say("A window of its own for the board, and back (Esc)")],
});

export class Panel {
  chips = [];

  constructor(editor) {
    this.editor = editor;
    this.buttons = buttonTexts();
    for (const [name, texts] of Object.entries(this.buttons)) {
      this.buttons[name] = button(...texts, () => editor[name]());
    }
    this.buttons.text = button("JSON", say("Show the layout as text"), () => this.#toggleText());
    this.list = element("div", { class: "sdl-list", role: "group", "aria-label": say("Subjects") });
    this.#makeFields();
    this.text = element("textarea", {
      class: "sdl-text",
      "aria-label": say("The layout as JSON"),
      spellcheck: "false",
      rows: 4,
      hidden: true,
      onchange: () => editor.setText(this.text.value),
    });
    this.status = element("div", { class: "sdl-status", role: "status" });
    this.elements = [
      element(
        "div",
        { class: "sdl-tools", role: "toolbar", "aria-label": say("Layout") },
        ...Object.values(this.buttons),
      ),
      this.list,
      element("div", { class: "sdl-numbers" }, ...this.fields, ...this.sizes),
      this.text,
      this.status,
    ];
  }

  render(advice) {
    const { items, item, isReadOnly, text, problem, history } = this.editor;
    const isDisabled = {
      undo: !history.past.length,
      redo: !history.future.length,
      findPlace: !item,
      keepAll: !items.some(({ box, source }) => box && source !== "layout"),
      earlier: !items[item?.index - 1],
      later: !items[item?.index + 1],
      duplicate: !item?.box || items.length < 2,
      clear: !item?.isSaid,
      lock: !item?.box,
    };
    for (const [name, isOff] of Object.entries(isDisabled)) {
      this.buttons[name].disabled = isReadOnly || isOff;
    }
    this.buttons.lock.ariaPressed = !!item?.isLocked;
    this.#renderChips();
    this.#renderFields(item, isReadOnly);
    if (document.activeElement !== this.text) this.text.value = text;
    this.text.readOnly = isReadOnly;
    if (problem) this.#toggleText(true);
    this.status.textContent = problem ?? advice;
    this.status.classList.toggle("sdl-problem", !!problem);
  }

  showBox(box) {
    box.forEach((edge, i) => (this.fields[i].control.value = edge.toFixed(3)));
    this.#showSize(box);
  }

  /** A sentence in the place of the advice, until something changes. */
  tell(sentence) {
    this.status.textContent = sentence;
    this.status.classList.add("sdl-problem");
  }

  #renderChips() {
    const { items } = this.editor;
    matchCount(this.chips, items.length, this.list, (index) =>
      button("", "", () => this.editor.select(index), { class: "sdl-chip" }),
    );
    for (const item of items) {
      const chip = this.chips[item.index];
      const where = item.box ? sourceName(item.source) : say("no place yet");
      showSubject(chip, item, item === this.editor.item, item.label || item.name);
      chip.classList.toggle("sdl-missing", item.box === null);
      chip.title = say("{name}, {label}: {where}", { ...item, where });
      chip.ariaLabel = chip.title;
    }
  }

  #makeFields() {
    const edges = [say("left"), say("top"), say("right"), say("bottom")].map((label, edge) =>
      numberField(label, 1, 0.01, (value) => this.editor.setEdge(edge, value)),
    );
    const labels = { strength: say("strength"), start: say("start"), end: say("end") };
    const others = Object.entries(labels).map(([key, label]) =>
      numberField(label, LIMITS[key], 0.05, (value) => this.editor.setField(key, value)),
    );
    this.fields = [...edges, ...others];
    this.sizes = [say("width"), say("height")].map((label, axis) =>
      numberField(label, 16384, 1, (value) => this.editor.setSize(axis, value)),
    );
  }

  /** In pixels of the picture, where its size is known. */
  #showSize(box) {
    const { scene, item, isReadOnly } = this.editor;
    const whole = [scene.width, scene.height];
    this.sizes.forEach(({ control }, axis) => {
      control.disabled = isReadOnly || !item || !whole[axis];
      const isKnown = box && whole[axis];
      control.value = isKnown ? Math.round((box[axis + 2] - box[axis]) * whole[axis]) : "";
    });
  }

  #renderFields(item, isReadOnly) {
    const { box, strength, start, end } = item ?? {};
    const values = [...(box ?? Array(4)), strength, start, end];
    this.fields.forEach(({ control }, i) => {
      control.disabled = isReadOnly || !item;
      control.value = values[i] === undefined ? "" : Number(values[i].toFixed(4));
    });
    this.#showSize(box);
  }

  #toggleText(isShown = this.text.hidden) {
    this.text.hidden = !isShown;
    this.buttons.text.ariaExpanded = isShown;
  }
}
