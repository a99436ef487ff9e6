"""Pastes subjects into scenes: pictures whose boxes, masks and captions are exactly known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from subject_diffusion_core.tiny.layouts import MAX_IOU, SIZE_RANGES

from .label_rules import parse_words
from .pictures import SIDE, resize_rgba

# Shapes: H, W = 128, 128; N subjects. Boxes are x1 y1 x2 y2 in 0..1 of the picture.

SUBJECT_COUNT_WEIGHTS = (0.45, 0.35, 0.10, 0.10)
PLACEMENT_TRIES = 40
SHADOW_SHARE = 0.5
PLAIN_SHARE = 0.08
MASK_ALPHA = 96  # alpha from which a pixel counts as the subject
PLAIN_CAPTION = "on a plain background"
TEMPLATES = (
    "{subjects} {scene}",
    "a photo of {subjects} {scene}",
    "{subjects} {scene}",
    "a picture of {subjects} {scene}",
    "{scene}, {subjects}",
    "an image showing {subjects} {scene}",
)
# Mass nouns and the exceptions of English spelling.
NO_ARTICLE = parse_words(
    """
    bacon bamboo bread broccoli butter champagne clothes coral curry cutlery dango falafel fire
    fondue garlic meat milk oden popcorn soap spaghetti sugar sushi
    """
) | {"bubble tea", "canned food", "curry and rice", "ice cream", "shaved ice", "toilet paper"}
SPOKEN_AS_CONSONANT = ("uni", "uri", "ute", "uku")
SPOKEN_AS_VOWEL = ("a", "e", "i", "o", "u", "hourglass", "x-ray")


@dataclass(frozen=True, kw_only=True)
class Cutout:
    """A subject to paste: square (S, S, 4) uint8 with centred content of `width` x `height`."""

    rgba: np.ndarray
    label: str
    width: int
    height: int

    def content(self) -> np.ndarray:
        """The content alone, (height, width, 4)."""
        top = (self.rgba.shape[0] - self.height) // 2
        left = (self.rgba.shape[1] - self.width) // 2
        return self.rgba[top : top + self.height, left : left + self.width]


@dataclass(frozen=True, kw_only=True)
class Composite:
    """A picture (H, W, 3) uint8 and what is in it.

    masks (N, H, W) bool: visible pixels, without what a later subject covers. boxes_xyxy (N, 4)
    in 0..1: tight box of the whole subject as pasted. flipped (N,) bool: pasted mirrored.
    """

    image: np.ndarray
    masks: np.ndarray
    boxes_xyxy: np.ndarray
    flipped: np.ndarray
    caption: str


def with_article(label: str) -> str:
    """Label -> noun phrase.

    >>> with_article("apple"), with_article("scissors"), with_article("glass")
    ('an apple', 'scissors', 'a glass')
    """
    plural = label.endswith("s") and not label.endswith(("ss", "us", "is", "os"))
    if label in NO_ARTICLE or plural:
        return label
    vowel = label.startswith(SPOKEN_AS_VOWEL) and not label.startswith(SPOKEN_AS_CONSONANT)
    return f"{'an' if vowel else 'a'} {label}"


def join_labels(labels: list[str]) -> str:
    """Labels -> enumeration.

    >>> join_labels(["truck", "cactus", "owl"])
    'a truck, a cactus and an owl'
    """
    phrases = [with_article(label) for label in labels]
    if len(phrases) == 1:
        return phrases[0]
    return ", ".join(phrases[:-1]) + " and " + phrases[-1]


def write_caption(labels: list[str], scene_caption: str, rng: np.random.Generator) -> str:
    """Caption of subjects in a scene; names what they are, never how they look."""
    template = TEMPLATES[rng.integers(len(TEMPLATES))]
    return template.format(subjects=join_labels(labels), scene=scene_caption)


def box_iou(first: tuple[int, int, int, int], second: tuple[int, int, int, int]) -> float:
    """Intersection over union of two pixel boxes x1 y1 x2 y2."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    inside = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return inside / (sum(areas) - inside)


def place_boxes(
    sizes: list[tuple[int, int]], side: int, rng: np.random.Generator
) -> list[tuple[int, int, int, int]]:
    """Random pixel boxes inside the picture; the tries with the least overlap win.

    Args:
        sizes: (width, height) per subject, in pixels.
        side: pixels of the square picture.
        rng: source of randomness.
    """
    best: list[tuple[int, int, int, int]] = []
    best_overlap = np.inf
    for _ in range(PLACEMENT_TRIES):
        corners = [(rng.integers(side - w + 1), rng.integers(side - h + 1)) for w, h in sizes]
        boxes = [
            (int(x), int(y), int(x) + w, int(y) + h)
            for (x, y), (w, h) in zip(corners, sizes, strict=True)
        ]
        overlap = max((box_iou(a, b) for i, a in enumerate(boxes) for b in boxes[:i]), default=0.0)
        if overlap < best_overlap:
            best, best_overlap = boxes, overlap
        if best_overlap < MAX_IOU:
            break
    return best


