// Which subjects' boxes are locked: the editor's own business, kept with the node in the workflow.

const PROPERTY = "subject_diffusion_locked";

/** Subjects by their ids, as `readScene` gives them. */
export class LockedBoxes {
  constructor(node) {
    this.node = node;
  }

  get #ids() {
    const ids = this.node.properties?.[PROPERTY];
    return Array.isArray(ids) ? ids : [];
  }

  has(id) {
    return this.#ids.includes(id);
  }

  toggle(id) {
    const others = this.#ids.filter((one) => one !== id);
    const ids = this.has(id) ? others : [...others, id];
    this.node.properties ??= {};
    if (ids.length) this.node.properties[PROPERTY] = ids;
    else delete this.node.properties[PROPERTY];
  }
}
