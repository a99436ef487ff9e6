"""The stages in their order: check, resolution, caption, nouns, boxes, filters, masks, rule 6."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from .check import check
from .filters import Decision, Thresholds, filter_entities, filter_masks, filter_resolution
from .models import model_mark
from .record import Record
from .settings import CurationSettings, ModelSettings
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
        _caption(settings),
        _nouns(settings),
        _boxes(settings),
        _filter("filters", settings.thresholds),
        _numbers(settings),
        _masks(settings),
        _filter("mask filter", settings.thresholds),
    )


def always(fields: Fields) -> bool:
    """For stages that every picture goes through."""
    return True


def _caption(settings: CurationSettings) -> Stage:
    def load() -> Work:
        from .captions import Captioner

        return Captioner(settings)

    own = settings.caption
    return Stage(
        name="caption",
        mark=json.dumps(
            ["1", model_mark(own.model, own.dtype), settings.prompt, settings.max_caption]
        ),
        reads=("content_hash",),
        writes=("caption", "captioned"),
        applies=lambda fields: fields["caption"] is None,
        load=load,
        **resources(own),
    )


def _nouns(settings: CurationSettings) -> Stage:
    def load() -> Work:
        from .nouns import NounFinder

        return NounFinder(settings)

    return Stage(
        name="nouns",
        mark=json.dumps(["1", model_mark(settings.nouns.model)]),
        reads=("caption",),
        writes=("nouns",),
        applies=lambda fields: fields["entities"] is None and fields["nouns"] is None,
        load=load,
        batch_size=settings.nouns.batch_size,
    )


def _boxes(settings: CurationSettings) -> Stage:
    def load() -> Work:
        from .boxes import Detector

        return Detector(settings)

    return Stage(
        name="boxes",
        mark=json.dumps(
            ["1", model_mark(settings.boxes.model, settings.boxes.dtype), settings.box_floor]
        ),
        reads=("content_hash", "nouns"),
        writes=("entities",),
        applies=lambda fields: fields["entities"] is None,
        load=load,
        **resources(settings.boxes),
    )


def _numbers(settings: CurationSettings) -> Stage:
    def load() -> Work:
        from .nouns import NumberWriter

        return NumberWriter(settings)

    return Stage(
        name="numbers",
        mark=json.dumps(["1", model_mark(settings.nouns.model)]),
        reads=("caption", "nouns", "entities"),
        writes=("caption", "nouns", "entities"),
        applies=lambda fields: bool(fields["captioned"]),
        load=load,
        batch_size=settings.nouns.batch_size,
    )


def _masks(settings: CurationSettings) -> Stage:
    def load() -> Work:
        from .masks import Segmenter

        return Segmenter(settings)

    return Stage(
        name="masks",
        mark=json.dumps(["1", model_mark(settings.masks.model, settings.masks.dtype)]),
        reads=("content_hash", "entities"),
        writes=("entities",),
        applies=lambda fields: any(entity["mask"] is None for entity in fields["entities"]),
        load=load,
        **resources(settings.masks),
    )


def resources(own: ModelSettings) -> dict[str, Any]:
    """What a network's stage takes of the machine, by its settings."""
    return {
        "batch_size": own.batch_size,
        "has_model": bool(own.model),
        "processes": own.processes,
        "gpus": own.gpus,
    }


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
