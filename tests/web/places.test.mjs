import assert from "node:assert/strict";
import { readdirSync, statSync } from "node:fs";
import { test } from "node:test";

import { DEFAULTS } from "../../web/layout/document.js";
import { AskedPlaces } from "../../web/layout/asked_places.js";
import { overlap } from "../../web/layout/geometry.js";
import { ownBox } from "../../web/layout/own_box.js";
import { advice, placesQuestion, shownPlaces, withNewcomers } from "../../web/layout/places.js";

const BOX = [0.1, 0.2, 0.5, 0.9];
const CONTENT = { size: [80, 40], edges: [20, 10, 60, 40], masked: true };
const subject = (id, box = null) => ({ id, label: id, box });
const scene = (subjects, mode = "given") => ({
  subjects,
  mode,
  seed: 3,
  width: 128,
  height: 128,
  isComplete: true,
  hasBoxes: false,
});
const entry = (box) => ({ ...DEFAULTS, box });

test("what is drawn comes first, then the box of the Subject node", () => {
  const both = scene([subject("a", BOX), subject("b", BOX), subject("c")]);
  const drawn = [0.5, 0.5, 0.7, 0.7];
  const places = shownPlaces(both, [entry(drawn)], [], null);
  assert.deepEqual(places, [
    { box: drawn, source: "layout" },
    { box: BOX, source: "subject" },
    { box: null, source: "last run" },
  ]);
});

test("the modes fill in what is missing", () => {
  const found = [[0.25, 48 / 128, 0.75, 96 / 128]];
  const [place] = shownPlaces(scene([subject("a")], "reference"), [], found, null);
  assert.deepEqual(place, { box: [0.25, 48 / 128, 0.75, 96 / 128], source: "reference" });
  const both = scene([subject("a"), subject("b", BOX)], "random");
  assert.deepEqual(shownPlaces(both, [], [[0.6, 0.6, 0.8, 0.8], BOX], null), [
    { box: [0.6, 0.6, 0.8, 0.8], source: "random" },
    { box: BOX, source: "subject" },
  ]);
});

test("the server is asked where it can know what is not drawn", () => {
  const both = scene([subject("a"), subject("b", BOX)], "random");
  assert.deepEqual(placesQuestion(both, [], [CONTENT]), {
    subjects: [
      { box: null, content: CONTENT },
      { box: BOX, content: null },
    ],
    mode: "random",
    seed: 3,
    width: 128,
    height: 128,
  });
  const nothing = [
    [{ ...both, mode: "given" }, []],
    [{ ...both, width: undefined }, []],
    [{ ...both, hasBoxes: true }, []],
    [both, [entry(BOX)]],
    [scene([subject("a"), { ...subject("b"), box: undefined }], "random"), []],
  ];
  for (const [asked, entries] of nothing) {
    assert.equal(placesQuestion(asked, entries, [CONTENT, CONTENT]), null);
  }
});

const question = (seed, count = 1) => ({ seed, subjects: Array(count).fill({}) });

test("the server's places, and those before while it is asked", async () => {
  const asked = [];
  const places = new AskedPlaces(async ({ seed, subjects }) => {
    asked.push(seed);
    return subjects.map(() => [seed]);
  });
  let shown = 0;
  const get = (one) => places.get(one, () => shown++);
  assert.deepEqual(get(question(1)), []);
  assert.deepEqual(get(question(1)), []); // asked once
  await places.answer;
  assert.deepEqual(get(question(1)), [[1]]);
  assert.deepEqual(get(question(2)), [[1]]);
  await places.answer;
  assert.deepEqual(get(question(2)), [[2]]);
  assert.deepEqual(get(question(2, 2)), []); // other subjects
  assert.deepEqual(get(null), []); // nobody needs any
  await places.answer;
  assert.deepEqual(get(null), []);
  assert.deepEqual(asked, [1, 2, 2]);
  assert.equal(shown, 2);
});

test("the last question counts, whichever answer comes first", async () => {
  const answers = {};
  const places = new AskedPlaces(({ seed }) => new Promise((done) => (answers[seed] = done)));
  places.get(question(1), () => {});
  const slow = places.answer;
  places.get(question(2), () => {});
  answers[2]([[2]]);
  await places.answer;
  answers[1]([[1]]);
  await slow;
  assert.deepEqual(places.get(question(2)), [[2]]);
});

