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
  for (const name of ["pointerup", "pointercancel"]) {
    frame.addEventListener(name, ({ pointerId }) => {
      if (pointerId === gesture?.pointer) end(name === "pointerup");
    });
  }
  frame.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !gesture) return;
    event.stopPropagation();
    end(false);
  });
}

function begin(event, frame, editor) {
  const handle = event.target.closest("[data-handle]")?.dataset.handle;
  const under = event.target.closest("[data-subject]");
  // with Shift a box is drawn also where another is
  const touched = event.shiftKey && !handle ? null : under;
  const index = touched ? Number(touched.dataset.subject) : editor.drawTarget();
  if (index === undefined) return null;
  if (editor.isLocked(index)) {
    editor.select(index);
    return null;
  }
  editor.select(index);
  // measured on the screen, so that any zoom of the canvas and any pixel density are right
  const { left, top, width, height } = frame.getBoundingClientRect();
  const pointOf = ({ clientX, clientY }) => [(clientX - left) / width, (clientY - top) / height];
  return {
    pointer: event.pointerId,
    kind: handle ? "resize" : touched ? "move" : "draw",
    index,
    handle,
    from: editor.items[index].box,
    lines: snapLines(editor.otherBoxes()),
    pointOf,
    start: pointOf(event),
    pixel: [1 / width, 1 / height],
    box: null,
  };
}

function follow(gesture, event, editor) {
  const { kind, from, start, pixel, handle, lines } = gesture;
  const now = gesture.pointOf(event);
  const [dx, dy] = now.map((value, axis) => value - start[axis]);
  if (!gesture.box && Math.hypot(dx / pixel[0], dy / pixel[1]) < THRESHOLD) return;
  const reach = pixel.map((side) => side * (event.altKey || event.ctrlKey ? -1 : REACH));
  let result;
  if (kind === "move") {
    result = snappedMove(moved(from, dx, dy), lines, reach);
  } else if (kind === "resize") {
    result = snappedResize(resized(from, handle, dx, dy), handle, lines, reach);
  } else {
    const towards = (dy < 0 ? "n" : "s") + (dx < 0 ? "w" : "e");
    result = snappedResize(boxBetween(start, now), towards, lines, reach);
  }
  gesture.box = result.box;
  editor.preview(gesture.index, result.box, result.guides);
}
