// The frame in the proportions of the picture, with a box for each subject.

import { area, HANDLES, sides } from "./geometry.js";
import { LIMITS } from "./document.js";
import { element, matchCount, showSubject, withOwnUndo } from "./elements.js";

const percent = (fraction) => `${100 * fraction}%`;
const SOURCES = {
  subject: "box of its Subject node",
  reference: "place in its own picture",
  random: "drawn by place_seed",
  "last run": "where the last run put it",
};

/** What a source of a box is called; empty for one that was drawn here. */
export const sourceName = (source) => SOURCES[source] ?? "";

export class Stage {
  boxes = [];

  /** `onStrength(value)`: the strength handle of the selected box was moved. */
  constructor({ onSelect, onStrength }) {
    this.onSelect = onSelect;
    this.guides = ["x", "y"].map((axis) =>
      element("div", { class: `sdl-guide sdl-guide-${axis}`, hidden: true }),
    );
    this.frame = withOwnUndo(
      element(
        "div",
        { class: "sdl-frame", role: "application", "aria-label": "Places of the subjects" },
        element("div", { class: "sdl-thirds", "aria-hidden": true }),
        ...this.guides,
      ),
    );
    this.element = element("div", { class: "sdl-holder" }, this.frame);
    this.handles = HANDLES.map((handle) =>
      element("div", { class: `sdl-handle sdl-${handle}`, "data-handle": handle }),
    );
    this.strength = element("input", {
      class: "sdl-strength",
      type: "range",
      min: 0,
      max: LIMITS.strength,
      step: 0.05,
      onchange: () => onStrength(this.strength.valueAsNumber),
    });
  }

  render({ aspect, items, selected }) {
    this.frame.style.setProperty("--aspect", aspect);
    matchCount(this.boxes, items.length, this.frame, (index) => this.#newBox(index));
    items.forEach((item, index) => this.#renderBox(this.boxes[index], item, index === selected));
    this.#renderHandles(items[selected]);
    this.showGuides([null, null]);
  }

  /** A box while it is pulled; nothing else changes. */
  showBox(index, box, guides) {
    const made = this.boxes[index];
    const [left, top, width, height] = [...box.slice(0, 2), ...sides(box)].map(percent);
    made.hidden = false;
    Object.assign(made.style, { left, top, width, height });
    this.showGuides(guides);
  }

  showGuides(places) {
    places.forEach((place, axis) => {
      this.guides[axis].hidden = place === null;
      if (place !== null) this.guides[axis].style[axis ? "top" : "left"] = percent(place);
    });
  }

  focus(index) {
    this.boxes[index]?.focus({ preventScroll: true });
  }

  #newBox(index) {
    const attributes = { class: "sdl-box", role: "button", tabindex: 0, "data-subject": index };
    const onfocus = () => this.onSelect(index);
    return withOwnUndo(element("div", { ...attributes, onfocus }));
  }

  #renderBox(made, item, isSelected) {
    const text = item.strength === 1 ? item.label : `${item.label} x${item.strength}`;
    showSubject(made, item, isSelected, text);
    made.hidden = item.box === null;
    made.classList.toggle("sdl-ghost", !["layout", "subject"].includes(item.source));
    made.classList.toggle("sdl-selected", isSelected);
    made.classList.toggle("sdl-off", item.strength === 0);
    if (!item.box) return;
    const [left, top, right, bottom] = item.box.map((edge) => Math.round(100 * edge));
    const where = `left ${left}, top ${top}, right ${right}, bottom ${bottom} percent`;
    made.title = sourceName(item.source);
    made.setAttribute("aria-label", `${item.name}, ${item.label}: ${where}. ${made.title}`);
    // small boxes above large ones
    made.style.zIndex = isSelected ? 1001 : Math.round(1000 * (1 - area(item.box)));
    this.showBox(item.index, item.box, [null, null]);
  }

  #renderHandles(item) {
    if (!item?.box) {
      for (const handle of [...this.handles, this.strength]) handle.remove();
      return;
    }
    const box = this.boxes[item.index];
    if (this.strength.parentElement !== box) box.append(...this.handles, this.strength);
    this.strength.value = item.strength;
    this.strength.title = `Strength ${item.strength}`;
    this.strength.setAttribute("aria-label", `Strength of ${item.label}`);
  }
}
