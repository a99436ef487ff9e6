// What the server says, in the page's language. It speaks English; locales/<language>/main.json has
// templates of its sentences, with numbered gaps, each with the same gaps in that language.

const KEY = "subjectDiffusionSentences"; // as in devtools/sentence_catalogue.py
const GAP = /\{(\d+)\}/g;
const ESCAPED = /\{'([{}@$|])'\}/g; // signs of the page's message format
const DEEPEST = 5; // sentences within sentences

export const unescaped = (text) => text.replace(ESCAPED, "$1");

const wordsIn = (text) => text.match(/[A-Za-z]{2,}/g)?.length ?? 0;

/** A template that sentences can be compared with. */
function compiled([english, text]) {
  const parts = english.split(GAP).filter((_, index) => index % 2 === 0);
  const escapedParts = parts.map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return {
    text: unescaped(text),
    pattern: new RegExp(`^${escapedParts.join("(.*?)")}$`, "s"),
    longest: parts.reduce((one, other) => (other.length > one.length ? other : one)),
    length: parts.join("").length,
    hasWords: /\p{L}/u.test(parts.join("")),
    // what stands in quotation marks is a name
    isName: parts.slice(1).map((part, i) => parts[i].endsWith("'") && part.startsWith("'")),
  };
}

/**
 * A function that gives a sentence of the server in another language; what it does not know it
 * gives back. `catalogue`: English template -> text; `names`: what nodes are called -> their names.
 */
export function makeTranslator(catalogue, names = {}) {
  const templates = Object.entries(catalogue)
    .map(compiled)
    .sort((one, other) => other.length - one.length);

  function fill(template, values, depth) {
    const told = values.map((value, i) => (template.isName[i] ? value : translate(value, depth)));
    if (!template.hasWords && told.every((value, i) => value === values[i])) return null;
    return template.text.replace(GAP, (_, number) => told[number]);
  }

  /** Of all templates that fit, the one that leaves the least English. */
  function translate(sentence, depth) {
    if (Object.hasOwn(names, sentence)) return names[sentence];
    let best = sentence;
    for (const template of depth > DEEPEST ? [] : templates) {
      if (!sentence.includes(template.longest)) continue;
      const found = template.pattern.exec(sentence);
      const told = found && fill(template, found.slice(1), depth + 1);
      if (told !== null && (best === sentence || wordsIn(told) < wordsIn(best))) best = told;
    }
    return best;
  }

  return (sentence) => translate(sentence, 0);
}

let made = { language: "en", tell: makeTranslator({}) };

/** The translator of the page's `language`; `load()` gives what the server's /i18n does. */
export async function translatorOf(language, load) {
  if (made.language === language) return made.tell;
  const main = language.split("-")[0]; // "zh" for "zh-TW"
  const all = main === "en" ? {} : await load().catch(() => null);
  if (all === null) return makeTranslator({}); // and asks again the next time
  const catalogue = { ...all[main]?.[KEY], ...all[language]?.[KEY] };
  made = { language, tell: makeTranslator(catalogue, namesOf(all, main)) };
  return made.tell;
}

/** English name of every node -> its name in a language. */
function namesOf(all, language) {
  const names = Object.entries(all[language]?.nodeDefs ?? {}).map(([id, texts]) => [
    all.en?.nodeDefs?.[id]?.display_name,
    texts.display_name,
  ]);
  return Object.fromEntries(names.filter(([english, text]) => english && text));
}
