// Boxes are [x1, y1, x2, y2] (left, top, right, bottom) in fractions of the picture, 0 to 1.

export const HANDLES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];
export const SMALLEST_SIDE = 0.02;
const DECIMALS = 4;
const LONGEST_SHARE = 0.7;

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

export const roundedBox = (box) => box.map((edge) => Number(edge.toFixed(DECIMALS)));

export const sameBox = (first, second) => String(first) === String(second);

/** The box between two points, inside the picture. */
export function boxBetween(a, b) {
  const low = a.map((edge, axis) => clamp(Math.min(edge, b[axis]), 0, 1 - SMALLEST_SIDE));
  const high = a.map((edge, axis) => clamp(Math.max(edge, b[axis]), low[axis] + SMALLEST_SIDE, 1));
  return [...low, ...high];
}

/** Moved as far as the picture allows; width and height stay. */
export function moved(box, dx, dy) {
  const way = [clamp(dx, -box[0], 1 - box[2]), clamp(dy, -box[1], 1 - box[3])];
  return box.map((edge, i) => edge + way[i % 2]);
}

/** The edges that a handle pulls: indices into a box. */
const handleEdges = (handle) => [...handle].map((letter) => "wnes".indexOf(letter));

/** A handle pulled by dx, dy. */
export function resized(box, handle, dx, dy) {
  const result = [...box];
  for (const edge of handleEdges(handle)) {
    result[edge] = limitedEdge(box, edge, box[edge] + [dx, dy][edge % 2]);
  }
  return result;
}

/** `value` for one edge, inside the picture and without turning the box over. */
function limitedEdge(box, edge, value) {
  const opposite = box[(edge + 2) % 4];
  return edge < 2
    ? clamp(value, 0, opposite - SMALLEST_SIDE)
    : clamp(value, opposite + SMALLEST_SIDE, 1);
}

/** What edges snap to: the picture's edges, middle and thirds, and the other boxes. */
export function snapLines(others) {
  const own = [0, 1 / 3, 1 / 2, 2 / 3, 1];
  return [0, 1].map((axis) => [...own, ...others.flatMap((box) => [box[axis], box[axis + 2]])]);
}

/** { way, line } from one of `values` to the nearest line within reach; 0 and null if none is. */
function nearestLine(values, lines, reach) {
  const all = values.flatMap((value) => lines.map((line) => ({ way: line - value, line })));
  const near = all.filter(({ way }) => Math.abs(way) <= reach);
  return near.sort((a, b) => Math.abs(a.way) - Math.abs(b.way))[0] ?? { way: 0, line: null };
}

/** A moved box, its edges and middles drawn to lines within `reach` ([x, y]). */
export function snappedMove(box, lines, reach) {
  const near = [0, 1].map((axis) => {
    const [low, high] = [box[axis], box[axis + 2]];
    return nearestLine([low, (low + high) / 2, high], lines[axis], reach[axis]);
  });
  return { box: moved(box, near[0].way, near[1].way), guides: near.map(({ line }) => line) };
}

/** A resized box whose pulled edges are drawn to nearby lines. */
export function snappedResize(box, handle, lines, reach) {
  const result = [...box];
  const guides = [null, null];
  for (const edge of handleEdges(handle)) {
    const axis = edge % 2;
    const { line } = nearestLine([box[edge]], lines[axis], reach[axis]);
    if (line === null) continue;
    result[edge] = limitedEdge(box, edge, line);
    if (result[edge] === line) guides[axis] = line;
  }
  return { box: result, guides };
}

/** Width and height. */
export const sides = ([x1, y1, x2, y2]) => [x2 - x1, y2 - y1];
export const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);

/** Intersection over union of two boxes. */
export function overlap(first, second) {
  const shared = (low, high) =>
    Math.max(0, Math.min(first[high], second[high]) - Math.max(first[low], second[low]));
  const inside = shared(0, 2) * shared(1, 3);
  return inside / (area(first) + area(second) - inside);
}

/** Places for subjects of given shapes (width : height in pixels), three in a row at most. */
export function sideBySide(shapes, aspect) {
  const columns = shapes.length <= 3 ? shapes.length : Math.ceil(Math.sqrt(shapes.length));
  const rows = Math.ceil(shapes.length / columns);
  return shapes.map((shape, index) => {
    const [row, column] = [Math.floor(index / columns), index % columns];
    const inRow = Math.min(columns, shapes.length - columns * row);
    const cell = [column / inRow, row / rows, (column + 1) / inRow, (row + 1) / rows];
    return fitted(cell, shape, aspect);
  });
}

/** The largest box of a shape in the middle of a cell, with some air around it. */
function fitted(cell, shape, aspect) {
  const ratio = shape / aspect; // width : height in fractions of the picture
  const limit = (side) => Math.min(side * 0.88, LONGEST_SHARE);
  const width = Math.min(limit(cell[2] - cell[0]), limit(cell[3] - cell[1]) * ratio);
  return around([(cell[0] + cell[2]) / 2, (cell[1] + cell[3]) / 2], width, width / ratio);
}

function around([x, y], width, height) {
  const [across, down] = [width, height].map((side) => clamp(side, SMALLEST_SIDE, 1) / 2);
  return roundedBox(moved([x - across, y - down, x + across, y + down], 0, 0));
}

/** A place among boxes that stay: large, apart from them, near the middle; in this order. */
export function freePlace(shape, aspect, taken) {
  const ratio = shape / aspect;
  let best = { cost: Infinity };
  for (const share of [0.6, 0.5, 0.42, 0.35, 0.28]) {
    const width = Math.min(share, share * ratio);
    for (const [x, y] of middles(width, width / ratio)) {
      const box = around([x, y], width, width / ratio);
      const cost = Math.max(0, ...taken.map((other) => overlap(box, other)));
      const way = Math.hypot(x - 0.5, y - 0.5);
      if (cost < best.cost || (cost === best.cost && way < best.way)) best = { box, cost, way };
    }
    if (best.cost === 0) return best.box;
  }
  return best.box;
}

function middles(width, height, steps = 12) {
  const along = (side) =>
    Array.from({ length: steps + 1 }, (_, i) => side / 2 + ((1 - side) * i) / steps);
  return along(width).flatMap((x) => along(height).map((y) => [x, y]));
}
