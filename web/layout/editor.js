// The layout editor of one node: what is shown, and what is done to the saved layout.

import { AskedPlaces } from "./asked_places.js";
import constants from "./constants.js";
import * as layout from "./document.js";
import { freePlace } from "./geometry.js";
import { comesFromElsewhere, readScene } from "./graph.js";
import { addGestures } from "./gestures.js";
import { element } from "./elements.js";
import { onClipboard, onKey } from "./keys.js";
import { LockedBoxes } from "./locked_boxes.js";
import { Panel } from "./panel.js";
import { advice, aspectOf, placesQuestion, shownPlaces, withNewcomers } from "./places.js";
import { Stage } from "./stage.js";
import { say } from "./texts.js";
import { OwnWindow } from "./own_window.js";

const COLOURS = constants.colours;

export class LayoutEditor {
  ids = [];
  parked = new Map();
  placedByItself = new Map();
  lastRun = null;
  selected = null;
  items = [];
  text = "";
  history = new layout.History();

  /**
   * `host`: { pictures, findPlaces(question), onChange(isLasting), undoElsewhere(isRedo) }.
   * `onChange` comes after every change of `text`; `isLasting` is false while a key may still be
   * held.
   */
  constructor(node, host) {
    this.node = node;
    this.host = host;
    this.places = new AskedPlaces(host.findPlaces);
    this.element = element("div", { class: "sdl widget-expands", role: "group" });
    this.element.addEventListener("keydown", (event) => onKey(event, this));
    for (const name of ["copy", "paste"]) {
      this.element.addEventListener(name, (event) => onClipboard(event, this));
    }
    this.locked = new LockedBoxes(node);
    this.window = new OwnWindow(this.element);
    this.build();
  }

  /** Everything in the page, in the language that is spoken now. */
  build() {
    this.stage = new Stage(this);
    this.panel = new Panel(this);
    addGestures(this.stage.frame, this);
    this.element.ariaLabel = say("Layout editor");
    this.element.replaceChildren(this.stage.element, ...this.panel.elements);
    this.#take(this.text);
    if (this.scene) this.render();
  }

  /** The text as the workflow gave it. */
  load(text) {
    this.history = new layout.History();
    this.parked.clear();
    this.#take(typeof text === "string" ? text : "");
    this.refresh();
  }

  /** What the server did in the last run: { width, height, subjects: [{ box, thumbnail }] }. */
  showRun(run) {
    this.lastRun = run;
    this.refresh();
  }

  /** Read the graph again; `mayPlace`: newcomers get a place, as a connection was just made. */
  refresh(mayPlace = false) {
    if (!this.node.graph) return;
    const scene = readScene(this.node);
    if (!scene.isComplete) scene.subjects = this.#fromRun(scene.subjects);
    const ids = scene.subjects.map(({ id }) => id);
    this.isReadOnly = comesFromElsewhere(this.node, "layout");
    scene.hasBoxes ||= this.isReadOnly;
    if (!sameList(ids, this.ids)) this.#follow(scene, ids, mayPlace);
    else this.#giveWay(scene);
    const pictures = scene.subjects.map((subject) => this.#pictureOf(subject));
    const state = JSON.stringify([scene, this.text, this.isReadOnly, this.lastRun, this.selected]);
    const isSame = state === this.shown?.state && sameList(pictures, this.shown.pictures);
    this.scene = scene;
    this.shown = { state, pictures };
    if (!isSame) this.render();
  }

  /** Subjects that other nodes made are known after a run; until then, so is everybody's number. */
  #fromRun(subjects) {
    const all = this.lastRun?.subjects ?? [];
    const others = all.slice(0, Math.max(all.length - subjects.length, 0));
    const made = others.map(({ label }, i) => ({ id: `run ${i}`, label, picture: null }));
    return all.length ? [...made, ...subjects] : [];
  }