test("no places where the server does not say", async () => {
  const places = new AskedPlaces(async () => Promise.reject(new Error("no server")));
  places.get(question(1), () => {});
  await places.answer;
  assert.deepEqual(places.get(question(1)), []);
});

test("what only the server knows comes from the last run, or is open", () => {
  const unknown = scene([subject("a"), subject("b")], "random");
  const run = { subjects: [{ box: BOX }, { box: BOX }] };
  const open = shownPlaces(unknown, [], [null, null], null);
  assert.deepEqual(open.map(({ box }) => box), [null, null]);
  const known = shownPlaces(unknown, [], [null, null], run);
  assert.deepEqual(known[1], { box: BOX, source: "last run" });
  const linked = { ...scene([subject("a", [0, 0, 1, 1])]), hasBoxes: true };
  assert.deepEqual(shownPlaces(linked, [], [], run)[0], { box: BOX, source: "last run" });
});

test("newcomers: side by side while nobody has drawn anything", () => {
  const placed = new Map();
  const first = withNewcomers(scene([subject("a")]), [DEFAULTS], [], placed, [1]);
  assert.deepEqual(first[0].box, [0.15, 0.15, 0.85, 0.85]);
  const both = scene([subject("a"), subject("b")]);
  const two = withNewcomers(both, [first[0], DEFAULTS], ["a"], placed, [1, 1]);
  assert.ok(two[0].box[2] < two[1].box[0]);
  assert.ok(two[0].box[2] < first[0].box[2]); // it made room
});

test("newcomers: what was drawn stays", () => {
  const both = scene([subject("a"), subject("b")]);
  const entries = withNewcomers(both, [entry(BOX), DEFAULTS], ["a"], new Map(), [1, 1]);
  assert.deepEqual(entries[0].box, BOX);
  assert.equal(overlap(entries[1].box, BOX), 0);
});

test("no newcomer, no change", () => {
  const both = scene([subject("a"), subject("b", BOX)]);
  const entries = [DEFAULTS, DEFAULTS];
  assert.equal(withNewcomers(both, entries, ["a"], new Map(), [1, 1]), entries);
});

test("one line of advice", () => {
  const item = (box, index = 0) => ({ name: `Subject ${index + 1}`, label: "dog", box, index });
  const said = (items, mode) => advice(scene(items, mode), items);
  assert.match(said([]), /Connect a Subject node/);
  assert.match(said([item(null)]), /Subject 1 \(dog\) has no place yet/);
  assert.match(said([item(null)], "random"), /gets its place when this runs/);
  assert.match(said([item([0, 0, 0.1, 0.1])]), /is small/);
  assert.match(said([item([0, 0, 1, 1])]), /fills nearly all/);
  assert.match(said([item(BOX), item([0.1, 0.2, 0.5, 0.88], 1)]), /nearly the same place/);
  assert.equal(said([item(BOX)]), "");
});

test("a Subject node's box, as the server reads it", () => {
  const pixels = '{"x": 64, "y": 0, "width": 32, "height": 64}';
  for (const text of ["0.1,0.2,0.5,0.9", "0.1 0.2; 0.5 0.9", "[0.1, 0.2, 0.5, 0.9]", "[[0.1,0.2,0.5,0.9]]"]) {
    assert.deepEqual(ownBox(text, 128, 128), BOX);
  }
  assert.deepEqual(ownBox('{"x1": 0.1, "y1": 0.2, "x2": 0.5, "y2": 0.9}', 128, 128), BOX);
  assert.deepEqual(ownBox(pixels, 128, 128), [0.5, 0, 0.75, 0.5]);
  assert.equal(ownBox(pixels, undefined, undefined), undefined);
  assert.equal(ownBox("", 128, 128), null);
  for (const text of ["on the left", "{", "0.5,0,0.1,1", "0,0,2,1", "1,2,3"]) {
    assert.equal(ownBox(text, 128, 128), undefined);
  }
});

test("the editor's scripts together have at most 90 kB", () => {
  const web = new URL("../../web/", import.meta.url);
  const names = readdirSync(web, { recursive: true }).filter(
    (name) => name === "layout_editor.js" || /^layout[\\/].*\.js$/.test(name),
  );
  const total = names.reduce((sum, name) => sum + statSync(new URL(name, web)).size, 0);
  assert.ok(names.length > 10 && total <= 90_000, `${total} bytes`);
});
