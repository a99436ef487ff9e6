// The editor by keyboard alone.

import { moved, resized } from "./geometry.js";

const STEP = 0.01;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const REMOVE = { Delete: "clear", Backspace: "clear" };
const PLAIN = { ...REMOVE, PageUp: "earlier", PageDown: "later", Escape: "deselect" };
const WITH_CTRL = { z: "undo", y: "redo", d: "duplicate" };

/** Do what a key means; what it does not mean goes on to the front end. */
export function onKey(event, editor) {
  const isTyping = /^(INPUT|TEXTAREA)$/.test(event.target.tagName);
  if (isTyping) {
    // what is typed into a field is nobody else's; Run and Save are
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
    return;
  }
  const done = event.ctrlKey || event.metaKey ? command(event, editor) : plainKey(event, editor);
  if (!done) return;
  event.preventDefault();
  event.stopPropagation();
}

/** With Ctrl; true if the key was one of ours. */
function command(event, editor) {
  const key = event.key.toLowerCase();
  if (key === "z" && event.shiftKey) return editor.redo();
  if (key in WITH_CTRL) return editor[WITH_CTRL[key]]();
  return event.key in ARROWS && onBox(event) && arrow(event, editor);
}

function plainKey(event, editor) {
  if (!onBox(event)) return false;
  if (event.key in ARROWS) return arrow(event, editor);
  return event.key in PLAIN && editor[PLAIN[event.key]]();
}

const onBox = (event) => event.target.closest("[data-subject], .sdl-chip") !== null;

/** Move, or with Ctrl pull the lower right corner; with Shift ten times as far. */
function arrow(event, editor) {
  const item = editor.items[editor.selected];
  if (!item?.box || editor.isReadOnly) return true;
  const [dx, dy] = ARROWS[event.key].map((way) => way * STEP * (event.shiftKey ? 10 : 1));
  const handle = dx ? "e" : "s";
  const pull = event.ctrlKey || event.metaKey;
  const box = pull ? resized(item.box, handle, dx, dy) : moved(item.box, dx, dy);
  editor.place(item.index, box, `${pull ? "pull" : "nudge"} ${item.index}`);
  return true;
}
