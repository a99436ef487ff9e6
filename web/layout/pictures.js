// Small pictures of the subjects, cut out by their masks, and where in its picture each one is.

import constants from "./constants.js";
import { sides } from "./geometry.js";

const LARGEST = 4096; // larger pictures are left alone
const THUMBNAIL = 192;
const OPAQUE = 255 * constants.mask_threshold; // from it on
const NOTHING = { thumbnail: null, content: null };

/**
 * { thumbnail, content } by { image, mask }: a data address, and { size, edges, masked } in pixels
 * (see places.js); null where it cannot be had. `viewUrl(file)` is a file's address.
 */
export class Pictures {
  made = new Map();

  constructor(viewUrl) {
    this.viewUrl = viewUrl;
  }

  /** What is there already; otherwise null, and `onReady` is called later. */
  get(spec, onReady) {
    if (!spec) return null;
    const key = JSON.stringify(spec);
    if (!this.made.has(key)) {
      this.made.set(key, null);
      this.#make(spec)
        .catch(() => NOTHING) // the file is not there, or too large: a label will do
        .then((picture) => {
          this.made.set(key, picture);
          onReady();
        });
    }
    return this.made.get(key);
  }

  async #make({ image, mask }) {
    let pixels = await this.#pixels(image);
    const isMask = hasAlpha(pixels) && mask !== null; // without alpha the server has no mask either
    const { data } = pixels;
    if (hasAlpha(pixels) && mask !== "opaque") {
      pixels = await this.#pixels({ ...image, channel: "rgb" });
    }
    if (isMask && mask === "transparent") {
      for (let i = 3; i < data.length; i += 4) pixels.data[i] = 255 - data[i];
    }
    const picture = cutOut(pixels, isMask && mask !== "other");
    return mask === "other" ? { ...picture, content: null } : picture;
  }

  async #pixels(file) {
    const image = new Image();
    image.src = this.viewUrl(file);
    await image.decode();
    const { naturalWidth: width, naturalHeight: height } = image;
    if (Math.max(width, height) > LARGEST) throw new RangeError();
    const context = canvasContext(width, height);
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, width, height);
  }
}

function canvasContext(width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  return canvas.getContext("2d", { willReadFrequently: true });
}

function hasAlpha({ data }) {
  for (let i = 3; i < data.length; i += 4) if (data[i] < 255) return true;
  return false;
}

/** The subject alone; `masked`: by its alpha. */
function cutOut(pixels, masked) {
  const { width, height } = pixels;
  const edges = masked ? alphaEdges(pixels) : [0, 0, width, height];
  if (!edges) return NOTHING;
  const own = sides(edges);
  const scale = Math.min(1, THUMBNAIL / Math.max(...own));
  const size = own.map((side) => Math.max(1, Math.round(side * scale)));
  const whole = canvasContext(width, height);
  whole.putImageData(pixels, 0, 0);
  const small = canvasContext(...size);
  small.drawImage(whole.canvas, edges[0], edges[1], ...own, 0, 0, ...size);
  const content = { size: [width, height], edges, masked };
  return { thumbnail: small.canvas.toDataURL("image/png"), content };
}

/** Bounding box of what is opaque, in pixels, or null. */
function alphaEdges({ data, width, height }) {
  let [x1, y1, x2, y2] = [width, height, -1, -1];
  for (let pixel = 0; pixel < width * height; pixel++) {
    if (data[4 * pixel + 3] < OPAQUE) continue;
    const x = pixel % width;
    y2 = Math.floor(pixel / width);
    x1 = Math.min(x1, x);
    x2 = Math.max(x2, x);
    y1 = Math.min(y1, y2);
  }
  return y2 < 0 ? null : [x1, y1, x2 + 1, y2 + 1];
}
