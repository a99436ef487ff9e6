// The frame in the proportions of the picture, with a box for each subject.

import { area, HANDLES } from "./geometry.js";
import { LIMITS } from "./document.js";
import { element, withOwnUndo } from "./elements.js";

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
    });
    this.strength.addEventListener("change", () => onStrength(this.strength.valueAsNumber));
    this.boxes = [];
  }

  render({ aspect, items, selected }) {
    this.frame.style.setProperty("--aspect", aspect);
    while (this.boxes.length > items.length) this.boxes.pop().remove();
    while (this.boxes.length < items.length) this.boxes.push(this.#newBox(this.boxes.length));
    items.forEach((item, index) => this.#renderBox(this.boxes[index], item, index === selected));
    this.#renderHandles(items[selected]);
    this.showGuides([null, null]);
  }

  /** A box while it is pulled; nothing else changes. */
  showBox(index, box, guides) {
    const { style } = this.boxes[index];
    this.boxes[index].hidden = false;
    style.left = percent(box[0]);
    style.top = percent(box[1]);
    style.width = percent(box[2] - box[0]);
    style.height = percent(box[3] - box[1]);
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
    const box = element("div", {
      class: "sdl-box",
      role: "button",
      tabindex: 0,
      "data-subject": index,
      onfocus: () => this.onSelect(index),
    });
    box.append(element("img", { alt: "", draggable: "false" }), element("span"));
    this.frame.append(box);
    return withOwnUndo(box);
  }

  #renderBox(made, item, isSelected) {
    const [image, label] = made.children;
    made.hidden = item.box === null;
    made.classList.toggle("sdl-ghost", !["layout", "subject"].includes(item.source));
    made.classList.toggle("sdl-selected", isSelected);
    made.classList.toggle("sdl-off", item.strength === 0);
    made.style.setProperty("--colour", item.colour);
    made.setAttribute("aria-pressed", isSelected);
    image.hidden = !item.thumbnail;
    if (item.thumbnail && image.src !== item.thumbnail) image.src = item.thumbnail;
    label.textContent = item.strength === 1 ? item.label : `${item.label} x${item.strength}`;
    if (!item.box) return;
    const edges = item.box.map((edge) => `${Math.round(100 * edge)}`);
    made.setAttribute(
      "aria-label",
      `${item.name}, ${item.label}: left ${edges[0]}, top ${edges[1]}, right ${edges[2]}, ` +
        `bottom ${edges[3]} percent. ${sourceName(item.source)}`,
    );
    made.title = sourceName(item.source);
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
