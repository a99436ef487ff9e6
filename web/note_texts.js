// The notes of the templates in another language: English paragraph -> its text, in
// locales/<language>/main.json. A note in which somebody has written is theirs, and stays.

import { unescaped } from "./sentences.js";

const KEY = "subjectDiffusionNotes"; // as in tests/test_template_notes.py
const BREAK = "\n\n";

/** The paragraphs in a language such as "zh-TW"; `all` is what the server's /i18n gives. */
export const paragraphsOf = (all, language) => ({
  ...all[language.split("-")[0]]?.[KEY],
  ...all[language]?.[KEY],
});

/** A note in that language; null unless every paragraph of it is known. */
export function translated(note, paragraphs) {
  const own = note.trimEnd().split(BREAK);
  if (!own.every((one) => Object.hasOwn(paragraphs, one))) return null;
  return own.map((one) => unescaped(paragraphs[one])).join(BREAK);
}
