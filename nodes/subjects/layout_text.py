"""The layout as text: JSON that the editor in the browser writes and that people write by hand."""

from __future__ import annotations

import ast
import contextlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeGuard

from ...subject_diffusion_core.errors import reason_of
from ...subject_diffusion_core.schema import printed, require_text
from .boxes import NOTHING, Box, parse_box
from .layout_constants import CONSTANTS
from .subject import Subjects, subject_name

VERSION = CONSTANTS.layout_version
EXAMPLE = '{"version": 1, "subjects": [{"box": [0.1, 0.3, 0.5, 0.9]}]}'
MAX_STRENGTH = CONSTANTS.largest_strength


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a layout says about one subject; the defaults say nothing.

    Attributes:
        box: takes the place of the subject's own box; None keeps it.
        strength: factor on the subject's own strength, 0..2.
        start, end: part of the sampling, 0..1, in which the subject takes part, within its own.
    """

    box: Box | None = None
    strength: float = CONSTANTS.default_strength
    start: float = CONSTANTS.default_start
    end: float = CONSTANTS.default_end


def parse_layout(text: object) -> tuple[Place, ...]:
    """One place per subject, in order; an empty text or None says nothing about any.

    Args:
        text: JSON; also as an object, and in Python's way of writing one, into which ComfyUI turns
            an object that comes through its API.

    >>> parse_layout('{"version": 1, "subjects": [null, {"strength": 0.5}]}')[1].strength
    0.5
    """
    document = _document(text)
    if document is None:
        return ()
    if not isinstance(document, Mapping) or not isinstance(document.get("subjects"), list):
        raise ValueError(
            f"layout: expected JSON such as {EXAMPLE}, got {_short(document)}. Write an object "
            "with a list `subjects`, or clear `layout`."
        )
    _refuse_other_keys("layout", document, ("version", "subjects"))
    version = document.get("version", VERSION)
    if version != VERSION or isinstance(version, bool):
        raise ValueError(
            f"layout: expected version {VERSION}, got {_short(version)}. Write "
            f'"version": {VERSION}, or update the pack if the layout comes from a newer one.'
        )
    return tuple(_place(entry, index) for index, entry in enumerate(document["subjects"]))


def _document(text: object) -> object:
    """The object that a layout is, None for none."""
    if not isinstance(text, str):
        return text
    require_text("layout", text)
    if text.strip() in NOTHING:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = reason_of(error)
    with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
        return ast.literal_eval(text.strip())
    raise ValueError(
        f"layout: expected JSON such as {EXAMPLE}, got text that does not parse ({reason}). "
        "Correct it, or clear `layout`."
    )


def apply_layout(subjects: Subjects, places: tuple[Place, ...]) -> Subjects:
    """The subjects with the boxes, strengths and ranges of the layout."""
    if len(places) > len(subjects):
        logging.warning(
            "layout: expected at most %d entries, one per subject, got %d. The last ones have no "
            "effect; remove them from `layout`.",
            len(subjects),
            len(places),
        )
    said = (*places, *[Place()] * (len(subjects) - len(places)))
    return tuple(
        replace(
            subject,
            box=subject.box if place.box is None else place.box,
            region=subject.region if place.box is None else None,
            strength=subject.strength * place.strength,
            start_percent=max(subject.start_percent, place.start),
            end_percent=min(subject.end_percent, place.end),
        )
        for subject, place in zip(subjects, said, strict=False)
    )


def _place(entry: object, index: int) -> Place:
    owner = f"layout, {subject_name(index)}"
    if entry is None:
        return Place()
    if not isinstance(entry, Mapping):
        raise ValueError(
            f'{owner}: expected an object such as {{"box": [0.1, 0.3, 0.5, 0.9]}} or null, got '
            f"{_short(entry)}. Write one entry per subject, in their order."
        )
    _refuse_other_keys(owner, entry, ("box", "strength", "start", "end"))
    return Place(
        box=_box(entry.get("box"), owner),
        strength=_number(entry, "strength", CONSTANTS.default_strength, MAX_STRENGTH, owner),
        start=_number(entry, "start", CONSTANTS.default_start, 1.0, owner),
        end=_number(entry, "end", CONSTANTS.default_end, 1.0, owner),
    )


def _box(value: object, owner: str) -> Box | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 4 or not all(map(_is_number, value)):
        raise ValueError(
            f"{owner}'s box: expected [x1, y1, x2, y2] in 0..1 (left, top, right, bottom), got "
            f"{_short(value)}. Write four numbers, or null for none."
        )
    return parse_box(value, owner)


def _number(
    entry: Mapping[str, object], key: str, default: float, largest: float, owner: str
) -> float:
    value = entry.get(key, default)
    if not _is_number(value) or not 0.0 <= value <= largest:
        raise ValueError(
            f"{owner}: expected `{key}` in 0..{largest:g}, got {_short(value)}. Correct it, or "
            f"leave it out for {default:g}."
        )
    return float(value)


def _is_number(value: object) -> TypeGuard[float]:
    """NaN, infinity and what is too large for any picture are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6


def _refuse_other_keys(owner: str, entry: Mapping[str, object], known: tuple[str, ...]) -> None:
    others = [key for key in entry if key not in known]
    if others:
        raise ValueError(
            f"{owner}: expected only {', '.join(known)}, got {printed(others[0])}. Correct its "
            "name or remove it."
        )


def _short(value: object) -> str:
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):  # of a script, or too long a number
        text = printed(value)
    return text if len(text) <= 60 else text[:57] + "..."
