// Sentences of the server, and what an error says, on the node that they are about and on the
// subgraphs around it, in the page's language. They stay until the node runs again: so none outlives
// its cause. A page, or a workflow, that is loaded anew shows them again where the node is set as it was.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { KeptSentences } from "./kept_sentences.js";
import { element } from "./layout/elements.js";
import { translatorOf } from "./sentences.js";
import { language, servedTexts } from "./served_texts.js";

const EVENT = "subject_diffusion.sentences"; // as in nodes/host/node_warnings.py
const OURS = "SubjectDiffusion"; // how our nodes' kinds begin
const WIDGET = "subject_diffusion_sentences";
const WIDGET_TYPE = "SUBJECT_DIFFUSION_SENTENCES";
const LINE = 17; // height of a line in pixels, as in node_warnings.css
const CHARACTER = 6.3; // mean width; Chinese ones are twice as wide
const FRAME = [40, 30]; // what is around the text
const MOST_LINES = 20; // the rest scrolls

const kept = new KeptSentences(window.sessionStorage);
const rootGraph = () => app.rootGraph ?? app.graph;

/** The node of an execution id, and before it the subgraphs around it: "5:3" is node 3 in 5. */
function nodesOf(executionId) {
  const nodes = [];
  let graph = rootGraph();
  for (const id of String(executionId).split(":")) {
    const node = graph?.getNodeById(id) ?? graph?.getNodeById(Number(id));
    if (!node) return [];
    nodes.push(node);
    graph = node.subgraph;
  }
  return nodes;
}

/** Node -> execution id -> its sentences in this run; a subgraph shows those of all nodes inside. */
const said = new WeakMap();

function show(node, executionId, sentences) {
  const texts = said.get(node) ?? new Map();
  said.set(node, texts);
  if (sentences.length) texts.set(executionId, [...(texts.get(executionId) ?? []), ...sentences]);
  else if (!texts.delete(executionId)) return;
  const text = [...new Set([...texts.values()].flat())].join("\n");
  let widget = node.widgets?.find(({ name }) => name === WIDGET);
  if (!text) {
    if (widget) node.removeWidget(widget);
  } else {
    widget ??= addWidget(node);
    if (!node.widgets.includes(widget)) return tellAside(node, sentences);
    widget.element.textContent = text;
    widget.element.title = text;
    makeRoom(node);
  }
  node.setDirtyCanvas?.(true, true);
}

/** Where a node takes no further widgets: some front ends around 1.47 give subgraphs none. */
function tellAside({ title }, sentences) {
  const detail = sentences.join("\n");
  app.extensionManager?.toast?.add({ severity: "warn", summary: title, detail, life: 20_000 });
}

function addWidget(node) {
  const box = element("div", { class: "sdl-sentences", role: "status" });
  // its own scroll bar, not the canvas's zoom
  box.addEventListener("wheel", (event) => event.stopPropagation());
  const widget = node.addDOMWidget(WIDGET, WIDGET_TYPE, box, {
    serialize: false,
    getMinHeight: () => heightOf(box.textContent, node.size[0]),
    getMaxHeight: () => heightOf(box.textContent, node.size[0]),
  });
  widget.serialize = false; // of the workflow; the option is that of the prompt
  return widget;
}

/** What the text takes in a node of this width, so that all of it can be read at once. */
function heightOf(text, width) {
  const room = (width - FRAME[0]) / CHARACTER;
  const length = (line) => line.length + (line.match(/[\u2e80-\uffef]/g)?.length ?? 0);
  const lines = text.split("\n").reduce((sum, one) => sum + Math.ceil(length(one) / room), 0);
  return Math.min(lines, MOST_LINES) * LINE + FRAME[1];
}

function makeRoom(node) {
  const [width, height] = node.computeSize();
  node.setSize?.([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
}

function showOnAll(executionId, sentences) {
  for (const node of nodesOf(executionId)) show(node, String(executionId), sentences);
}

/** How a node is set: what it said is about that. */
function stateOf(node) {
  const widgets = node.widgets?.filter(({ serialize }) => serialize !== false) ?? [];
  return JSON.stringify([node.type, widgets.map(({ value }) => value)]);
}

/** Sentences of the server, in English, shown as `tell` tells them, and kept. */
function report(executionId, sentences, tell) {
  const node = nodesOf(executionId).at(-1);
  if (!node) return;
  kept.add(rootGraph().id, String(executionId), stateOf(node), sentences);
  const told = sentences.map(tell);
  showOnAll(executionId, told);
  requestAnimationFrame(() =>
    requestAnimationFrame(() => nodesOf(executionId).forEach((each) => tellUnseen(each, told))),
  );
}

/** Nodes 2.0 of some front ends draws no widget that comes after a value was changed by hand. */
function tellUnseen(node, told) {
  const widget = node.widgets?.find(({ name }) => name === WIDGET);
  const isDrawn = window.LiteGraph?.vueNodesMode && node.graph === app.canvas.graph;
  if (isDrawn && widget && !widget.element.isConnected) tellAside(node, told);
}

/** Of our nodes; of others, what one of our patches says while they run. */
function reportError({ node_id, node_type, exception_message }, tell) {
  const sentence = String(exception_message).trim();
  const isOurs = node_type?.startsWith(OURS) || tell(sentence) !== sentence;
  if (isOurs) report(node_id, [sentence], tell);
}

function forget(executionId) {
  kept.remove(rootGraph().id, String(executionId));
  showOnAll(executionId, []);
}

function showKept(tell) {
  for (const { id, state, sentences } of kept.of(rootGraph().id)) {
    const node = nodesOf(id).at(-1);
    if (!node || said.get(node)?.has(id)) continue;
    if (stateOf(node) === state) showOnAll(id, sentences.map(tell));
    else kept.remove(rootGraph().id, id);
  }
}

let last = Promise.resolve();

/** After what came before: the first texts of a language take a while. */
function inOrder(work) {
  last = last
    .then(() => translatorOf(language(), servedTexts))
    .then(work)
    .catch((error) => console.error(error));
}

app.registerExtension({
  name: "SubjectDiffusion.NodeWarnings",
  setup() {
    const href = new URL("./node_warnings.css", import.meta.url);
    document.head.append(element("link", { rel: "stylesheet", href }));
    const onEvent = (name, work) =>
      api.addEventListener(name, ({ detail }) => detail && inOrder((tell) => work(detail, tell)));
    onEvent(EVENT, ({ node, sentences }, tell) => report(node, sentences, tell));
    onEvent("executing", forget);
    onEvent("execution_error", reportError);
  },
  afterConfigureGraph() {
    inOrder(showKept);
  },
});
