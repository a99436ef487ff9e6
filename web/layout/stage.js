// The frame in the proportions of the picture, with a box for each subject.

import { area, HANDLES, sides } from "./geometry.js";
import { LIMITS } from "./document.js";
import { element, matchCount, showSubject, withOwnUndo } from "./elements.js";
import { say } from "./texts.js";

const percent = (fraction) => `${100 * fraction}%`;

/** What a source of a box is called. */
export const sourceName = (source) =>
  ({
    layout: say("drawn here"),
    subject: say("box of its Subject node"),
    reference: say("place in its own picture"),
    random: say("drawn by place_seed"),
    "last run": say("where the last run put it"),
  })[source];

export class Stage {
  boxes = [];

  constructor(editor) {
    this.editor = editor;
    this.guides = ["x", "y"].map((axis) =>
      element("div", { class: `sdl-guide sdl-guide-${axis}`, hidden: true }),
    );
    this.frame = withOwnUndo(
      element(
        "div",
        { class: "sdl-frame", role: "application", "aria-label": say("Places of the subjects") },
        (this.photo = element("img", { class: "sdl-photo", alt: "", draggable: "false" })),
        element("div", { class: "sdl-thirds" }),
        ...this.guides,
      ),
    );
    this.element = element("div", { class: "sdl-holder" }, this.frame);
    this.strength = element("input", {
      class: "sdl-strength",
      type: "range",
      min: 0,
      max: LIMITS.strength,
      step: 0.05,
      onchange: () => editor.setField("strength", this.strength.valueAsNumber),
    });
    const handles = HANDLES.map((handle) =>
      element("div", { class: `sdl-handle sdl-${handle}`, "data-handle": handle }),
    );
    this.grips = element("div", {}, ...handles, this.strength);
  }

  /** The photo into which the subjects are put, if there is one. */
  showPhoto(address) {
    this.photo.hidden = !address;
    if (address && this.photo.getAttribute("src") !== address) this.photo.src = address;
  }

  render(aspect) {
    const { items, item } = this.editor;
    this.frame.style.setProperty("--aspect", aspect);
    matchCount(this.boxes, items.length, this.frame, (index) => this.#newBox(index));
    for (const one of items) this.#renderBox(this.boxes[one.index], one, one === item);
    this.#renderHandles(item);
    this.showGuides([null, null]);
  }

  /** A box while it is pulled; nothing else changes. */
  showBox(index, box, guides = [null, null]) {
    const made = this.boxes[index];
    const [left, top, width, height] = [...box.slice(0, 2), ...sides(box)].map(percent);
    made.hidden = false;
    Object.assign(made.style, { left, top, width, height });
    this.showGuides(guides);
  }

  showGuides(places) {
    places.forEach((place, axis) => {
      this.guides[axis].hidden = place === null;
      this.guides[axis].style[axis ? "top" : "left"] = percent(place);
    });
  }

  #newBox(index) {
    const attributes = { class: "sdl-box", role: "button", tabindex: 0, "data-subject": index };
    const onfocus = () => this.editor.select(index);
    return withOwnUndo(element("div", { ...attributes, onfocus }));
  }

  #renderBox(made, item, isSelected) {
    const text = item.strength === 1 ? item.label : `${item.label} x${item.strength}`;
    showSubject(made, item, isSelected, text);
    made.hidden = item.box === null;
    made.classList.toggle("sdl-ghost", !["layout", "subject"].includes(item.source));
    made.classList.toggle("sdl-selected", isSelected);
    made.classList.toggle("sdl-off", item.strength === 0);
    made.classList.toggle("sdl-locked", item.isLocked);
    if (!item.box) return;
    made.title = sourceName(item.source);
    const values = [...item.box.map((edge) => Math.round(100 * edge)), made.title];
    const where = say("left {0}, top {1}, right {2}, bottom {3} percent. {4}", values);
    made.ariaLabel = say("{name}, {label}: {where}", { ...item, where });
    // small boxes above large ones
    made.style.zIndex = isSelected ? 1001 : Math.round(1000 * (1 - area(item.box)));
    this.showBox(item.index, item.box);
  }

  #renderHandles(item) {
    if (!item?.box || item.isLocked) return this.grips.remove();
    const box = this.boxes[item.index];
    if (this.grips.parentElement !== box) box.append(this.grips);
    this.strength.value = item.strength;
    this.strength.title = say("Strength {strength}", item);
    this.strength.ariaLabel = say("Strength of {label}", item);
  }
}
