"""The report: one HTML file with everything in it, pictures included, for any browser."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from ...dataset.bad_sample import BadSample
from ...dataset.layout import TrainingSample, decode_sample
from ..pictures import REASONS, BadPicture, load
from ..record import PictureSource, RunLengths
from ..record_masks import pixels_of
from .charts import cloud, columns, numbers
from .drawing import Marked, draw
from .statistics import AREA_COLUMNS, AREA_STEP, Dataset, Statistics, rows

WORDS = 80  # labels in the cloud
RULES = {
    "resolution": "the picture's smaller side is too small",
    "group": "rule 7: a group of things",
    "body_part": "rule 7: a part of a body",
    "score": "rule 5: the detector's score is low",
    "aspect": "rule 1: the box is too wide or too high",
    "area": "rule 2: a box is too small or too large (drops the picture)",
    "per_label": "rule 4: too many boxes of one label",
    "iou": "rule 3: the box overlaps a better one",
    "mask_share": "rule 6: a mask fills too little of its box (drops the picture)",
    "no_subjects": "no subject is left (drops the picture)",
}
STYLE = """
:root { color-scheme: light dark; --bar: #4a7ebb; --line: #8886 }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1240px; padding: 0 1em }
h1 { font-size: 1.5em }
h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid var(--line) }
table { border-collapse: collapse }
td, th { padding: .15em .8em .15em 0; text-align: left; vertical-align: top }
td { overflow-wrap: anywhere }
td.n { text-align: right; font-variant-numeric: tabular-nums }
.charts, .grid { display: flex; flex-wrap: wrap; gap: 1em; align-items: flex-start }
.charts figure { flex: 1 1 380px; margin: 0 }
.grid figure { margin: 0; width: 190px }
.grid img { width: 100%; height: auto; display: block }
figcaption { font-size: .85em; overflow-wrap: anywhere }
svg { width: 100%; height: auto }
svg rect { fill: var(--bar) }
svg text { font: 10px sans-serif; text-anchor: middle; fill: currentColor }
.cloud { line-height: 1.3; text-align: center }
.none { opacity: .6 }
"""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A picture of the page (JPEG; None = it could not be read) and the lines below it."""

    jpeg: bytes | None
    lines: Sequence[str]


def build_page(dataset: Dataset, found: Statistics, title: str, count: int, seed: int) -> str:
    """The page of a dataset; ``count`` samples are drawn by chance, the same for one seed."""
    report = dataset.report
    parts = [f"<h1>{escape(title)}</h1>", _lines(found.lines())]
    if report is not None:
        parts += [_section("What became of the pictures", _fates(report))]
    if found.samples:
        parts += [
            _section("The paper's figure 6, of these samples", _figure_6(found)),
            _section("Sizes", _sizes(found)),
            _section(f"{count} samples by chance", _grid(_samples(dataset, count, seed))),
        ]
    if report is not None:
        parts += [_section("What each filter threw away", _thrown_away(report["rules"]))]
        parts += [_section("What could not be used", _reasons(report["reasons"]))]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!DOCTYPE html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'


