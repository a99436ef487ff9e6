# Shapes: H and W the size of a subject's picture.
"""Places for subjects that were given none: taken from their own pictures, or drawn at random."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...subject_diffusion_core.schema import printed
from ...subject_diffusion_core.tiny.layouts import MAX_IOU, SIZE_RANGES
from .boxes import Box, mask_edges
from .subject import Subject, Subjects

MODES = ("given", "reference", "random")
MANY_SUBJECTS = (0.18, 0.30)  # where `SIZE_RANGES` ends
TRIES = 60

Edges = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class OwnPlace:
    """Where a subject is in its own picture, in pixels.

    Attributes:
        size: width and height of the picture.
        edges: left, top, right and bottom edge of the subject.
        masked: whether a mask says so; if not, the subject is all of the picture.
    """

    size: tuple[float, float]
    edges: Edges
    masked: bool


def place_subjects(
    subjects: Subjects, mode: str, place_seed: int, width: int, height: int
) -> Subjects:
    """Give a box to every subject without one; boxes that are there stay.

    Args:
        subjects: boxes, where given, as fractions of the picture.
        mode: "given" adds nothing; "reference" takes the place of the subject in its own picture;
            "random" draws places that overlap as little as possible.
        place_seed: decides the random places; the same seed gives the same places.
        width, height: of the picture to generate, in pixels.
    """
    if mode not in MODES:
        raise ValueError(
            f"mode: expected {', '.join(MODES)}, got {printed(mode)}. Choose one of them."
        )
    if mode == "given":
        return subjects
    own = [_own_place(subject, mode) if subject.box is None else None for subject in subjects]
    given = [subject.box.edges if subject.box is not None else None for subject in subjects]
    taken = [edges for edges in given if edges is not None]
    placed = []
    for subject, edges in zip(
        subjects, find_places(given, own, mode, place_seed, width, height), strict=True
    ):
        if subject.box is None:
            assert edges is not None  # all is known of these subjects
            _warn_about_overlap(subject, edges, taken)
            taken.append(edges)
            x1, y1, x2, y2 = edges
            subject = replace(subject, box=Box(x1=x1, y1=y1, x2=x2, y2=y2))
        placed.append(subject)
    return tuple(placed)


def find_places(
    given: Sequence[Edges | None],
    own: Sequence[OwnPlace | None],
    mode: str,
    place_seed: int,
    width: float,
    height: float,
) -> list[Edges | None]:
    """The boxes of all subjects, in fractions of a width x height picture; see `place_subjects`.

    Args:
        given: boxes that stay.
        own: of each subject, where it is in its own picture; None where that is not known.

    Returns:
        None for a subject whose place cannot be known from this.
    """
    if mode == "given":
        return list(given)
    if mode == "reference":
        return [
            edges or place_in_own_picture(place, width, height)
            for edges, place in zip(given, own, strict=True)
        ]
    generator = random.Random(place_seed)
    taken = [edges for edges in given if edges is not None]
    found: list[Edges | None] = []
    is_known = True
    for edges, place in zip(given, own, strict=True):
        if edges is None:
            is_known = is_known and place is not None  # every place depends on those before it
            if is_known and place is not None:
                size = _random_size(place, len(given), width, height, generator)
                edges = _least_overlapping(size, taken, generator)
                taken.append(edges)
        found.append(edges)
    return found


def place_in_own_picture(own: OwnPlace | None, width: float, height: float) -> Edges | None:
    """Where the subject stands if its picture is fitted, centred, into a width x height one.

    None without a mask.
    """
    if own is None or not own.masked:
        return None
    picture_width, picture_height = own.size
    scale = min(width / picture_width, height / picture_height)
    left = (width - picture_width * scale) / 2
    top = (height - picture_height * scale) / 2
    x1, y1, x2, y2 = own.edges
    horizontal = [(left + x * scale) / width for x in (x1, x2)]
    vertical = [(top + y * scale) / height for y in (y1, y2)]
    return _inside((horizontal[0], vertical[0], horizontal[1], vertical[1]))


def _own_place(subject: Subject, mode: str) -> OwnPlace:
    if mode == "reference" and subject.masks is None:
        raise ValueError(
            f"{subject.name} has no mask: expected one that shows its place in its own picture, as "
            "mode 'reference' takes the box from there. Connect `mask`, or write a box."
        )
    pictures = subject.images if subject.masks is None else subject.masks
    height, width = pictures.shape[1:3]
    masked = subject.masks is not None
    return OwnPlace(size=(width, height), edges=content_edges(subject), masked=masked)


def content_edges(subject: Subject) -> tuple[int, int, int, int]:
    """Bounding box of the subject in its first picture, in pixels; all of it if unmasked."""
    if subject.masks is None:
        height, width = subject.images.shape[1:3]
        return 0, 0, width, height
    edges = mask_edges(subject.masks[0])
    assert edges is not None  # Subject refuses empty masks
    return edges


def overlap(first: Edges, second: Edges) -> float:
    """Intersection over union of two boxes.

    >>> overlap((0.0, 0.0, 1.0, 1.0), (0.5, 0.0, 1.0, 1.0))
    0.5
    """
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    inside = max(width, 0.0) * max(height, 0.0)
    areas = [(edges[2] - edges[0]) * (edges[3] - edges[1]) for edges in (first, second)]
    return inside / (sum(areas) - inside)


def _random_size(
    own: OwnPlace, count: int, width: float, height: float, generator: random.Random
) -> tuple[float, float]:
    """Width and height as fractions of the picture, in the proportions of the subject."""
    x1, y1, x2, y2 = own.edges
    longest = generator.uniform(*SIZE_RANGES.get(count, MANY_SUBJECTS)) * min(width, height)
    scale = longest / max(x2 - x1, y2 - y1)
    return (x2 - x1) * scale / width, (y2 - y1) * scale / height


def _least_overlapping(
    size: tuple[float, float], taken: Sequence[Edges], generator: random.Random
) -> Edges:
    """The best of some random places: the first one that hardly touches the others."""
    candidates = []
    for _ in range(TRIES):
        x1, y1 = (generator.uniform(0.0, 1.0 - side) for side in size)
        edges = _inside((x1, y1, x1 + size[0], y1 + size[1]))
        worst = max((overlap(edges, other) for other in taken), default=0.0)
        if worst < MAX_IOU:
            return edges
        candidates.append((worst, edges))
    return min(candidates)[1]


def _warn_about_overlap(subject: Subject, edges: Edges, taken: Sequence[Edges]) -> None:
    worst = max((overlap(edges, other) for other in taken), default=0.0)
    if worst >= 0.5:
        logging.warning(
            "%s's place overlaps another subject's (IoU %.2f). Write a box for one of them.",
            subject.name,
            worst,
        )


def _inside(edges: Edges) -> Edges:
    """Rounding may leave 0..1 by a hair."""
    x1, y1, x2, y2 = (min(max(edge, 0.0), 1.0) for edge in edges)
    return x1, y1, x2, y2
