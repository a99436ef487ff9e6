"""The stages in their order: check, resolution, caption, nouns, boxes, filters, masks, rule 6."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict

from .check import check
from .filters import Decision, Thresholds, filter_entities, filter_masks, filter_resolution
from .record import Record
from .settings import CurationSettings
from .stages import Fields, Outcome, Stage, Work

Filter = Callable[[Record, Thresholds], Decision]
# What each filter goes by: a change of another threshold leaves its results alone.
FILTERS: dict[str, tuple[Filter, tuple[str, ...], tuple[str, ...]]] = {
    "resolution": (filter_resolution, ("width", "height"), ("min_side",)),
    "filters": (
        filter_entities,
        ("entities", "width", "height"),
        ("min_aspect", "max_aspect", "min_area", "max_area", "max_iou", "max_per_label",
         "min_score"),
    ),
    "mask filter": (filter_masks, ("entities",), ("min_mask_share",)),
}  # fmt: skip


def stages_of(settings: CurationSettings) -> tuple[Stage, ...]:
    """All stages; each passes by what came along with a picture."""
    return (
        _check(),
        _filter("resolution", settings.thresholds),
        _filter("filters", settings.thresholds),
        _filter("mask filter", settings.thresholds),
    )


def always(fields: Fields) -> bool:
    """For stages that every picture goes through."""
    return True


def each(function: Callable[[Record], Outcome]) -> Work:
    """A function of one record as the work of a stage."""

    def work(records: Sequence[Record]) -> Sequence[Outcome]:
        return [function(record) for record in records]

    return work


def _check() -> Stage:
    return Stage(
        name="check",
        mark="1",
        reads=("picture", "entities", "annotated_as_stored"),
        writes=(
            "content_hash", "perceptual_hash", "width", "height", "adjustments", "entities",
            "annotated_as_stored",
        ),
        applies=always,
        load=lambda: each(check),
        reads_files=True,
    )  # fmt: skip


def _filter(name: str, thresholds: Thresholds) -> Stage:
    function, reads, limits = FILTERS[name]
    values = asdict(thresholds)
    return Stage(
        name=name,
        mark=json.dumps(["1", {limit: values[limit] for limit in limits}]),
        reads=reads,
        writes=() if name == "resolution" else ("entities",),
        applies=always,
        load=lambda: each(lambda record: function(record, thresholds)),
    )
