// Shows the notes of the templates in the page's language. A workflow that is saved, or put into a
// picture, has them in English again: everybody reads it in a language of theirs.

import { app } from "../../scripts/app.js";
import { paragraphsOf, translated } from "./note_texts.js";
import { language, servedTexts } from "./served_texts.js";

const NOTES = ["MarkdownNote", "Note"];

function translate(node, paragraphs) {
  const widget = node.widgets?.[0];
  const english = String(widget?.value ?? "");
  const text = translated(english, paragraphs);
  if (text === null) return;
  widget.value = text;
  const before = node.onSerialize;
  node.onSerialize = function (data) {
    before?.call(this, data);
    if (data.widgets_values?.[0] === text) data.widgets_values[0] = english;
  };
}

async function translateAll() {
  const all = await servedTexts().catch(() => ({})); // none: they stay English
  const paragraphs = paragraphsOf(all, language());
  for (const node of (app.rootGraph ?? app.graph).nodes)
    if (NOTES.includes(node.type)) translate(node, paragraphs);
}

app.registerExtension({
  name: "SubjectDiffusion.TemplateNotes",
  afterConfigureGraph() {
    if (!language().startsWith("en")) translateAll(); // the page does not wait for it
  },
});