def _section(heading: str, content: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>{content}</section>"


def _lines(lines: Iterable[str]) -> str:
    return "<p>" + "<br>".join(escape(line) for line in lines) + "</p>"


def _table(headings: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """A table whose numbers stand to the right."""

    def cell(value: object, tag: str) -> str:
        number = ' class="n"' if isinstance(value, int | float) else ""
        return f"<{tag}{number}>{escape(str(value))}</{tag}>"

    body = "".join(f"<tr>{''.join(cell(v, 'td') for v in line)}</tr>" for line in lines)
    return f"<table><tr>{''.join(cell(h, 'th') for h in headings)}</tr>{body}</table>"


def _fates(report: Mapping[str, Any]) -> str:
    pictures = [(kind, number) for kind, number in report["pictures"].items()]
    rules = [
        (RULES[rule], report["rules"][rule]["pictures"], report["rules"][rule]["subjects"])
        for rule in RULES
        if rule in report["rules"]
    ]
    told = sorted(report["adjustments"].items(), key=lambda each: -each[1])
    mended = _table(("mended", "pictures"), told) if told else ""
    return (
        '<div class="charts">'
        + _table(("pictures", "number"), pictures)
        + _table(("filter", "pictures dropped", "subjects outside"), rules)
        + mended
        + "</div>"
    )


def _figure_6(found: Statistics) -> str:
    words = columns(numbers(found.caption_words, 24), "Words of a caption", "words")
    boxes = columns(numbers(found.boxes, 10), "Subjects in a picture", "boxes")
    labels = cloud(found.labels.most_common(WORDS))
    return f'<div class="charts">{words}{boxes}</div>{labels}'


def _sizes(found: Statistics) -> str:
    bars = [(f"{int(step * AREA_STEP * 100)}%", found.areas[step])
            for step in range(AREA_COLUMNS)]  # fmt: skip
    charts = columns(bars, "A box's share of its picture", "from ... of the picture")
    if found.small_sides:
        last = max(found.small_sides) // 128
        sides = [(str(n * 128), found.small_sides[n * 128]) for n in range(last + 1)]
        charts += columns(sides, "The picture's smaller side", "from ... pixels")
    return f'<div class="charts">{charts}</div>'


def _grid(shown: Iterable[Shown]) -> str:
    figures = []
    for each in shown:
        text = "<br>".join(escape(line) for line in each.lines)
        picture = '<p class="none">the picture cannot be read any more</p>'
        if each.jpeg is not None:
            source = base64.b64encode(each.jpeg).decode("ascii")
            picture = f'<img alt="" src="data:image/jpeg;base64,{source}">'
        figures.append(f"<figure>{picture}<figcaption>{text}</figcaption></figure>")
    return (
        f'<div class="grid">{"".join(figures)}</div>' if figures else '<p class="none">nothing</p>'
    )


def _samples(dataset: Dataset, count: int, seed: int) -> Iterable[Shown]:
    places = [(side, place) for side, each in dataset.sides.items() for place in rows(each)]
    chosen = np.random.default_rng(seed).permutation(len(places))[:count]
    for number in sorted(chosen):
        side, (shard, row) = places[number]
        key, members = dataset.sides[side].read(shard, row)
        try:
            yield _sample(decode_sample(key, members), side)
        except BadSample as error:
            yield Shown(jpeg=None, lines=[key, str(error)])


def _sample(sample: TrainingSample, side: str) -> Shown:
    marked = [Marked(text=e.label, box_xyxy=e.box_xyxy, mask=e.mask) for e in sample.entities]
    jpeg = draw(Image.fromarray(sample.pixels), marked)
    return Shown(jpeg=jpeg, lines=[sample.caption, f"{sample.key} ({side})"])


def _thrown_away(rules: Mapping[str, Any]) -> str:
    parts = []
    for rule, meaning in RULES.items():
        found = rules.get(rule, {"pictures": 0, "subjects": 0, "examples": []})
        number = found["subjects"] or found["pictures"]
        if number:
            shown = (_example(example) for example in found["examples"])
            parts.append(f"<h3>{escape(meaning)}: {number}</h3>{_grid(shown)}")
    return "".join(parts) or '<p class="none">nothing</p>'


def _example(example: Mapping[str, Any]) -> Shown:
    entity, value = example["entity"], f"{example['value']:.3g}"
    what = value if entity is None else f"{entity['label']}: {value}"
    lines = [what, example["key"]]
    try:
        picture = load(PictureSource(**example["picture"]))
    except BadPicture:
        return Shown(jpeg=None, lines=lines)
    marked = []
    if entity is not None:
        mask = entity.get("mask")
        try:
            pixels = None if mask is None else pixels_of(RunLengths(**mask))
        except BadSample:
            pixels = None
        marked = [Marked(text=what, box_xyxy=entity["box_xyxy"], mask=pixels)]
    return Shown(jpeg=draw(picture, marked), lines=lines)


def _reasons(reasons: Mapping[str, Any]) -> str:
    lines = [
        (reason, found["pictures"], REASONS.get(reason, ""), _place(example), example["detail"])
        for reason, found in reasons.items()
        for example in found["examples"][:1]
    ]
    if not lines:
        return '<p class="none">nothing</p>'
    return _table(("reason", "pictures", "which means", "for example", "detail"), lines)


def _place(example: Mapping[str, Any]) -> str:
    picture = example["picture"]
    return ": ".join(part for part in (picture["path"], picture.get("member", "")) if part)
