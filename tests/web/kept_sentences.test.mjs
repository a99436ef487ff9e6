import assert from "node:assert/strict";
import { test } from "node:test";

import { KeptSentences } from "../../web/kept_sentences.js";

function storage(first = {}) {
  const values = new Map(Object.entries(first));
  return {
    getItem: (key) => values.get(key) ?? null,
    setItem: (key, value) => values.set(key, String(value)),
    keys: () => [...values.keys()],
  };
}

test("sentences are kept by workflow and node, and added to those of the same run", () => {
  const place = storage();
  const kept = new KeptSentences(place);
  kept.add("w", "5:3", "{}", ["one"]);
  kept.add("w", "5:3", "{}", ["two"]);
  kept.add("other", "5:3", "{}", ["three"]);
  const again = new KeptSentences(place); // the page is loaded anew
  assert.deepEqual(again.of("w"), [{ workflow: "w", id: "5:3", state: "{}", sentences: ["one", "two"] }]);
  again.remove("w", "5:3");
  assert.deepEqual(again.of("w"), []);
  assert.equal(again.of("other").length, 1);
});

test("the oldest go where there are too many", () => {
  const kept = new KeptSentences(storage());
  for (let id = 0; id < 120; id++) kept.add("w", String(id), "", ["x"]);
  assert.equal(kept.all().length, 100);
  assert.equal(kept.all()[0].id, "20");
});

test("a storage with something else in it, a full one and none are no error", () => {
  const [key] = (() => {
    const place = storage();
    new KeptSentences(place).add("w", "1", "", ["x"]);
    return place.keys();
  })();
  for (const text of ["{", "5", "null"]) {
    const kept = new KeptSentences(storage({ [key]: text }));
    assert.deepEqual(kept.of("w"), []);
    kept.add("w", "1", "", ["x"]);
    assert.equal(kept.of("w").length, 1);
  }
  const full = {
    getItem: () => null,
    setItem: () => {
      throw new Error("full");
    },
  };
  for (const place of [full, undefined]) new KeptSentences(place).add("w", "1", "", ["x"]);
});
