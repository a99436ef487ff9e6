"""What a dataset's shards hold, counted: the paper's figure 6 and more."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...dataset.bad_sample import BadSample
from ...dataset.catalogue import Catalogue, open_catalogue
from ...dataset.layout import decode_metadata
from ..shards import SIDES
from ..tally import REPORT

AREA_STEP = 0.05  # of the picture: the width of a column of box areas
AREA_COLUMNS = 20


@dataclass(kw_only=True)
class Statistics:
    """Counts of samples by what they are.

    Attributes:
        samples: by side; "shards" where the folder has no sides. subjects: in all.
        unreadable: samples whose metadata cannot be read, by reason.
        caption_words: words of a caption. boxes: subjects of a picture.
        labels: of subjects, in small letters. in_caption: subjects whose label the caption has.
        small_sides: pixels of a picture's smaller side, rounded down to 128.
        areas: a box's share of its picture, by columns of AREA_STEP, counted from 0.
        licences: as they are stated; "" = none.
    """

    samples: Counter[str] = field(default_factory=Counter)
    subjects: int = 0
    unreadable: Counter[str] = field(default_factory=Counter)
    caption_words: Counter[int] = field(default_factory=Counter)
    boxes: Counter[int] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    in_caption: int = 0
    small_sides: Counter[int] = field(default_factory=Counter)
    areas: Counter[int] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)

    def add(self, side: str, metadata: Mapping[str, Any]) -> None:
        """Count a sample by its metadata (KEY.json)."""
        caption, entities = metadata["caption"], metadata["entities"]
        self.samples[side] += 1
        self.subjects += len(entities)
        self.caption_words[len(caption.split())] += 1
        self.boxes[len(entities)] += 1
        self.licences[str(metadata.get("licence", ""))] += 1
        width, height = metadata.get("width"), metadata.get("height")
        if isinstance(width, int) and isinstance(height, int):
            self.small_sides[min(width, height) // 128 * 128] += 1
        for entity in entities:
            label = str(entity.get("label", "")).lower()
            self.labels[label] += 1
            self.in_caption += label in caption.lower()
            x1, y1, x2, y2 = entity["box"]
            column = int((x2 - x1) * (y2 - y1) / AREA_STEP + 1e-9)
            self.areas[min(column, AREA_COLUMNS - 1)] += 1

    def lines(self, most: int = 15) -> list[str]:
        """To read in a terminal."""
        total = sum(self.samples.values())
        if total == 0:
            return ["0 samples"]
        by_side = ", ".join(f"{side} {count}" for side, count in self.samples.items())
        wrong = [f"unreadable: {count} x {reason}" for reason, count in self.unreadable.items()]
        labels = ", ".join(f"{label} {count}" for label, count in self.labels.most_common(most))
        licences = ", ".join(f"{name or 'none stated'} {n}" for name, n in self.licences.items())
        return [
            f"{total} samples ({by_side}) with {self.subjects} subjects",
            *wrong,
            f"subjects in a picture: {spread(self.boxes)}",
            f"words of a caption: {spread(self.caption_words)}",
            f"smaller side, pixels: {spread(self.small_sides)}" if self.small_sides else
            "smaller side: not stated",
            f"labels: {len(self.labels)} different, {self.in_caption} of {self.subjects} subjects "
            "have theirs in the caption",
            f"most frequent: {labels}",
            f"licences: {licences}",
        ]  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """All counts, most frequent first."""
        return {
            name: dict(value.most_common()) if isinstance(value, Counter) else value
            for name, value in vars(self).items()
        }


def spread(counts: Counter[int]) -> str:
    """Median and range of counted numbers.

    >>> spread(Counter({1: 3, 2: 1, 9: 1}))
    'median 1, 1 to 9'
    """
    half, so_far = sum(counts.values()) / 2, 0
    for value in sorted(counts):
        so_far += counts[value]
        if so_far >= half:
            return f"median {value}, {min(counts)} to {max(counts)}"
    raise AssertionError("no counts")


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A folder of a build, or of shards.

    Attributes:
        sides: name -> its shards; one side "shards" where the folder itself has them.
        report: of the build (tally.py); None without one.
    """

    sides: Mapping[str, Catalogue]
    report: Mapping[str, Any] | None


def open_dataset(data: Path, indices: Path) -> Dataset:
    """The dataset of a folder; ``indices``: a folder for what finding its samples leaves behind."""
    sides = {side: data / side for side in SIDES if any((data / side).glob("*.tar"))}
    report = data / "work" / REPORT
    found = None
    if report.is_file():
        found = json.loads(report.read_text(encoding="utf-8"))
        if not sides:  # a build that kept nothing has only its report to look at
            return Dataset(sides={}, report=found)
    places = sides or {"shards": data}
    catalogues = {name: open_catalogue(place, indices / name) for name, place in places.items()}
    return Dataset(sides=catalogues, report=found)


def count(dataset: Dataset) -> Statistics:
    """The statistics of all samples."""
    found = Statistics()
    for side, catalogue in dataset.sides.items():
        for shard, row in rows(catalogue):
            _, members = catalogue.read(shard, row)
            try:
                metadata = decode_metadata(members)
                found.add(side, metadata)
            except BadSample as error:
                found.unreadable[str(error)] += 1
            except (KeyError, TypeError, ValueError, AttributeError):
                found.unreadable["metadata incomplete"] += 1
    return found


def rows(catalogue: Catalogue) -> Iterable[tuple[int, int]]:
    """(shard, row) of every sample."""
    return ((s, row) for s, number in enumerate(catalogue.counts) for row in range(number))
