// What is connected to a Layout node, through reroutes, bypassed nodes and subgraphs.

import { ownBox } from "./own_box.js";

const SUBJECT = "SubjectDiffusionSubject";
const SUBGRAPH_INPUT = -10; // LiteGraph's id of the node that a subgraph's inputs come from
const BYPASSED = 4;
const MUTED = 2;
const LONGEST_CHAIN = 64;
const FILE = /^(?:(.*)\/)?(.*?)(?: \[(input|output|temp)\])?$/; // "folder/name.png [output]"

/**
 * { width, height, mode, seed, subjects, ... }; what only the server will know is undefined.
 * `isComplete`: there are only Subject nodes in the chain; `hasBoxes`: boxes are connected.
 */
export function readScene(node) {
  const width = valueOf(node, "width");
  const height = valueOf(node, "height");
  const { subjects, isComplete } = readChain(node, width, height);
  return {
    width,
    height,
    mode: valueOf(node, "mode") ?? "given",
    seed: valueOf(node, "place_seed") ?? 0,
    isComplete,
    hasBoxes: isLinked(node, "boxes"),
    subjects,
  };
}

function readChain(node, width, height) {
  const subjects = [];
  let source = sourceOf(node, "subjects");
  while (nameOf(source?.node) === SUBJECT && subjects.length < LONGEST_CHAIN) {
    subjects.unshift(readSubject(source.node, width, height));
    source = sourceOf(source.node, "previous");
  }
  return { subjects, isComplete: source === null };
}

function readSubject(node, width, height) {
  const text = valueOf(node, "box");
  const isKnown = text !== undefined && (text || !isLinked(node, "region"));
  return {
    id: `${node.graph?.id ?? ""}:${node.id}`,
    label: String(valueOf(node, "label") ?? "").trim(),
    box: isKnown ? ownBox(text, width, height) : undefined,
    strength: valueOf(node, "strength") ?? 1,
    picture: pictureOf(node),
  };
}

/** { image, mask } of a Subject node, or null. */
function pictureOf(node) {
  const image = fileOf(sourceOf(node, "image"), 0);
  if (!image) return null;
  return { image, mask: isLinked(node, "mask") ? maskOf(sourceOf(node, "mask"), image) : null };
}

function fileOf(source, slot) {
  if (source?.slot !== slot || !/^LoadImage(Output)?$/.test(nameOf(source.node))) return null;
  const value = valueOf(source.node, "image");
  if (typeof value !== "string" || !value) return null;
  const [, subfolder = "", filename, type = "input"] = value.match(FILE);
  return { filename, subfolder, type };
}

/** Which part of the picture the mask is: "transparent", "opaque", or "other". */
function maskOf(source, image) {
  let isInverted = false;
  while (nameOf(source?.node) === "InvertMask") {
    isInverted = !isInverted;
    source = sourceOf(source.node, "mask");
  }
  const isOwn = JSON.stringify(fileOf(source, 1)) === JSON.stringify(image);
  return isOwn ? (isInverted ? "opaque" : "transparent") : "other";
}

const nameOf = (node) => node?.comfyClass ?? node?.type;
const slotOf = (node, name) => node.inputs?.findIndex((input) => input.name === name) ?? -1;

const isLinked = (node, name) => node.inputs?.[slotOf(node, name)]?.link != null;

/** The value of a node's widget, or what is linked to it; undefined if only the server knows. */
function valueOf(node, name) {
  if (isLinked(node, name)) {
    const source = sourceOf(node, name);
    if (source && "value" in source) return source.value;
    const isPrimitive = /^Primitive/.test(nameOf(source?.node));
    return isPrimitive ? source.node.widgets?.[0]?.value : undefined;
  }
  return node.widgets?.find((widget) => widget.name === name)?.value;
}

/** Whether a link to anything but a subgraph's own widget gives a value. */
export function comesFromElsewhere(node, name) {
  const source = sourceOf(node, name);
  return source !== null && !("value" in source);
}

/** Where an input comes from: { node, slot }, or { value } of a subgraph's own widget, or null. */
const sourceOf = (node, name) => sourceOfSlot(node, slotOf(node, name), 0);

function sourceOfSlot(node, slot, steps) {
  const id = node.inputs?.[slot]?.link;
  const link = id == null ? null : node.graph.getLink(id);
  if (steps > LONGEST_CHAIN) return null;
  if (link?.origin_id === SUBGRAPH_INPUT) return outside(node.graph, link.origin_slot, steps + 1);
  return startOf(link, node.graph, steps + 1);
}

const startOf = (link, graph, steps) =>
  link ? behind(graph.getNodeById(link.origin_id), link.origin_slot, steps) : null;

/** What is connected to the first node that stands for a subgraph. */
function outside(subgraph, slot, steps) {
  const container = containerOf(subgraph);
  const input = container?.inputs?.[slot];
  if (!input) return null;
  if (input.link != null) return sourceOfSlot(container, slot, steps);
  const widget = container.widgets?.find((one) => one.name === input.widget?.name);
  return widget ? { value: widget.value } : null;
}

function containerOf(subgraph) {
  const root = subgraph.rootGraph;
  const graphs = [root, ...(root?.subgraphs?.values?.() ?? [])];
  const nodes = graphs.flatMap((graph) => graph?.nodes ?? []);
  return nodes.find((node) => node.subgraph === subgraph);
}

/** The node that really makes an output: not one that only passes it on. */
function behind(node, slot, steps) {
  if (!node || node.mode === MUTED) return null;
  if (node.mode === BYPASSED) return throughBypass(node, slot, steps);
  if (node.subgraph) {
    const link = node.subgraph.outputNode?.slots?.[slot]?.getLinks?.()[0];
    if (link?.origin_id === SUBGRAPH_INPUT) return sourceOfSlot(node, link.origin_slot, steps);
    return startOf(link, node.subgraph, steps + 1);
  }
  if (node.isVirtualNode && nameOf(node) !== "PrimitiveNode") {
    return startOf(node.getInputLink?.(slot), node.graph, steps + 1);
  }
  return { node, slot };
}

function throughBypass(node, slot, steps) {
  const type = node.outputs?.[slot]?.type;
  const same = node.inputs?.[slot]?.type === type;
  const index = same ? slot : node.inputs?.findIndex((input) => input.type === type);
  return index >= 0 ? sourceOfSlot(node, index, steps) : null;
}
