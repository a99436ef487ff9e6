// The box of a Subject node, in the ways the server reads it (subjects/boxes.py).

import { isBox } from "./document.js";

const CORNERS = ["x1", "y1", "x2", "y2"];
const PIXELS = ["x", "y", "width", "height"];

/** [x1, y1, x2, y2] in fractions; null where there is none; undefined where it cannot be read. */
export function ownBox(text, width, height) {
  let value = typeof text === "string" ? parsed(text.trim()) : text;
  while (Array.isArray(value) && value.length === 1) value = value[0];
  if (value === null || (Array.isArray(value) && !value.length)) return null;
  const box = Array.isArray(value) ? value.map(Number) : fromObject(value, width, height);
  return isBox(box) ? box : undefined;
}

function parsed(text) {
  if (!/^[[{]/.test(text)) return text.split(/[,;\s]+/).filter(Boolean);
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function fromObject(value, width, height) {
  if (typeof value !== "object") return undefined;
  if (CORNERS.every((key) => key in value)) return CORNERS.map((key) => Number(value[key]));
  if (!PIXELS.every((key) => key in value) || !width || !height) return undefined;
  const [x, y, w, h] = PIXELS.map((key) => Number(value[key]));
  return [x / width, y / height, (x + w) / width, (y + h) / height];
}
