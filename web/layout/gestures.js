// Pointer gestures on the frame: draw, move, resize; with mouse, pen or finger.

import {
  boxBetween,
  moved,
  resized,
  sides,
  snapLines,
  snappedMove,
  snappedResize,
} from "./geometry.js";

const REACH = 7; // pixels of the screen within which edges snap
const THRESHOLD = 3; // pixels of the screen below which nothing is meant
const SMALLEST_DRAWN = 0.03;

/** Make the frame do what a pointer means to a `LayoutEditor`. */
export function addGestures(frame, editor) {
  let gesture = null;
  const end = (isDone) => {
    const { pointer, index, box, kind } = gesture;
    gesture = null;
    if (frame.hasPointerCapture(pointer)) frame.releasePointerCapture(pointer);
    const isMeant = box && (kind !== "draw" || Math.min(...sides(box)) > SMALLEST_DRAWN);
    if (isDone && isMeant) editor.place(index, box, `${kind} ${index}`);
    else editor.render();
  };
  frame.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary || event.target.tagName === "INPUT") return;
    gesture = editor.isReadOnly ? null : begin(event, frame, editor);
    if (gesture) frame.setPointerCapture(event.pointerId);
  });
  frame.addEventListener("pointermove", (event) => {
    if (event.pointerId === gesture?.pointer) follow(gesture, event, editor);
  });
  frame.addEventListener("pointerup", (event) => {
    if (event.pointerId === gesture?.pointer) end(true);
  });
  frame.addEventListener("pointercancel", () => gesture && end(false));
  frame.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !gesture) return;
    event.stopPropagation();
    end(false);
  });
}

function begin(event, frame, editor) {
  const handle = event.target.closest("[data-handle]")?.dataset.handle;
  const touched = event.target.closest("[data-subject]");
  const index = touched ? Number(touched.dataset.subject) : editor.drawTarget();
  if (index === null) return null;
  if (touched) editor.select(index);
  const others = editor.items.filter((item, i) => i !== index && item.box).map(({ box }) => box);
  // measured on the screen, so that any zoom of the canvas and any pixel density are right
  const { left, top, width, height } = frame.getBoundingClientRect();
  return {
    pointer: event.pointerId,
    kind: handle ? "resize" : touched ? "move" : "draw",
    index,
    handle,
    from: editor.items[index].box,
    lines: snapLines(others),
    start: [event.clientX, event.clientY],
    corner: [left, top],
    size: [width, height],
    reach: [REACH / width, REACH / height],
    box: null,
  };
}

function follow(gesture, event, editor) {
  const { kind, from, start, size, corner, handle, lines } = gesture;
  const now = [event.clientX, event.clientY];
  const way = now.map((value, axis) => value - start[axis]);
  if (!gesture.box && Math.hypot(...way) < THRESHOLD) return;
  const [dx, dy] = way.map((value, axis) => value / size[axis]);
  const reach = event.altKey || event.ctrlKey ? [-1, -1] : gesture.reach;
  let result;
  if (kind === "move") {
    result = snappedMove(moved(from, dx, dy), lines, reach);
  } else if (kind === "resize") {
    result = snappedResize(resized(from, handle, dx, dy), handle, lines, reach);
  } else {
    const fraction = (point) => point.map((value, axis) => (value - corner[axis]) / size[axis]);
    const towards = (dy < 0 ? "n" : "s") + (dx < 0 ? "w" : "e");
    result = snappedResize(boxBetween(fraction(start), fraction(now)), towards, lines, reach);
  }
  gesture.box = result.box;
  editor.preview(gesture.index, result.box, result.guides);
}
