// What the editor says: English sentences in the scripts, which are also the keys of the other
// languages' texts in locales/<language>/main.json.

const KEY = "subjectDiffusionLayout";
let language = "en";
let texts = {};

/** A sentence in the page's language, in English if there is none; `{name}` is `values.name`. */
export const say = (sentence, values) =>
  (texts[sentence] ?? sentence).replace(/\{(\w+)\}/g, (_, name) => values[name]);

/**
 * From now on in the language `wanted`; whether anything is said differently now. `load()`
 * gives what the server's /i18n does (the page itself may lose packs' texts).
 */
export async function speak(wanted, load) {
  if (wanted === language) return false;
  language = wanted;
  const main = wanted.split("-")[0]; // "zh" for "zh-TW"
  const all = main === "en" ? null : await load().catch(() => null);
  if (wanted !== language) return false; // it was changed meanwhile
  texts = { ...all?.[main]?.[KEY], ...all?.[wanted]?.[KEY] };
  return true;
}
