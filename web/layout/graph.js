// What is connected to a Layout node, through reroutes, bypassed nodes and subgraphs.

import constants from "./constants.js";
import { ownBox } from "./own_box.js";

const SUBJECT = "SubjectDiffusionSubject";
const SUBGRAPH_INPUT = "-10"; // LiteGraph's id of the node that a subgraph's inputs come from
const BYPASSED = 4;
const MUTED = 2;
const LONGEST_CHAIN = constants.longest_chain;
const FILE = /^(?:(.*)\/)?(.*?)(?: \[(input|output|temp)\])?$/; // "folder/name.png [output]"

/**
 * { width, height, mode, seed, subjects, ... }; what only the server will know is undefined.
 * `isComplete`: there are only Subject nodes in the chain; `hasBoxes`: boxes are connected.
 */
export function readScene(node) {
  const [width, height] = [valueOf(node, "width"), valueOf(node, "height")];
  const subjects = [];
  let source = sourceOf(node, "subjects");
  while (nameOf(source?.node) === SUBJECT && subjects.length < LONGEST_CHAIN) {
    subjects.unshift(readSubject(source.node, width, height));
    source = sourceOf(source.node, "previous");
  }
  return {
    width,
    height,
    mode: valueOf(node, "mode") ?? "given",
    seed: valueOf(node, "place_seed") ?? 0,
    isComplete: source === null,
    hasBoxes: isLinked(node, "boxes"),
    photo: photoOf(node.graph),
    subjects,
  };
}

/** The file that is put through VAE Encode, where the graph has one: subjects go into it. */
function photoOf(graph) {
  const encoder = (graph?.nodes ?? []).find((one) => /^VAEEncode/.test(nameOf(one)));
  let source = encoder ? sourceOf(encoder, "pixels") : null;
  for (let steps = 0; /^ImageScale/.test(nameOf(source?.node)) && steps < 8; steps++) {
    source = sourceOf(source.node, "image");
  }
  return fileOf(source, 0);
}

function readSubject(node, width, height) {
  const text = valueOf(node, "box");
  return {
    id: `${node.graph?.id ?? ""}:${node.id}`,
    label: String(valueOf(node, "label") ?? "").trim(),
    typed: text,
    box: text || !isLinked(node, "region") ? ownBox(text, width, height) : undefined,
    picture: pictureOf(node),
  };
}

/** { image, mask } of a Subject node, or null. */
function pictureOf(node) {
  const image = fileOf(sourceOf(node, "image"), 0);
  if (!image) return null;
  const marks = valueOf(node, "mask_marks");
  const mask = isLinked(node, "mask") ? maskOf(sourceOf(node, "mask"), image, marks) : null;
  return { image, mask };
}

function fileOf(source, slot) {
  if (source?.slot !== slot || !/^LoadImage(Output)?$/.test(nameOf(source.node))) return null;
  const value = valueOf(source.node, "image");
  if (typeof value !== "string" || !value) return null;
  const [, subfolder = "", filename, type = "input"] = value.match(FILE);
  return { filename, subfolder, type };
}

/** Which part of the picture the mask is: "transparent", "opaque", or "other". */
function maskOf(source, image, marks) {
  let isInverted = marks === "background";
  while (nameOf(source?.node) === "InvertMask") {
    isInverted = !isInverted;
    source = sourceOf(source.node, "mask");
  }
  const isOwn = marks !== "guess" && JSON.stringify(fileOf(source, 1)) === JSON.stringify(image);
  return isOwn ? (isInverted ? "opaque" : "transparent") : "other";
}

const nameOf = (node) => node?.comfyClass ?? node?.type;
const slotOf = (node, name) => node.inputs?.findIndex((input) => input.name === name);

const isLinked = (node, name) => node.inputs?.[slotOf(node, name)]?.link != null;

/** The value of a node's widget, or what is linked to it; undefined if only the server knows. */
function valueOf(node, name) {
  if (isLinked(node, name)) {
    const source = sourceOf(node, name);
    if (!source?.node) return source?.value;
    const isPrimitive = /^Primitive/.test(nameOf(source.node));
    return isPrimitive ? source.node.widgets?.[0]?.value : undefined;
  }
  return node.widgets?.find((widget) => widget.name === name)?.value;
}

/** Whether a link to anything but a subgraph's own widget gives a value. */
export const comesFromElsewhere = (node, name) => Boolean(sourceOf(node, name)?.node);

/** Where an input comes from: { node, slot }, or { value } of a subgraph's own widget, or null. */
const sourceOf = (node, name) => sourceOfSlot(node, slotOf(node, name), 0);

function sourceOfSlot(node, slot, steps) {
  const id = node.inputs?.[slot]?.link;
  return id == null ? null : startOf(node.graph.getLink(id), node.graph, steps);
}

/** The id is a number, or (front ends from 1.47 on) a text. */
const isSubgraphInput = (id) => String(id) === SUBGRAPH_INPUT;

function startOf(link, graph, steps) {
  if (!link || steps > LONGEST_CHAIN) return null;
  const { origin_id: id, origin_slot: slot } = link;
  if (isSubgraphInput(id)) return outside(graph, slot, steps + 1);
  return behind(graph.getNodeById(id), slot, steps + 1);
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
  return graphs.flatMap((graph) => graph?.nodes ?? []).find((node) => node.subgraph === subgraph);
}

/** The node that really makes an output: not one that only passes it on. */
function behind(node, slot, steps) {
  if (!node || node.mode === MUTED) return null;
  if (node.mode === BYPASSED) return throughBypass(node, slot, steps);
  if (node.subgraph) {
    const link = node.subgraph.outputNode?.slots?.[slot]?.getLinks?.()[0];
    if (isSubgraphInput(link?.origin_id)) return sourceOfSlot(node, link.origin_slot, steps);
    return startOf(link, node.subgraph, steps);
  }
  if (node.isVirtualNode && nameOf(node) !== "PrimitiveNode") {
    return startOf(node.getInputLink?.(slot), node.graph, steps);
  }
  return { node, slot };
}

function throughBypass(node, slot, steps) {
  const type = node.outputs?.[slot]?.type;
  const same = node.inputs?.[slot]?.type === type;
  const index = same ? slot : node.inputs?.findIndex((input) => input.type === type);
  return sourceOfSlot(node, index, steps);
}
