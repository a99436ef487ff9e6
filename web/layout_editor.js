// Subject-Diffusion's layout editor: takes the place of the `layout` text field of Layout nodes.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { LayoutEditor } from "./layout/editor.js";
import { element } from "./layout/elements.js";
import { Pictures } from "./layout/pictures.js";
import { speak } from "./layout/texts.js";
import { language, servedTexts } from "./served_texts.js";

const LAYOUT = "SubjectDiffusionLayout";
const NAMES = [LAYOUT, "SubjectDiffusionSubject"];
const WIDGET = "layout";
const WIDGET_TYPE = "SUBJECT_DIFFUSION_LAYOUT";
const SMALLEST_HEIGHT = 400;
const FIRST_SIZE = [360, 640];
const LOOK_EVERY = 250; // ms: what other nodes say may change without a word
const SETTLE = 400; // ms without a key until the front end's undo takes note

// only a PNG may have alpha; the others, as the server reads them
const pictures = new Pictures((file) => {
  const route = /\.(jpe?g|webp|tiff?)$/i.test(file.filename) ? "subject_diffusion/picture" : "view";
  return api.apiURL(`/${route}?${new URLSearchParams(file)}`);
});
const editors = new Set();
let isRewired = false;

/** The page's language may be changed at any time. */
async function followLanguage() {
  if (await speak(language(), servedTexts)) for (const editor of editors) editor.build();
}

/** Where the server would put subjects; throws an error where it does not say. */
async function findPlaces(question) {
  const body = JSON.stringify(question);
  const response = await api.fetchApi("/subject_diffusion/places", { method: "POST", body });
  if (!response.ok) throw new Error(response.statusText);
  return response.json();
}

function makeHost(node) {
  let timer = null;
  const takeNote = () => {
    const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
    if (tracker?.captureCanvasState) tracker.captureCanvasState();
    else tracker?.checkState?.(); // front ends before 1.44
  };
  return {
    pictures,
    findPlaces,
    onChange(isLasting) {
      node.graph?.setDirtyCanvas?.(true, true);
      clearTimeout(timer);
      timer = setTimeout(takeNote, isLasting ? 0 : SETTLE);
    },
    undoElsewhere(isRedo) {
      app.extensionManager?.command?.execute(isRedo ? "Comfy.Redo" : "Comfy.Undo");
    },
  };
}

function addEditor(node) {
  const index = node.widgets?.findIndex(({ name }) => name === WIDGET) ?? -1;
  if (index < 0) return; // a server without the input
  node.widgets.splice(index, 1);
  const editor = new LayoutEditor(node, makeHost(node));
  node.addDOMWidget(WIDGET, WIDGET_TYPE, editor.element, {
    getValue() {
      lookForNewcomers(); // a graph that is saved right after a deletion: one step for undo
      return editor.text;
    },
    setValue: (text) => text !== editor.text && editor.load(text),
    getMinHeight: () => SMALLEST_HEIGHT,
  });
  node.widgets.splice(index, 0, node.widgets.pop());
  node.subjectDiffusionLayout = editor;
  node.setSize?.(FIRST_SIZE.map((side, axis) => Math.max(side, node.size[axis])));
  passOnToCanvas(editor.element);
  chain(node, "onAdded", () => editors.add(editor));
  chain(node, "onRemoved", () => editors.delete(editor));
  chain(node, "onExecuted", (output) => {
    const run = output?.subject_diffusion_layout?.[0];
    if (run) editor.showRun(run);
  });
}

/** Wheel and middle button belong to the canvas; in Nodes 2.0 the node itself passes them on. */
function passOnToCanvas(element) {
  for (const [name, process] of Object.entries({
    wheel: "processMouseWheel",
    pointerdown: "processMouseDown",
    pointermove: "processMouseMove",
    pointerup: "processMouseUp",
  })) {
    element.addEventListener(name, (event) => {
      const isMiddle = event.button === 1 || event.buttons & 4;
      if (name !== "wheel" && !isMiddle) {
        // Nodes 2.0 would drag the node
        if (event.target.closest(".sdl-frame, button, input, textarea")) event.stopPropagation();
      } else if (!window.LiteGraph?.vueNodesMode && event.target.tagName !== "TEXTAREA") {
        event.preventDefault();
        app.canvas[process](event);
      }
    });
  }
}

function lookForNewcomers() {
  if (!isRewired) return;
  isRewired = false;
  for (const editor of editors) editor.refresh(true);
}

function chain(target, name, then) {
  const before = target[name];
  target[name] = function (...values) {
    const result = before?.apply(this, values);
    then(...values);
    return result;
  };
}

app.registerExtension({
  name: "SubjectDiffusion.LayoutEditor",
  async setup() {
    const href = new URL("./layout_editor.css", import.meta.url);
    document.head.append(element("link", { rel: "stylesheet", href }));
    await followLanguage();
    setInterval(() => {
      followLanguage();
      for (const editor of editors) if (editor.element.isConnected) editor.refresh();
    }, LOOK_EVERY);
  },
  beforeRegisterNodeDef(nodeType, { name }) {
    if (!NAMES.includes(name)) return;
    // a connection anywhere in the chain may bring subjects to any Layout node
    chain(nodeType.prototype, "onConnectionsChange", () => {
      if (app.configuringGraph) return;
      isRewired = true;
      queueMicrotask(lookForNewcomers); // pasting makes many at once
    });
  },
  nodeCreated(node) {
    if (node.comfyClass === LAYOUT) addEditor(node);
  },
});
