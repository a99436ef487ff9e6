import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { paragraphsOf, translated } from "../../web/note_texts.js";

const PARAGRAPHS = { "## One": "## 一", "Two `a|b`.": "二 `a{'|'}b`。" };

test("a note is translated paragraph by paragraph", () => {
  assert.equal(translated("## One\n\nTwo `a|b`.\n", PARAGRAPHS), "## 一\n\n二 `a|b`。");
  assert.equal(translated("## One", PARAGRAPHS), "## 一");
});

test("a note in which somebody has written is theirs", () => {
  for (const note of ["## One\n\nMine.", "## One!\n\nTwo `a|b`.", "", "toString"])
    assert.equal(translated(note, PARAGRAPHS), null, note);
  assert.equal(translated("## One", {}), null);
});

test("a variant of a language has the language's own paragraphs, and may have others", () => {
  const all = {
    zh: { subjectDiffusionNotes: { a: "一", b: "二" } },
    "zh-TW": { subjectDiffusionNotes: { b: "貳" } },
  };
  assert.deepEqual(paragraphsOf(all, "zh-TW"), { a: "一", b: "貳" });
  assert.deepEqual(paragraphsOf(all, "zh"), { a: "一", b: "二" });
  assert.deepEqual(paragraphsOf(all, "fr"), {});
});

test("a template's note, as it is delivered, is Chinese in a Chinese page", () => {
  const read = (path) => JSON.parse(readFileSync(new URL(`../../${path}`, import.meta.url), "utf8"));
  const chinese = paragraphsOf({ zh: read("locales/zh/main.json") }, "zh");
  const { nodes } = read("example_workflows/two_subjects.json");
  const [note] = nodes.find(({ type }) => type === "MarkdownNote").widgets_values;
  assert.match(translated(note, chinese), /^## 两个主体\n\n\*\*不需要\*\*/);
});
