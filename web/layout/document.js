// The saved layout: plain JSON, one entry per subject in their order, and what can be done to it.
// An entry is { box, strength, start, end }.

import constants from "./constants.js";
import { moved, roundedBox } from "./geometry.js";
import { say } from "./texts.js";

const VERSION = constants.layout_version;
export const DEFAULTS = Object.freeze({
  box: null,
  strength: constants.default_strength,
  start: constants.default_start,
  end: constants.default_end,
});
export const LIMITS = { strength: constants.largest_strength, start: 1, end: 1 };

/** The entries of a layout's text; throws an error with a sentence. */
export function parseLayout(text) {
  if (!text.trim()) return [];
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Error(say("The layout is no JSON ({why}).", { why: error.message }));
  }
  if (!hasOnly(value, ["version", "subjects"]) || !Array.isArray(value.subjects)) {
    const form = '{"version": 1, "subjects": [...]}';
    throw new Error(say("The layout should be {form}.", { form }));
  }
  const version = value.version ?? VERSION;
  if (version !== VERSION) {
    throw new Error(
      say("The layout has version {version}; this editor knows {VERSION}.", { version, VERSION }),
    );
  }
  return value.subjects.map((entry, index) => parseEntry(entry ?? {}, subjectName(index)));
}

export const subjectName = (index) => say("Subject {number}", { number: index + 1 });

function parseEntry(entry, name) {
  const result = { ...DEFAULTS, ...entry };
  const isInside = Object.entries(LIMITS).every(([key, limit]) => isWithin(result[key], limit));
  if (!hasOnly(entry, Object.keys(DEFAULTS)) || !isInside) {
    throw new Error(
      say("{name}: only box, strength (0 to 2), start and end (0 to 1) can be given.", { name }),
    );
  }
  if (result.box !== null && !isBox(result.box)) {
    throw new Error(
      say("{name}: box should be [x1, y1, x2, y2] in 0..1, x1 < x2, y1 < y2.", { name }),
    );
  }
  return result;
}

const hasOnly = (value, keys) =>
  value?.constructor === Object && Object.keys(value).every((key) => keys.includes(key));
const isWithin = (value, limit) => typeof value === "number" && value >= 0 && value <= limit;

export const isBox = (value) =>
  Array.isArray(value) &&
  value.length === 4 &&
  value.every((edge) => isWithin(edge, 1)) &&
  value[0] < value[2] &&
  value[1] < value[3];

/** The text of some entries: a line per subject, only what differs; empty if nothing does. */
export function layoutText(entries) {
  const said = entries.map((entry) =>
    Object.fromEntries(Object.entries(entry).filter(([key, value]) => value !== DEFAULTS[key])),
  );
  while (said.length && !Object.keys(said.at(-1)).length) said.pop();
  if (!said.length) return "";
  const lines = said.map((entry) => `  ${JSON.stringify(entry).replace(/[,:]/g, "$& ")}`);
  return `{"version": ${VERSION}, "subjects": [\n${lines.join(",\n")}\n]}`;
}

/** As many entries as there are subjects: missing ones say nothing. */
export const padded = (entries, count) =>
  Array.from({ length: Math.max(count, entries.length) }, (_, i) => entries[i] ?? DEFAULTS);

export function changed(entries, index, fields) {
  const result = padded(entries, index + 1);
  result[index] = { ...result[index], ...fields };
  if (fields.box) result[index].box = roundedBox(fields.box);
  return result;
}

/** The entry that says how a subject is shown. */
const entryOf = ({ box, strength, start, end }) => ({ box, strength, start, end });

/** Two subjects, as they are shown, in each other's place. */
export const exchanged = (entries, first, second) =>
  changed(changed(entries, first.index, entryOf(second)), second.index, entryOf(first));

/** The same size, strength and range for the subject of index `to`, beside `from`. */
export function duplicated(entries, from, to) {
  const [x1, , x2] = from.box;
  const way = x1 + x2 < 1 ? x2 - x1 : x1 - x2;
  return changed(entries, to, { ...entryOf(from), box: moved(from.box, way, 0) });
}

/** Entries go with their subjects' ids; if no subject is known, they stay where they are. */
export function followed(entries, before, after, parked) {
  before.forEach((id, index) => parked.set(id, entries[index] ?? DEFAULTS));
  if (!after.some((id) => parked.has(id))) return after.map((_, i) => entries[i] ?? DEFAULTS);
  return after.map((id) => parked.get(id) ?? DEFAULTS);
}

const TOGETHER = 800; // ms

/** Undo and redo of texts; what comes shortly after another under the same name is one step. */
export class History {
  past = [];
  future = [];
  last = null;

  /** `text` is what was there before the change `name` at `time` (ms). */
  add(text, name, time) {
    if (name !== this.last?.name || time - this.last.time > TOGETHER) this.past.push(text);
    this.future = [];
    this.last = { name, time };
  }

  /** The text before the last change, or the one after it, or undefined. */
  step(current, isRedo) {
    const [from, to] = isRedo ? [this.future, this.past] : [this.past, this.future];
    if (from.length) to.push(current);
    this.last = null;
    return from.pop();
  }
}
