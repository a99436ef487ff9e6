// Where each subject stands as far as the page can tell, and where newcomers are put.

import constants from "./constants.js";
import { changed } from "./document.js";
import { area, freePlace, overlap, sameBox, sideBySide } from "./geometry.js";
import { say } from "./texts.js";

export const aspectOf = (size) => (size?.width && size?.height ? size.width / size.height : 1);

/** A subject's box that does not depend on a mode; undefined if only the server knows. */
const fixedBoxes = ({ subjects, hasBoxes }, entries) =>
  subjects.map(({ box }, i) => entries[i]?.box ?? (hasBoxes ? undefined : box));

/**
 * What the server is to be asked: where it puts the subjects that have no box. Null where it cannot
 * know, or nobody needs it. Of each subject also its `content` in its own picture, { size: [width,
 * height], edges: [x1, y1, x2, y2], masked } in pixels, or null while unknown.
 */
export function placesQuestion(scene, entries, contents) {
  const { mode, seed, width, height } = scene;
  const boxes = fixedBoxes(scene, entries);
  const isOpen = mode !== "given" && boxes.includes(null) && !boxes.includes(undefined);
  if (!isOpen || !width || !height) return null;
  const subjects = boxes.map((box, i) => ({ box, content: contents[i] ?? null }));
  return { subjects, mode, seed, width, height };
}

/**
 * { box, source } of every subject; the source is "layout" for what was drawn, "subject" for a box
 * of the Subject node, a mode for what the server `found`, or "last run" where only a run can know.
 */
export function shownPlaces(scene, entries, found, lastRun) {
  const { mode } = scene;
  return fixedBoxes(scene, entries).map((box, i) => {
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
    if (area(box) < constants.smallest_box_area) {
      return say("{name} ({label}) is small: it may not be recognised.", item);
    }
    if (area(box) > constants.largest_box_area) {
      return say("{name} ({label}) fills nearly all of the picture.", item);
    }
    const isSame = (one) => overlap(one.box, box) > constants.largest_overlap;
    const other = items.slice(0, index).find(isSame)?.name;
    if (other) return say("{name} and {other} are in nearly the same place.", { name, other });
  }
  return "";
}
