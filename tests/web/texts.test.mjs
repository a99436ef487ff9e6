import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { afterEach, test } from "node:test";

import { parseLayout } from "../../web/layout/document.js";
import { advice } from "../../web/layout/places.js";
import { say, speak } from "../../web/layout/texts.js";

const ROOT = new URL("../../", import.meta.url);
const read = (path) => readFileSync(new URL(path, ROOT), "utf8");
const CHINESE = JSON.parse(read("locales/zh/main.json"));
const TEXTS = CHINESE.subjectDiffusionLayout;
const SERVED = { en: {}, zh: CHINESE };
const load = async () => SERVED;

const SAY = /\bsay\(\s*/g;
const SENTENCE = /\bsay\(\s*("(?:[^"\\]|\\.)*")/g;

/** All sentences that the scripts say; throws where one is not written out. */
function sentencesOf(source) {
  const calls = source.replaceAll("export const say =", "").match(SAY) ?? [];
  const sentences = [...source.matchAll(SENTENCE)].map(([, literal]) => JSON.parse(literal));
  assert.equal(sentences.length, calls.length, "a sentence is not a plain string");
  return sentences;
}

function scripts() {
  const names = readdirSync(new URL("web/", ROOT), { recursive: true });
  return names.filter((name) => /^[^.]+\.js$/.test(name)).map((name) => read(`web/${name}`));
}

const placeholders = (text) => (text.match(/\{\w+\}/g) ?? []).sort();

afterEach(() => speak("en", load));

test("sentences are found, also where one cannot be", () => {
  assert.deepEqual(sentencesOf('say("a \\"b\\".") + say(\n  "c {d}", { d },\n)'), ['a "b".', "c {d}"]);
  assert.throws(() => sentencesOf("say(name)"), /not a plain string/);
});

test("every sentence of the scripts has a Chinese text, and no text is left over", () => {
  const said = new Set(scripts().flatMap(sentencesOf));
  assert.ok(said.size > 40, `${said.size} sentences`);
  assert.deepEqual(Object.keys(TEXTS).sort(), [...said].sort());
});

test("Chinese texts are Chinese, with the same values in them", () => {
  for (const [sentence, text] of Object.entries(TEXTS)) {
    assert.match(text, /[\u4e00-\u9fff]|^\{name\}（\{label\}）：\{where\}$/);
    assert.deepEqual(placeholders(text), placeholders(sentence));
  }
});

test("the page's message format can read every text", () => {
  for (const text of Object.values(TEXTS)) {
    assert.doesNotMatch(text.replace(/\{\w+\}/g, ""), /[{}@$|]/, text);
  }
});

test("English, until another language is wanted; without a question", async () => {
  let questions = 0;
  const counted = async () => (questions++, SERVED);
  for (const language of ["en", "en-GB"]) await speak(language, counted);
  assert.equal(questions, 0);
  assert.equal(say("Subject {number}", { number: 2 }), "Subject 2");
});

test("Chinese, and back", async () => {
  assert.equal(await speak("zh", load), true);
  assert.equal(await speak("zh", load), false); // as before
  assert.equal(say("Subject {number}", { number: 2 }), "主体 2");
  assert.equal(say("what nobody has translated"), "what nobody has translated");
  assert.equal(await speak("en", load), true);
  assert.equal(say("Subject {number}", { number: 2 }), "Subject 2");
});

test("another kind of Chinese has its own texts where there are some", async () => {
  await speak("zh-TW", load);
  assert.equal(say("Copy"), "复制");
  await speak("en", load);
  const own = { "zh-TW": { subjectDiffusionLayout: { Copy: "複製" } } };
  await speak("zh-TW", async () => ({ ...SERVED, ...own }));
  assert.equal(say("Copy"), "複製");
  assert.equal(say("Keep"), "保留");
});

test("English where there is nothing else", async () => {
  const useless = [async () => Promise.reject(new Error("no server")), async () => ({}), async () => null];
  for (const [i, answer] of useless.entries()) {
    await speak(`fr-${i}`, answer);
    assert.equal(say("Copy"), "Copy");
  }
});

test("the last of two languages counts, whichever answer comes first", async () => {
  let answer;
  const slow = speak("zh", () => new Promise((done) => (answer = done)));
  await speak("en", load);
  answer(SERVED);
  assert.equal(await slow, false);
  assert.equal(say("Copy"), "Copy");
});

test("values are put in as they are", async () => {
  await speak("zh", load);
  const item = { name: "{label}", label: "$& {name}", box: null, index: 0 };
  const scene = { subjects: [item], mode: "given", isComplete: true };
  assert.equal(advice(scene, [item]), "{label}（$& {name}）还没有位置：请在这里画出来。");
  const bad = '{"subjects": [{"box": [0, 0]}]}';
  assert.throws(() => parseLayout(bad), /^Error: 主体 1：box 应为 0..1 内的 \[x1, y1, x2, y2\]/);
});
