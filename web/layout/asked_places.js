// The places that the server finds (nodes/layout_places.py); nothing here finds any.

/** What is asked last and what came of it, for one editor. `ask(question)` gives the answer. */
export class AskedPlaces {
  found = [];
  question = null;
  answer = Promise.resolve(); // done when what was asked last is known and shown

  constructor(ask) {
    this.ask = ask;
  }

  /**
   * A box or null for each subject; until the server has answered, those of the question before,
   * and `onAnswer` is called later. Nothing is asked for a `question` of null.
   */
  get(question, onAnswer) {
    const text = JSON.stringify(question);
    if (text !== this.question) {
      this.question = text;
      if (question?.subjects.length !== this.found.length) this.found = []; // of other subjects
      if (question) this.answer = this.#ask(question, text, onAnswer);
    }
    return this.found;
  }

  async #ask(question, text, onAnswer) {
    const found = await this.ask(question).catch(() => []); // then the run will tell
    if (text !== this.question) return; // something else is asked by now
    this.found = found;
    onAnswer();
  }
}
