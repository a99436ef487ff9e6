// Below the frame: buttons, the list of subjects, exact numbers, the text, and one line of advice.

import { LIMITS } from "./document.js";
import { button, element, numberField, withOwnUndo } from "./elements.js";
import { sourceName } from "./stage.js";

const EDGES = ["left", "top", "right", "bottom"];

export class Panel {
  /** `actions`: what the buttons and fields do; see LayoutEditor. */
  constructor(actions) {
    this.actions = actions;
    this.buttons = {
      undo: button("\u21b6", "Undo (Ctrl+Z)", () => actions.undo()),
      redo: button("\u21b7", "Redo (Ctrl+Y)", () => actions.redo()),
      place: button("Place", "Find a place for this subject", () => actions.findPlace()),
      keep: button("Keep", "Keep all places as they are shown", () => actions.keepAll()),
      earlier: button("\u25c0", "Exchange places with the subject before (Page Up)", () =>
        actions.exchange(-1),
      ),
      later: button("\u25b6", "Exchange places with the next subject (Page Down)", () =>
        actions.exchange(1),
      ),
      duplicate: button("Copy", "Same size and settings for the next subject (Ctrl+D)", () =>
        actions.duplicate(),
      ),
      clear: button("\u2715", "Remove what was drawn for this subject (Delete)", () =>
        actions.clear(),
      ),
      text: button("JSON", "Show the layout as text", () => this.#toggleText()),
    };
    this.list = element("div", { class: "sdl-list", role: "group", "aria-label": "Subjects" });
    this.chips = [];
    this.#makeFields();
    this.#makeText();
    this.status = element("div", { class: "sdl-status", role: "status" });
    this.elements = [
      element("div", { class: "sdl-tools", role: "toolbar", "aria-label": "Layout" }),
      this.list,
      element("div", { class: "sdl-numbers" }, ...this.fields.map(({ field }) => field)),
      this.textPanel,
      this.status,
    ];
    this.elements[0].append(...Object.values(this.buttons));
  }

  render(model) {
    const { items, selected, isReadOnly, text, problem, advice } = model;
    const item = items[selected];
    const disable = (name, isDisabled) => (this.buttons[name].disabled = isReadOnly || isDisabled);
    disable("undo", !model.canUndo);
    disable("redo", !model.canRedo);
    disable("place", !item);
    disable("keep", !items.some(({ box, source }) => box && source !== "layout"));
    disable("earlier", !item || selected === 0);
    disable("later", !item || selected === items.length - 1);
    disable("duplicate", !item?.box || items.length < 2);
    disable("clear", !item?.isSaid);
    this.#renderChips(items, selected);
    this.#renderFields(item, isReadOnly);
    if (document.activeElement !== this.text) this.text.value = text;
    this.text.readOnly = isReadOnly;
    if (problem) this.#toggleText(true);
    this.status.textContent = problem ?? advice;
    this.status.classList.toggle("sdl-problem", !!problem);
  }

  /** The numbers of a box while it is pulled. */
  showBox(box) {
    box.forEach((edge, i) => (this.fields[i].input.value = edge.toFixed(3)));
  }

  #renderChips(items, selected) {
    while (this.chips.length > items.length) this.chips.pop().remove();
    while (this.chips.length < items.length) {
      const index = this.chips.length;
      const chip = button("", "", () => this.actions.select(index), { class: "sdl-chip" });
      chip.append(element("img", { alt: "" }), element("span"));
      this.chips.push(chip);
      this.list.append(chip);
    }
    items.forEach((item, index) => {
      const [image, label] = this.chips[index].children;
      this.chips[index].style.setProperty("--colour", item.colour);
      this.chips[index].setAttribute("aria-pressed", index === selected);
      this.chips[index].classList.toggle("sdl-missing", item.box === null);
      const where = item.box ? sourceName(item.source) || "drawn here" : "no place yet";
      this.chips[index].title = `${item.name}: ${where}`;
      this.chips[index].setAttribute("aria-label", `${item.name}, ${item.label}: ${where}`);
      image.hidden = !item.thumbnail;
      if (item.thumbnail) image.src = item.thumbnail;
      label.textContent = item.label || item.name;
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
      if (document.activeElement !== input || !input.matches(":focus-visible")) {
        input.value = value === undefined ? "" : Number(value.toFixed(4));
      }
    }
  }

  #makeText() {
    this.text = element("textarea", {
      "aria-label": "The layout as JSON",
      spellcheck: "false",
      rows: 4,
      onchange: () => this.actions.setText(this.text.value),
    });
    const clear = button("Clear", "Forget the whole layout", () => this.actions.setText(""));
    this.textPanel = element("div", { class: "sdl-text", hidden: true }, this.text, clear);
    withOwnUndo(this.buttons.text).setAttribute("aria-expanded", "false");
  }

  #toggleText(isShown = this.textPanel.hidden) {
    this.textPanel.hidden = !isShown;
    this.buttons.text.setAttribute("aria-expanded", isShown);
  }
}
