// nodes/placement.py in JavaScript, to the last bit: a test compares the two.

import { overlap, sides } from "./geometry.js";

const SIZE_RANGES = { 1: [0.4, 0.85], 2: [0.32, 0.58], 3: [0.28, 0.45], 4: [0.28, 0.45] };
const MANY_SUBJECTS = [0.18, 0.3];
const MAX_OVERLAP = 0.1;
const TRIES = 60;

/**
 * The boxes of all subjects, null where nothing is known or given. Of each: its own `box` or null,
 * and its `content` in its own picture, { size: [width, height], edges: [x1, y1, x2, y2], masked }
 * in pixels, or null while unknown.
 */
export function placesFor(subjects, mode, seed, width, height) {
  if (mode === "reference") {
    return subjects.map(({ box, content }) => box ?? placeInOwnPicture(content, width, height));
  }
  const given = subjects.map(({ box }) => box);
  if (mode !== "random") return given;
  const random = randomNumbers(seed);
  const taken = given.filter(Boolean);
  let known = true;
  return subjects.map(({ box, content }) => {
    if (box) return box;
    known &&= content !== null; // every place depends on those before it
    if (!known) return null;
    const size = randomSize(content, subjects.length, width, height, random);
    taken.push(leastOverlapping(size, taken, random));
    return taken.at(-1);
  });
}

/** Where the subject stands if its picture is fitted, centred, into a width x height one. */
function placeInOwnPicture(content, width, height) {
  if (!content?.masked) return null;
  const [pictureWidth, pictureHeight] = content.size;
  const scale = Math.min(width / pictureWidth, height / pictureHeight);
  const left = (width - pictureWidth * scale) / 2;
  const top = (height - pictureHeight * scale) / 2;
  const [x1, y1, x2, y2] = content.edges;
  const across = (x) => (left + x * scale) / width;
  const down = (y) => (top + y * scale) / height;
  return inside([across(x1), down(y1), across(x2), down(y2)]);
}

function randomSize({ edges }, count, width, height, random) {
  const range = SIZE_RANGES[count] ?? MANY_SUBJECTS;
  const longest = uniform(random, ...range) * Math.min(width, height);
  const own = sides(edges);
  const scale = longest / Math.max(...own);
  return [(own[0] * scale) / width, (own[1] * scale) / height];
}

function leastOverlapping(size, taken, random) {
  let best = [Infinity];
  for (let i = 0; i < TRIES; i++) {
    const [x1, y1] = size.map((side) => uniform(random, 0, 1 - side));
    const box = inside([x1, y1, x1 + size[0], y1 + size[1]]);
    const worst = Math.max(0, ...taken.map((other) => overlap(box, other)));
    if (worst < MAX_OVERLAP) return box;
    const found = [worst, ...box];
    if (before(found, best)) best = found;
  }
  return best.slice(1);
}

/** Order of tuples. */
function before(first, second) {
  const i = first.findIndex((value, index) => value !== second[index]);
  return i >= 0 && first[i] < second[i];
}

const inside = (box) => box.map((edge) => Math.min(Math.max(edge, 0), 1));
const uniform = (random, low, high) => low + (high - low) * random();

/** Python's random.Random(seed).random: Mersenne Twister, seed from 0 to 2 ** 31 - 1. */
export function randomNumbers(seed) {
  const state = seededState(seed);
  let next = state.length;
  const word = () => {
    if (next === state.length) {
      twist(state);
      next = 0;
    }
    let y = state[next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
  return () => {
    const high = word() >>> 5; // two words give the 53 bits of a double
    return (high * 2 ** 26 + (word() >>> 6)) / 2 ** 53;
  };
}

function seededState(seed) {
  const state = new Uint32Array(624);
  const mixed = (i, factor) => Math.imul(state[i - 1] ^ (state[i - 1] >>> 30), factor);
  state[0] = 19650218;
  for (let i = 1; i < 624; i++) state[i] = mixed(i, 1812433253) + i;
  let i = 1;
  const wrap = () => {
    if (++i < 624) return;
    state[0] = state[623];
    i = 1;
  };
  for (let k = 0; k < 624; k++, wrap()) state[i] = (state[i] ^ mixed(i, 1664525)) + seed;
  for (let k = 0; k < 623; k++, wrap()) state[i] = (state[i] ^ mixed(i, 1566083941)) - i;
  state[0] = 0x80000000;
  return state;
}

function twist(state) {
  for (let i = 0; i < 624; i++) {
    const y = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
    state[i] = state[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
  }
}
