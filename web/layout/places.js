// Where each subject stands as far as the page can tell, and where newcomers are put.

import { changed } from "./document.js";
import { area, freePlace, overlap, sameBox, sideBySide } from "./geometry.js";
import { placesFor } from "./placement.js";
import { say } from "./texts.js";

const SMALL_SHARE = 0.05;
const LARGE_SHARE = 0.7;
const LARGE_OVERLAP = 0.8;

export const aspectOf = (size) => (size?.width && size?.height ? size.width / size.height : 1);

/**
 * { box, source } of every subject; the source is "layout" for what was drawn, "subject" for a box
 * of the Subject node, a mode, or "last run" where only the server can know.
 */
export function shownPlaces(scene, entries, contents, lastRun) {
  const { subjects, mode, seed, width, height, hasBoxes } = scene;
  const fixed = subjects.map(({ box }, i) => entries[i]?.box ?? (hasBoxes ? undefined : box));
  const isKnown = width && height && !hasBoxes && !fixed.includes(undefined);
  const known = fixed.map((box, i) => ({ box, content: contents[i] ?? null }));
  const found = isKnown ? placesFor(known, mode, seed, width, height) : fixed;
  return fixed.map((box, i) => {
    if (box) return { box, source: entries[i]?.box ? "layout" : "subject" };
    if (found[i]) return { box: found[i], source: mode };
    const isUnset = mode === "given" && box === null;
    const last = isUnset ? null : lastRun?.subjects[i]?.box;
    return { box: last ?? null, source: "last run" };
  });
}

/**
 * The entries with a place for newcomers: among the other boxes, or all side by side while nobody
 * has drawn anything. `placed` (id -> box) remembers what came from here.
 */
export function withNewcomers(scene, entries, knownIds, placed, shapes) {
  const { subjects } = scene;
  const isNew = ({ id, box }, i) => !knownIds.includes(id) && box === null && !entries[i].box;
  if (!subjects.some(isNew)) return entries;
  const isOurs = ({ id }, i) => entries[i].box && sameBox(placed.get(id), entries[i].box);
  const isFresh = subjects.every((one, i) => isNew(one, i) || isOurs(one, i));
  const row = isFresh ? sideBySide(shapes, aspectOf(scene)) : null;
  const taken = subjects.map(({ box }, i) => entries[i].box ?? box).filter(Boolean);
  subjects.forEach((subject, i) => {
    if (!row && !isNew(subject, i)) return;
    const box = row?.[i] ?? freePlace(shapes[i], aspectOf(scene), taken);
    taken.push(box);
    placed.set(subject.id, box);
    entries = changed(entries, i, { box });
  });
  return entries;
}

/** One line about what is missing or will not work well, or nothing. */
export function advice({ subjects, mode, isComplete }, items) {
  if (!subjects.length) {
    return isComplete ? say("Connect a Subject node.") : say("The subjects are known after a run.");
  }
  for (const item of items) {
    const { name, box, index } = item;
    if (!box) {
      return mode === "given"
        ? say("{name} ({label}) has no place yet: draw it here.", item)
        : say("{name} ({label}) gets its place when this runs.", item);
    }
    if (area(box) < SMALL_SHARE) {
      return say("{name} ({label}) is small: it may not be recognised.", item);
    }
    if (area(box) > LARGE_SHARE) {
      return say("{name} ({label}) fills nearly all of the picture.", item);
    }
    const other = items.slice(0, index).find((one) => overlap(one.box, box) > LARGE_OVERLAP)?.name;
    if (other) return say("{name} and {other} are in nearly the same place.", { name, other });
  }
  return "";
}
