// The board in a window of its own over the page, which can be resized, and back into the node.

import { element } from "./elements.js";
import { say } from "./texts.js";

export class OwnWindow {
  /** `home` is the editor's element in the node, which shows everything while this is closed. */
  constructor(home) {
    this.home = home;
    this.dialog = element("dialog", { class: "sdl-window" });
    this.dialog.addEventListener("close", () => this.#goHome());
    // the page's own keys, such as Delete for nodes, rest meanwhile
    this.dialog.addEventListener("keydown", (event) => event.stopPropagation());
  }

  get isOpen() {
    return this.dialog.open;
  }

  toggle() {
    if (this.isOpen) this.dialog.close();
    else this.#open();
  }

  #open() {
    this.place = element("div", { class: "sdl-away" }, say("The board is in a window of its own."));
    this.home.replaceWith(this.place);
    this.dialog.append(this.home);
    document.body.append(this.dialog);
    this.dialog.showModal();
  }

  #goHome() {
    this.place.replaceWith(this.home);
    this.dialog.remove();
  }
}