def draw_sizes(cutouts: list[Cutout], side: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Random (width, height) in pixels per subject, with the aspect of its content."""
    low, high = SIZE_RANGES[len(cutouts)]
    sizes = []
    for cutout in cutouts:
        scale = rng.uniform(low, high) * side / max(cutout.width, cutout.height)
        sizes.append((max(2, round(cutout.width * scale)), max(2, round(cutout.height * scale))))
    return sizes


def jitter_light(rgba: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Changes brightness and contrast of the colours of (h, w, 4) uint8 by up to 10 percent."""
    contrast, brightness = rng.uniform(0.9, 1.1, 2)
    table = ((np.arange(256) - 128) * contrast + 128) * brightness
    changed = table.clip(0, 255).astype(np.uint8)[rgba[..., :3]]
    return np.dstack([changed, rgba[..., 3]])


def cast_shadow(canvas: np.ndarray, box: tuple[int, int, int, int], strength: float) -> None:
    """Darkens `canvas` (H, W, 3 float) by a soft ellipse below a box, in place."""
    side = canvas.shape[0]
    x1, _, x2, y2 = box
    radius_x, radius_y = (x2 - x1) * 0.55, max((x2 - x1) * 0.12, 2.0)
    top, bottom = max(int(y2 - 2 * radius_y), 0), min(int(y2 + 2 * radius_y) + 1, side)
    y = (np.arange(top, bottom) - (y2 - 0.5)) / radius_y
    x = (np.arange(side) - (x1 + x2) / 2) / radius_x
    falloff = np.exp(-1.5 * (x[None] ** 2 + y[:, None] ** 2))
    canvas[top:bottom] *= 1 - strength * falloff[..., None]


def compose(
    cutouts: list[Cutout],
    background: np.ndarray,
    scene_caption: str,
    rng: np.random.Generator,
    *,
    boxes_px: list[tuple[int, int, int, int]] | None = None,
    flipped: list[bool] | None = None,
    shadow: bool | None = None,
) -> Composite:
    """Pastes 1 to 4 subjects into a picture, later ones in front.

    Args:
        cutouts: subjects with different labels.
        background: (H, W, 3) uint8, square.
        scene_caption: where they are, e.g. "in a forest".
        rng: source of all randomness.
        boxes_px: pixel boxes x1 y1 x2 y2 instead of random ones.
        flipped: which subjects to mirror, instead of at random.
        shadow: whether to draw soft shadows, instead of at random.
    """
    side = background.shape[0]
    if boxes_px is None:
        boxes_px = place_boxes(draw_sizes(cutouts, side, rng), side, rng)
    mirrored = rng.random(len(cutouts)) < 0.5 if flipped is None else np.array(flipped, bool)
    shadow = rng.random() < SHADOW_SHARE if shadow is None else shadow
    canvas = background.astype(np.float32)
    masks = np.zeros((len(cutouts), side, side), bool)
    for index, (cutout, box) in enumerate(zip(cutouts, boxes_px, strict=True)):
        x1, y1, x2, y2 = box
        content = cutout.content()[:, ::-1] if mirrored[index] else cutout.content()
        pasted = jitter_light(resize_rgba(np.ascontiguousarray(content), (x2 - x1, y2 - y1)), rng)
        if shadow:
            cast_shadow(canvas, box, float(rng.uniform(0.2, 0.5)))
        alpha = pasted[..., 3:].astype(np.float32) / 255
        region = canvas[y1:y2, x1:x2]
        region += alpha * (pasted[..., :3] - region)
        solid = pasted[..., 3] >= MASK_ALPHA
        masks[:index, y1:y2, x1:x2] &= ~solid
        masks[index, y1:y2, x1:x2] = solid
    return Composite(
        image=(canvas + 0.5).clip(0, 255).astype(np.uint8),
        masks=masks,
        boxes_xyxy=np.array(boxes_px, np.float64) / side,
        flipped=mirrored,
        caption=write_caption([cutout.label for cutout in cutouts], scene_caption, rng),
    )


def plain_background(rng: np.random.Generator, side: int = SIDE) -> np.ndarray:
    """A plain colour or a vertical gradient, (side, side, 3) uint8."""
    top = rng.uniform(70, 255, 3)
    bottom = top if rng.random() < 0.5 else rng.uniform(70, 255, 3)
    ramp = np.linspace(0, 1, side)[:, None, None]
    column = top * (1 - ramp) + bottom * ramp
    return np.broadcast_to(column, (side, side, 3)).astype(np.uint8)
