// The editor by keyboard alone.

import { moved, resized } from "./geometry.js";

const STEP = 0.01;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const PLAIN = {
  Delete: "clear",
  Backspace: "clear",
  PageUp: "earlier",
  PageDown: "later",
  Escape: "deselect",
};
const WITH_CTRL = { z: "undo", y: "redo", d: "duplicate", l: "lock" };

/** Do what a key means; what it does not mean goes on to the front end. */
export function onKey(event, editor) {
  const isCommand = event.ctrlKey || event.metaKey;
  if (/^(INPUT|TEXTAREA)$/.test(event.target.tagName)) {
    // what is typed into a field is nobody else's; Run and Save are
    if (!isCommand) event.stopPropagation();
    return;
  }
  const isOnBox = event.target.closest("[data-subject], .sdl-chip");
  const action = isCommand ? commandOf(event) : isOnBox && PLAIN[event.key];
  if (action === "deselect" && !editor.item) return; // closes the board's own window
  if (action) editor[action]();
  else if (isOnBox && event.key in ARROWS) arrow(event, editor, isCommand);
  else return;
  event.preventDefault();
  event.stopPropagation();
}

function commandOf({ key, shiftKey }) {
  const action = WITH_CTRL[key.toLowerCase()];
  return action === "undo" && shiftKey ? "redo" : action;
}

/** The layout to the clipboard and from it, unless it is a field's own text. */
export function onClipboard(event, editor) {
  if (/^(INPUT|TEXTAREA)$/.test(event.target.tagName)) return;
  if (event.type === "copy") {
    if (!editor.text) return;
    event.clipboardData.setData("text/plain", editor.text);
  } else {
    const text = event.clipboardData.getData("text/plain").trim();
    if (!text.startsWith("{")) return; // nodes, or anything else
    editor.paste(text);
  }
  event.preventDefault();
  event.stopPropagation();
}

/** Move, or with Ctrl pull the lower right corner; with Shift ten times as far. */
function arrow(event, editor, isPull) {
  const { item } = editor;
  if (!item?.box || editor.isLocked(item.index)) return;
  const [dx, dy] = ARROWS[event.key].map((way) => way * STEP * (event.shiftKey ? 10 : 1));
  const handle = dx ? "e" : "s";
  const box = isPull ? resized(item.box, handle, dx, dy) : moved(item.box, dx, dy);
  editor.place(item.index, box, `${isPull ? "pull" : "nudge"} ${item.index}`);
}
