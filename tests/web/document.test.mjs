import assert from "node:assert/strict";
import { test } from "node:test";

import * as document from "../../web/layout/document.js";

const TEXT = `{"version": 1, "subjects": [
  {"box": [0.1, 0.2, 0.5, 0.9], "strength": 0.5},
  {},
  {"start": 0.2, "end": 0.8}
]}`;

test("text and entries, there and back", () => {
  const entries = document.parseLayout(TEXT);
  assert.deepEqual(entries[0], { box: [0.1, 0.2, 0.5, 0.9], strength: 0.5, start: 0, end: 1 });
  assert.deepEqual(entries[1], { ...document.DEFAULTS });
  assert.equal(document.layoutText(entries), TEXT);
});

test("nothing said is an empty text", () => {
  for (const text of ["", " \n", '{"subjects": []}', '{"version": 1, "subjects": [null, {}]}']) {
    assert.equal(document.layoutText(document.parseLayout(text)), "");
  }
});

test("bad text gets a sentence", () => {
  const bad = {
    "{": /no JSON/,
    "[]": /should be/,
    '{"version": 2, "subjects": []}': /version 2/,
    '{"subjects": [], "x": 1}': /should be/,
    '{"subjects": [1]}': /Subject 1: only box/,
    '{"subjects": [null, {"bx": []}]}': /Subject 2: only box/,
    '{"subjects": [{"box": [0, 0, 0, 1]}]}': /Subject 1: box should be/,
    '{"subjects": [{"box": [0, 0, 2, 1]}]}': /Subject 1: box should be/,
    '{"subjects": [{"box": "0,0,1,1"}]}': /Subject 1: box should be/,
    '{"subjects": [{"strength": 5}]}': /Subject 1: only box, strength \(0 to 2\)/,
    '{"subjects": [{"end": "1"}]}': /Subject 1: only box/,
  };
  for (const [text, sentence] of Object.entries(bad)) {
    assert.throws(() => document.parseLayout(text), sentence);
  }
});

test("changing one entry rounds its box and leaves the others alone", () => {
  const before = document.parseLayout(TEXT);
  const after = document.changed(before, 3, { box: [1 / 3, 0, 2 / 3, 1] });
  assert.deepEqual(after.slice(0, 3), before);
  assert.deepEqual(after[3].box, [0.3333, 0, 0.6667, 1]);
  assert.deepEqual(document.changed(before, 0, { strength: 1 })[0].box, before[0].box);
  assert.equal(document.changed(before, 0, { box: null })[0].box, null);
  assert.equal(before.length, 3);
});

test("exchanging and duplicating", () => {
  const before = document.parseLayout(TEXT);
  const items = before.map((entry, index) => ({ ...entry, index, label: "dog" }));
  const found = [0.5, 0.5, 0.8, 0.83333]; // a box that a mode gave
  const after = document.exchanged(before, items[0], { ...items[1], box: found });
  assert.deepEqual(after[1], before[0]);
  assert.deepEqual(after[0], { ...document.DEFAULTS, box: [0.5, 0.5, 0.8, 0.8333] });
  assert.deepEqual(after[2], before[2]);
  const copy = document.duplicated(before, items[0], 1)[1];
  assert.equal(copy.strength, 0.5);
  assert.deepEqual(copy.box, [0.5, 0.2, 0.9, 0.9]);
});

test("entries follow their subjects", () => {
  const entries = document.parseLayout(TEXT);
  const parked = new Map();
  const fewer = document.followed(entries, ["a", "b", "c"], ["c", "a"], parked);
  assert.deepEqual(fewer, [entries[2], entries[0]]);
  const again = document.followed(fewer, ["c", "a"], ["a", "b", "c", "d"], parked);
  assert.deepEqual(again, [...entries, document.DEFAULTS]);
  const others = document.followed(entries, ["a", "b", "c"], ["x", "y"], new Map());
  assert.deepEqual(others, entries.slice(0, 2));
});

test("undo and redo", () => {
  const history = new document.History();
  assert.equal(history.step("now"), undefined);
  history.add("one", "move", 0);
  history.add("two", "move", 50); // the same gesture
  history.add("three", "move", 900);
  history.add("four", "draw", 910);
  assert.equal(history.step("five"), "four");
  assert.equal(history.step("four"), "three");
  assert.equal(history.step("three", true), "four");
  assert.equal(history.step("four"), "three");
  assert.equal(history.step("three"), "one");
  assert.equal(history.step("one"), undefined);
  history.add("one", "draw", 9000);
  assert.equal(history.step("x", true), undefined);
});