  /** The chain of subjects has changed: what was said goes with its subject. */
  #follow(scene, ids, mayPlace) {
    const known = this.ids;
    this.ids = ids;
    if (!mayPlace || this.isReadOnly || this.problem) return;
    let entries = layout.followed(this.entries, known, ids, this.parked);
    if (scene.mode === "given" && !scene.hasBoxes) {
      const shapes = scene.subjects.map((subject) => this.#shape(subject));
      entries = withNewcomers(scene, entries, known, this.placedByItself, shapes);
    }
    const text = layout.layoutText(entries);
    if (text === this.text) return;
    this.#take(text);
    this.host.onChange(true);
  }

  /** A box that is typed in a Subject node takes the place of what was drawn here before. */
  #giveWay({ subjects }) {
    if (this.isReadOnly || this.problem) return;
    let { entries } = this;
    subjects.forEach(({ box, typed }, index) => {
      const isTyped = Array.isArray(box) && typed !== this.scene?.subjects[index]?.typed;
      if (isTyped && this.scene && entries[index]?.box) {
        entries = layout.changed(entries, index, { box: null });
      }
    });
    if (entries === this.entries) return;
    this.history.add(this.text, "typed", performance.now());
    this.#take(layout.layoutText(entries));
    this.host.onChange(true);
  }

  /** Width : height of a subject; a square while that is not known. */
  #shape(subject) {
    const edges = this.#pictureOf(subject)?.content?.edges;
    return edges ? (edges[2] - edges[0]) / (edges[3] - edges[1]) : 1;
  }

  #pictureOf({ picture }) {
    return this.host.pictures.get(picture, () => this.refresh());
  }

  render() {
    const { scene } = this;
    const { pictures } = this.shown;
    const contents = pictures.map((picture) => picture?.content);
    const said = this.isReadOnly ? [] : this.entries;
    const isSame = this.lastRun?.subjects.length === scene.subjects.length;
    const run = isSame ? this.lastRun : null; // not of another chain
    const question = placesQuestion(scene, said, contents);
    const found = this.places.get(question, () => this.render());
    const places = shownPlaces(scene, said, found, run);
    const entries = layout.padded(said, scene.subjects.length);
    this.items = scene.subjects.map(({ label }, index) => ({
      index,
      name: layout.subjectName(index),
      label,
      colour: COLOURS[index % COLOURS.length],
      thumbnail: pictures[index]?.thumbnail ?? run?.subjects[index].thumbnail,
      isSaid: layout.layoutText([entries[index]]) !== "",
      isLocked: this.isLocked(index),
      ...entries[index],
      ...places[index],
    }));
    if (this.selected >= this.items.length) this.selected = null;
    this.stage.showPhoto(scene.photo && this.host.pictures.viewUrl(scene.photo));
    this.stage.render(aspectOf(scene.width && scene.height ? scene : this.lastRun));
    this.panel.render(
      this.isReadOnly ? say("Another node gives the layout.") : advice(scene, this.items),
    );
  }

  #take(text) {
    this.text = text;
    try {
      this.entries = layout.parseLayout(text);
      this.problem = null;
    } catch (error) {
      this.entries = [];
      this.problem = say("{problem} Correct or clear it.", { problem: error.message });
    }
  }

  /** The focus goes to the subject `next`, if one is given. */
  #commit(entries, name, next) {
    this.selected = next ?? this.selected;
    this.#commitText(layout.layoutText(entries), name);
    this.stage.boxes[next]?.focus({ preventScroll: true });
  }

  #commitText(text, name) {
    const mayChange = !this.isReadOnly && (!this.problem || name === "text");
    if (text !== this.text && mayChange) {
      this.history.add(this.text, name, performance.now());
      this.#take(text);
      this.host.onChange(!/^(nudge|pull) /.test(name));
    }
    this.refresh();
    this.render();
  }

  // What buttons, keys and gestures do.

  select(index) {
    this.selected = index;
    this.refresh();
  }

  get item() {
    return this.items[this.selected];
  }

  deselect() {
    this.select(null);
  }

  isLocked(index) {
    return this.locked.has(this.ids[index]);
  }

  /** The selected box can no longer be moved or drawn anew by hand, or can again. */
  lock() {
    if (!this.item) return;
    this.locked.toggle(this.ids[this.selected]);
    this.host.onChange(true);
    this.render();
  }

  popOut() {
    this.window.toggle();
    this.render();
  }

  /** Which subject a new box is for: the first without a place, else the selected or only one. */
  drawTarget() {
    const only = this.items.length === 1 ? this.items[0] : undefined;
    return (this.items.find(({ box }) => !box) ?? this.item ?? only)?.index;
  }

  otherBoxes() {
    return this.items.filter((one) => one !== this.item && one.box).map(({ box }) => box);
  }

  preview(index, box, guides) {
    this.stage.showBox(index, box, guides);
    this.panel.showBox(box);
  }

  place(index, box, name) {
    this.#commit(layout.changed(this.entries, index, { box }), name);
  }

  setEdge(edge, value) {
    const { item } = this;
    const box = [...(item.box ?? [0.25, 0.25, 0.75, 0.75])];
    box[edge] = value;
    if (layout.isBox(box)) this.place(item.index, box, `edge ${edge}`);
    else this.render();
  }

  /** In pixels of the picture; the left upper corner stays while there is room. */
  setSize(axis, pixels) {
    const { item, scene } = this;
    const side = axis ? scene.height : scene.width;
    if (!side || pixels < 1) return this.render();
    const box = [...(item.box ?? [0.25, 0.25, 0.75, 0.75])];
    const length = Math.min(pixels / side, 1);
    box[axis] = Math.min(box[axis], 1 - length);
    box[axis + 2] = box[axis] + length;
    this.place(item.index, box, `size ${axis}`);
  }

  setField(key, value) {
    this.#commit(layout.changed(this.entries, this.selected, { [key]: value }), key);
  }

  setText(text) {
    this.#commitText(text, "text");
  }

  /** A layout's text from elsewhere; one that cannot be read is shown, not taken. */
  paste(text) {
    try {
      layout.parseLayout(text);
      this.#commitText(text, "paste");
    } catch (error) {
      this.panel.tell(error.message);
    }
  }

  findPlace() {
    const { item } = this;
    if (!item) return;
    const shape = this.#shape(this.scene.subjects[item.index]);
    this.place(item.index, freePlace(shape, aspectOf(this.scene), this.otherBoxes()), "place");
  }

  keepAll() {
    let { entries } = this;
    for (const { index, box } of this.items) {
      if (box) entries = layout.changed(entries, index, { box });
    }
    this.#commit(entries, "keep");
  }

  earlier() {
    this.#exchange(-1);
  }

  later() {
    this.#exchange(1);
  }

  #exchange(way) {
    const from = this.item;
    const to = this.items[from?.index + way];
    if (to) this.#commit(layout.exchanged(this.entries, from, to), "exchange", to.index);
  }

  /** For the first subject without a place, else for the next one. */
  duplicate() {
    const from = this.item;
    if (!from?.box || this.items.length < 2) return;
    const next = (from.index + 1) % this.items.length;
    const to = this.items.find(({ box }) => !box)?.index ?? next;
    this.#commit(layout.duplicated(this.entries, from, to), "duplicate", to);
  }

  clear() {
    if (this.selected === null) return;
    this.#commit(layout.changed(this.entries, this.selected, layout.DEFAULTS), "clear");
  }

  undo(isRedo = false) {
    const step = this.history.step(this.text, isRedo);
    if (step === undefined) return this.host.undoElsewhere(isRedo);
    this.#take(step);
    this.host.onChange(true);
    this.refresh();
  }

  redo() {
    this.undo(true);
  }
}

const sameList = (first, second) =>
  first.length === second.length && first.every((value, i) => value === second[i]);
