import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { makeTranslator, translatorOf } from "../../web/sentences.js";

const read = (path) => JSON.parse(readFileSync(new URL(`../../${path}`, import.meta.url), "utf8"));
const NODES = Object.fromEntries(
  ["en", "zh"].map((language) => [language, read(`locales/${language}/nodeDefs.json`)]),
);
const CHINESE = read("locales/zh/main.json");
const SERVED = { en: { nodeDefs: NODES.en }, zh: { ...CHINESE, nodeDefs: NODES.zh } };
const load = async () => SERVED;

test("a sentence gets the text of its template, with its values", () => {
  const tell = makeTranslator({ "{0}'s image: {1} pictures.": "{0} 有 {1} 张图片。" });
  assert.equal(tell("Subject 1's image: 12 pictures."), "Subject 1 有 12 张图片。");
  assert.equal(tell("Subject 1's image: 12 pictures. And more"), "Subject 1's image: 12 pictures. And more");
});

test("values are put in as they are, also over several lines", () => {
  const tell = makeTranslator({ "got '{0}' ({1}).": "{1}：'{0}'。" });
  assert.equal(tell("got '$& {1} {0}' (a\nb)."), "a\nb：'$& {1} {0}'。");
});

test("signs of patterns and of the page's message format mean themselves", () => {
  const tell = makeTranslator({ 'write {"x": ..} (a|b*) in {0}': "在 {0} 写 {'{'}\"x\": ..{'}'} (a{'|'}b*)" });
  assert.equal(tell('write {"x": ..} (a|b*) in c'), '在 c 写 {"x": ..} (a|b*)');
});

test("the template with the longest fixed text counts", () => {
  const tell = makeTranslator({ "{0}: expected {1}.": "一般", "{0}: expected a mask.": "遮罩" });
  assert.equal(tell("x: expected a mask."), "遮罩");
  assert.equal(tell("x: expected a box."), "一般");
});

test("of two templates that fit, the one that leaves less English counts", () => {
  const tell = makeTranslator({
    "{0}: expected {1}. Correct the configuration.": "{0}：应为{1}。请改正配置。",
    "{0}: expected a number from {1} to {2}. {3}.": "{0}：应为 {1} 到 {2} 的数。{3}。",
    "Correct the configuration": "请改正配置",
  });
  assert.equal(tell("x: expected a number from 1 to 2. Correct the configuration."), "x：应为 1 到 2 的数。请改正配置。");
});

test("phrases in gaps are translated, names in quotation marks are not", () => {
  const tell = makeTranslator({
    "{0} needs {1}.": "{0} 需要{1}。",
    "named '{0}'": "名为 '{0}'",
    "Subject {0}": "主体 {0}",
    "no mask": "没有遮罩",
  });
  assert.equal(tell("Subject 2 needs no mask."), "主体 2 需要没有遮罩。");
  assert.equal(tell("named 'no mask'"), "名为 'no mask'");
});

test("a template without words counts where something in it is known", () => {
  const tell = makeTranslator({ "{0}: {1}": "{0}：{1}", "no mask": "没有遮罩" });
  assert.equal(tell("a.safetensors: no mask"), "a.safetensors：没有遮罩");
  assert.equal(tell("Error: something else"), "Error: something else");
});

test("English stays as it is, without a question", async () => {
  const never = () => assert.fail("asked");
  for (const language of ["en", "en-GB"]) {
    const tell = await translatorOf(language, never);
    assert.equal(tell("mask_kind: expected a word"), "mask_kind: expected a word");
  }
});

test("where the server does not answer it is asked again", async () => {
  let questions = 0;
  const failing = async () => {
    questions++;
    throw new Error("no server");
  };
  for (const _ of [1, 2]) assert.equal((await translatorOf("zh", failing))("no such block"), "no such block");
  assert.equal(questions, 2);
});

test("nodes are called as they are on the page; another kind of Chinese has the same texts", async () => {
  for (const language of ["zh", "zh-TW"]) {
    const tell = await translatorOf(language, load);
    assert.equal(
      tell("Subject-Diffusion Apply's strength: expected a number from 0 to 16, got 17. Write a number."),
      "主体扩散 应用 的 strength：应为 0 到 16 的数，得到的是 17。请写一个数。",
    );
  }
});

test("sentences of files, boxes and errors inside errors", async () => {
  const tell = await translatorOf("zh", load);
  assert.equal(
    tell("a.safetensors: expected an intact .safetensors file, got a damaged one (it was changed while it was read). Download or export it again."),
    "a.safetensors：应为完好的 .safetensors 文件，得到的已损坏（读取时它被更改了）。请重新下载或导出。",
  );
  assert.equal(
    tell('Subject 1\'s box: expected numbers inside 0..1, got [2, 3, 4, 5]. Four numbers are fractions of the picture; for pixels write {"x": .., "y": .., "width": .., "height": ..}.'),
    '主体 1 的框：应为 0..1 内的数，得到的是 [2, 3, 4, 5]。四个数是图片的比例；要用像素请写 {"x": .., "y": .., "width": .., "height": ..}。',
  );
  assert.equal(
    tell("/models/a.safetensors: subject 2's strength: expected a finite number, got nan. Correct the subjects."),
    "/models/a.safetensors：主体 2 的 strength：应为有限的数，得到的是 nan。请改正主体。",
  );
  assert.equal(tell("CUDA out of memory: no room"), "CUDA out of memory: no room");
});
