// What nodes said, for as long as a tab of the browser is open: so that it is there again when the
// page, or a workflow in it, is loaded anew.

const KEY = "SubjectDiffusion.Sentences";
const MOST = 100; // nodes

export class KeptSentences {
  /** `storage`: a Storage, such as sessionStorage. */
  constructor(storage) {
    this.storage = storage;
  }

  /** Everything that is kept, oldest first: `{workflow, id, state, sentences}`. */
  all() {
    try {
      const entries = JSON.parse(this.storage.getItem(KEY) ?? "[]");
      return Array.isArray(entries) ? entries : [];
    } catch {
      return []; // of somebody else, or no storage
    }
  }

  /** What the nodes of a workflow said: by execution id, and how the node was set then. */
  of(workflow) {
    return this.all().filter((entry) => entry.workflow === workflow);
  }

  /** More sentences of a run. */
  add(workflow, id, state, sentences) {
    const before = this.of(workflow).find((entry) => entry.id === id)?.sentences ?? [];
    this.#put(workflow, id, [{ workflow, id, state, sentences: [...before, ...sentences] }]);
  }

  /** The node runs again. */
  remove(workflow, id) {
    if (this.of(workflow).some((entry) => entry.id === id)) this.#put(workflow, id, []);
  }

  #put(workflow, id, entries) {
    const others = this.all().filter((entry) => entry.workflow !== workflow || entry.id !== id);
    try {
      this.storage.setItem(KEY, JSON.stringify([...others, ...entries].slice(-MOST)));
    } catch {
      // a full storage: they are on the node all the same
    }
  }
}
