"""What the tests of the converters share."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from annotated_scenes import Scene

from training.curation.check import check
from training.curation.convert.conversion import Skipped
from training.curation.record import Quarantined, Record
from training.curation.record_masks import pixels_of


def sorted_out(converted: Iterable[Record | Skipped]) -> tuple[list[Record], list[Skipped]]:
    found = list(converted)
    records = [each for each in found if isinstance(each, Record)]
    return records, [each for each in found if isinstance(each, Skipped)]


def assert_true(record: Record, scene: Scene) -> None:
    """Boxes, labels and masks are the scene's, and fit the picture."""
    checked = check(record)
    assert not isinstance(checked, Quarantined), checked
    height, width = scene.subjects[0].mask.shape
    assert [e.label for e in checked.entities or ()] == [s.label for s in scene.subjects]
    for entity, subject in zip(checked.entities or (), scene.subjects, strict=True):
        pixels = np.multiply(entity.box_xyxy, (width, height) * 2)
        assert np.allclose(pixels, subject.box, atol=0.01)
        assert entity.mask is not None and np.array_equal(pixels_of(entity.mask), subject.mask)
