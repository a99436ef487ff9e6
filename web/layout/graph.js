// What is connected to a Layout node, through reroutes, bypassed nodes and subgraphs.

import { ownBox } from "./own_box.js";

const SUBJECT = "SubjectDiffusionSubject";
const SUBGRAPH_INPUT = -10; // LiteGraph's id of the node that a subgraph's inputs come from
const BYPASSED = 4;
const MUTED = 2;
const LONGEST_CHAIN = 64;

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
  while (source?.node && nameOf(source.node) === SUBJECT && subjects.length < LONGEST_CHAIN) {
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
  if (!source?.node || !/^LoadImage(Output)?$/.test(nameOf(source.node))) return null;
  return source.slot === slot ? fileName(valueOf(source.node, "image")) : null;
}

/** Which part of the picture the mask is: "transparent", "opaque", or "other". */
function maskOf(source, image) {
  let isInverted = false;
  while (source?.node && nameOf(source.node) === "InvertMask") {
    isInverted = !isInverted;
    source = sourceOf(source.node, "mask");
  }
  const isOwn = JSON.stringify(fileOf(source, 1)) === JSON.stringify(image);
  return isOwn ? (isInverted ? "opaque" : "transparent") : "other";
}

/** "folder/name.png [output]" */
function fileName(value) {
  if (typeof value !== "string" || !value) return null;
  const [, path, type] = value.match(/^(.*?)(?: \[(input|output|temp)\])?$/);
  const cut = path.lastIndexOf("/");
  return { filename: path.slice(cut + 1), subfolder: path.slice(0, Math.max(cut, 0)), type: type ?? "input" };
}

const nameOf = (node) => node.comfyClass ?? node.type;
const slotOf = (node, name) => node.inputs?.findIndex((input) => input.name === name) ?? -1;

const isLinked = (node, name) => node.inputs?.[slotOf(node, name)]?.link != null;

/** The value of a node's widget, or what is linked to it; undefined if only the server knows. */
export function valueOf(node, name) {
  if (isLinked(node, name)) {
    const source = sourceOf(node, name);
    if (source && "value" in source) return source.value;
    const isPrimitive = source?.node && /^Primitive/.test(nameOf(source.node));
    return isPrimitive ? source.node.widgets?.[0]?.value : undefined;
  }
  return node.widgets?.find((widget) => widget.name === name)?.value;
}

/** Whether a link to anything but a subgraph's own widget gives a value. */
export function comesFromElsewhere(node, name) {
  const source = isLinked(node, name) ? sourceOf(node, name) : null;
  return source !== null && !("value" in source);
}

/** Where an input comes from: { node, slot }, or { value } of a subgraph's own widget, or null. */
export function sourceOf(node, name, steps = 0) {
  return sourceOfSlot(node, slotOf(node, name), steps);
}

function sourceOfSlot(node, slot, steps) {
  const id = node.inputs?.[slot]?.link;
  const link = id == null ? null : node.graph.getLink(id);
  if (!link || steps > LONGEST_CHAIN) return null;
  if (link.origin_id === SUBGRAPH_INPUT) return outside(node.graph, link.origin_slot, steps + 1);
  return behind(node.graph.getNodeById(link.origin_id), link.origin_slot, steps + 1);
}

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
    if (!link) return null;
    if (link.origin_id === SUBGRAPH_INPUT) return sourceOfSlot(node, link.origin_slot, steps);
    return behind(node.subgraph.getNodeById(link.origin_id), link.origin_slot, steps + 1);
  }
  if (node.isVirtualNode && nameOf(node) !== "PrimitiveNode") {
    const link = node.getInputLink?.(slot);
    return link ? behind(node.graph.getNodeById(link.origin_id), link.origin_slot, steps + 1) : null;
  }
  return { node, slot };
}

function throughBypass(node, slot, steps) {
  const type = node.outputs?.[slot]?.type;
  const same = node.inputs?.[slot]?.type === type;
  const index = same ? slot : node.inputs?.findIndex((input) => input.type === type);
  return index >= 0 ? sourceOfSlot(node, index, steps) : null;
}
