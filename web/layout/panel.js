// Below the frame: buttons, list of subjects, exact numbers, the text, one line of advice.

import { LIMITS } from "./document.js";
import { button, element, matchCount, numberField, showSubject } from "./elements.js";
import { sourceName } from "./stage.js";

const BUTTONS = [
  ["undo", "\u21b6", "Undo (Ctrl+Z)"],
  ["redo", "\u21b7", "Redo (Ctrl+Y)"],
  ["findPlace", "Place", "Find a place for this subject"],
  ["keepAll", "Keep", "Keep all places as they are shown"],
  ["earlier", "\u25c0", "Exchange with the subject before (Page Up)"],
  ["later", "\u25b6", "Exchange with the next subject (Page Down)"],
  ["duplicate", "Copy", "Same size and settings for the next subject (Ctrl+D)"],
  ["clear", "\u2715", "Remove what was drawn for this subject (Delete)"],
];
const EDGES = ["left", "top", "right", "bottom"];

export class Panel {
  chips = [];

  constructor(actions) {
    this.actions = actions;
    this.buttons = Object.fromEntries(
      BUTTONS.map(([name, label, title]) => [name, button(label, title, () => actions[name]())]),
    );
    this.buttons.text = button("JSON", "Show the layout as text", () => this.#toggleText());
    this.list = element("div", { class: "sdl-list", role: "group", "aria-label": "Subjects" });
    this.#makeFields();
    this.#makeText();
    this.status = element("div", { class: "sdl-status", role: "status" });
    this.elements = [
      element(
        "div",
        { class: "sdl-tools", role: "toolbar", "aria-label": "Layout" },
        ...Object.values(this.buttons),
      ),
      this.list,
      element("div", { class: "sdl-numbers" }, ...this.fields.map(({ field }) => field)),
      this.textPanel,
      this.status,
    ];
  }

  render(model) {
    const { items, selected, isReadOnly, text, problem, advice } = model;
    const item = items[selected];
    const isDisabled = {
      undo: !model.canUndo,
      redo: !model.canRedo,
      findPlace: !item,
      keepAll: !items.some(({ box, source }) => box && source !== "layout"),
      earlier: !item || selected === 0,
      later: !item || selected === items.length - 1,
      duplicate: !item?.box || items.length < 2,
      clear: !item?.isSaid,
    };
    for (const [name] of BUTTONS) this.buttons[name].disabled = isReadOnly || isDisabled[name];
    this.#renderChips(items, selected);
    this.#renderFields(item, isReadOnly);
    if (document.activeElement !== this.text) this.text.value = text;
    this.text.readOnly = isReadOnly;
    if (problem) this.#toggleText(true);
    this.status.textContent = problem ?? advice;
    this.status.classList.toggle("sdl-problem", !!problem);
  }

  showBox(box) {
    box.forEach((edge, i) => (this.fields[i].input.value = edge.toFixed(3)));
  }

  #renderChips(items, selected) {
    matchCount(this.chips, items.length, this.list, (index) =>
      button("", "", () => this.actions.select(index), { class: "sdl-chip" }),
    );
    items.forEach((item, index) => {
      const chip = this.chips[index];
      const where = item.box ? sourceName(item.source) || "drawn here" : "no place yet";
      showSubject(chip, item, index === selected, item.label || item.name);
      chip.classList.toggle("sdl-missing", item.box === null);
      chip.title = `${item.name}, ${item.label}: ${where}`;
      chip.setAttribute("aria-label", chip.title);
    });
  }

  #makeFields() {
    const edges = EDGES.map((name, edge) =>
      numberField(name, {}, (value) => this.actions.setEdge(edge, value)),
    );
    const others = Object.entries(LIMITS).map(([key, max]) => ({
      key,
      ...numberField(key, { max, step: 0.05 }, (value) => this.actions.setField(key, value)),
    }));
    this.fields = [...edges, ...others];
  }

  #renderFields(item, isReadOnly) {
    for (const [i, { input, key }] of this.fields.entries()) {
      input.disabled = isReadOnly || !item;
      const value = key ? item?.[key] : item?.box?.[i];
      input.value = value === undefined ? "" : Number(value.toFixed(4));
    }
  }

  #makeText() {
    this.text = element("textarea", {
      "aria-label": "The layout as JSON",
      spellcheck: "false",
      rows: 4,
      onchange: () => this.actions.setText(this.text.value),
    });
    this.textPanel = element("div", { class: "sdl-text", hidden: true }, this.text);
  }

  #toggleText(isShown = this.textPanel.hidden) {
    this.textPanel.hidden = !isShown;
    this.buttons.text.setAttribute("aria-expanded", isShown);
  }
}
