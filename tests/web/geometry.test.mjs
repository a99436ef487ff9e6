import assert from "node:assert/strict";
import { test } from "node:test";

import * as geometry from "../../web/layout/geometry.js";

const near = (actual, wanted) =>
  wanted.forEach((value, i) => assert.ok(Math.abs(actual[i] - value) < 1e-9, `${actual}`));
const isInside = ([x1, y1, x2, y2]) => x1 >= 0 && y1 >= 0 && x2 <= 1 && y2 <= 1;

test("a box between two points, whichever way it is drawn", () => {
  near(geometry.boxBetween([0.2, 0.9], [0.6, 0.3]), [0.2, 0.3, 0.6, 0.9]);
  near(geometry.boxBetween([-0.5, 0.5], [2, 0.7]), [0, 0.5, 1, 0.7]);
});

test("a click at the far edge still gives a box inside", () => {
  const box = geometry.boxBetween([1, 1], [1, 1]);
  assert.ok(isInside(box) && box[2] - box[0] >= geometry.SMALLEST_SIDE - 1e-9);
});

test("moving keeps the size and stops at the edges", () => {
  near(geometry.moved([0.1, 0.1, 0.4, 0.3], 0.2, 0.1), [0.3, 0.2, 0.6, 0.4]);
  near(geometry.moved([0.1, 0.1, 0.4, 0.3], -5, 5), [0, 0.8, 0.3, 1]);
});

test("every handle pulls its own edges only", () => {
  const box = [0.3, 0.3, 0.6, 0.6];
  const wanted = {
    nw: [0.4, 0.35, 0.6, 0.6],
    n: [0.3, 0.35, 0.6, 0.6],
    ne: [0.3, 0.35, 0.7, 0.6],
    e: [0.3, 0.3, 0.7, 0.6],
    se: [0.3, 0.3, 0.7, 0.65],
    s: [0.3, 0.3, 0.6, 0.65],
    sw: [0.4, 0.3, 0.6, 0.65],
    w: [0.4, 0.3, 0.6, 0.6],
  };
  assert.deepEqual(Object.keys(wanted), geometry.HANDLES);
  for (const handle of geometry.HANDLES) {
    near(geometry.resized(box, handle, 0.1, 0.05), wanted[handle]);
  }
});

test("an edge never passes its opposite or leaves the picture", () => {
  const box = [0.3, 0.3, 0.6, 0.6];
  for (const handle of geometry.HANDLES) {
    for (const [dx, dy] of [
      [2, 2],
      [-2, -2],
      [2, -2],
    ]) {
      const result = geometry.resized(box, handle, dx, dy);
      assert.ok(isInside(result));
      assert.ok(result[2] - result[0] >= geometry.SMALLEST_SIDE - 1e-9);
      assert.ok(result[3] - result[1] >= geometry.SMALLEST_SIDE - 1e-9);
    }
  }
});

test("snapping: thirds, edges, middles and other boxes, within reach only", () => {
  const lines = geometry.snapLines([[0.11, 0.52, 0.44, 0.9]]);
  const reach = [0.02, 0.02];
  const third = geometry.snappedMove([0.34, 0.2, 0.6, 0.4], lines, reach);
  near(third.box, [1 / 3, 0.2, 1 / 3 + 0.26, 0.4]);
  assert.deepEqual(third.guides, [1 / 3, null]);
  const other = geometry.snappedMove([0.7, 0.315, 0.9, 0.515], lines, reach);
  near(other.box, [0.7, 0.32, 0.9, 0.52]);
  const far = geometry.snappedMove([0.7, 0.2, 0.9, 0.41], lines, [0.001, 0.001]);
  near(far.box, [0.7, 0.2, 0.9, 0.41]);
  assert.deepEqual(far.guides, [null, null]);
});

test("snapping a handle moves the pulled edges only", () => {
  const lines = geometry.snapLines([]);
  const { box, guides } = geometry.snappedResize([0.2, 0.2, 0.66, 0.48], "e", lines, [0.02, 0.03]);
  near(box, [0.2, 0.2, 2 / 3, 0.48]);
  assert.deepEqual(guides, [2 / 3, null]);
});

test("overlap is intersection over union", () => {
  assert.equal(geometry.overlap([0, 0, 1, 1], [0.5, 0, 1, 1]), 0.5);
  assert.equal(geometry.overlap([0, 0, 0.2, 0.2], [0.5, 0.5, 1, 1]), 0);
});

test("side by side: inside, apart, in shape", () => {
  for (let count = 1; count <= 9; count++) {
    const shapes = Array.from({ length: count }, (_, i) => [0.4, 1, 2.5][i % 3]);
    for (const aspect of [0.5, 1, 2]) {
      const boxes = geometry.sideBySide(shapes, aspect);
      boxes.forEach((box, i) => {
        assert.ok(isInside(box));
        const shape = ((box[2] - box[0]) / (box[3] - box[1])) * aspect;
        assert.ok(Math.abs(shape / shapes[i] - 1) < 0.02, `${shape} for ${shapes[i]}`);
        boxes.slice(i + 1).forEach((next) => assert.equal(geometry.overlap(box, next), 0));
      });
    }
  }
});

test("a free place touches nothing where there is room", () => {
  const taken = [[0.05, 0.1, 0.5, 0.9]];
  const box = geometry.freePlace(1, 1, taken);
  assert.ok(isInside(box));
  assert.equal(geometry.overlap(box, taken[0]), 0);
});

test("a free place in a full picture overlaps little", () => {
  const taken = [[0, 0, 1, 1]];
  assert.ok(isInside(geometry.freePlace(1, 1, taken)));
});

test("rounding to what is saved", () => {
  assert.deepEqual(geometry.roundedBox([1 / 3, 0.12345678, 0.5, 1]), [0.3333, 0.1235, 0.5, 1]);
  assert.ok(geometry.sameBox([0, 0, 1, 1], [0, 0, 1, 1]));
  assert.ok(!geometry.sameBox(null, [0, 0, 1, 1]));
});
