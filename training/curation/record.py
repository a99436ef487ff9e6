"""What is known of one picture on its way to a shard: a record, which every stage adds to.

A record says where its picture lies and never holds the pixels, so that a million of them pass
through a process. It is plain JSON between stages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class PictureSource:
    """Where the bytes of a picture are.

    Attributes:
        path: a file; or the .tar file that holds the picture.
        member: the picture's name inside that .tar file; "" = ``path`` is the picture.
    """

    path: str
    member: str = ""


@dataclass(frozen=True, kw_only=True)
class RunLengths:
    """A mask as COCO's compressed run lengths, so that masks may overlap.

    Attributes:
        height, width: of the picture as it is shown (turned as its camera says).
        counts: COCO's compressed text (``pycocotools.mask``).
    """

    height: int
    width: int
    counts: str


@dataclass(frozen=True, kw_only=True)
class Noun:
    """A noun of the caption that may name a subject; ``span`` is its first character and the one
    after its last, ``lemma`` its dictionary form."""

    label: str
    span: tuple[int, int]
    lemma: str = ""


NO_BOX = (0.0, 0.0, 0.0, 0.0)
ALPHA = "alpha"


@dataclass(frozen=True, kw_only=True)
class FoundEntity:
    """A subject that was found in a picture, or that came with it.

    Attributes:
        label: what it is, in words of the caption where it has one.
        span: place of the label in the caption, (first, after last) character; None = not in it.
        box_xyxy: x1 y1 x2 y2 in 0..1 of the picture as it is shown; NO_BOX = the mask's, which the
            check puts in.
        score: the detector's, 0..1; 1 for boxes that came with the picture.
        mask: None until it is known.
        is_group, is_body_part: what OpenImages says of it (rule 7).
        identity: the same text = the same thing in another picture; "" = unknown.
        mask_source: where the check reads the mask: a picture, white = subject, or ALPHA = the
            picture's own alpha channel; "" = nowhere.
    """

    label: str
    box_xyxy: tuple[float, float, float, float]
    span: tuple[int, int] | None = None
    score: float = 1.0
    mask: RunLengths | None = None
    is_group: bool = False
    is_body_part: bool = False
    identity: str = ""
    mask_source: str = ""

    def to_fields(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return {**vars(self), "mask": None if self.mask is None else dict(vars(self.mask))}


@dataclass(frozen=True, kw_only=True)
class Record:
    """One picture. None = not known yet; a stage that finds its field filled leaves it alone.

    Attributes:
        key: names the sample in shards and lists; the same at every run, unique in a source.
        picture: where its bytes are.
        provenance: any texts: dataset, address, id; ``licence`` as its makers state it.
        content_hash: SHA-256 of the picture's bytes.
        perceptual_hash: 64 bits as 16 hex digits; near-duplicates differ in few of them.
        width, height: pixels of the picture as it is shown.
        caption, nouns: the text, and what in it may name a subject.
        entities: subjects with boxes; masks come later. () = looked for, none found.
        annotated_as_stored: the boxes and masks lie on the stored pixels, before the camera's EXIF
            orientation; the check turns them.
        captioned: the caption stage wrote the caption, so number words may be put into it.
        adjustments: what was done to the pixels to show them ("turned from orientation 6").
    """

    key: str
    picture: PictureSource
    provenance: Mapping[str, str] = field(default_factory=dict)
    licence: str = ""
    content_hash: str | None = None
    perceptual_hash: str | None = None
    width: int | None = None
    height: int | None = None
    caption: str | None = None
    nouns: tuple[Noun, ...] | None = None
    entities: tuple[FoundEntity, ...] | None = None
    annotated_as_stored: bool = False
    adjustments: tuple[str, ...] = ()
    captioned: bool = False

    def to_json(self) -> str:
        """One line of JSON, the same for equal records."""
        return json.dumps(self.to_fields(), sort_keys=True, ensure_ascii=False)

    def to_fields(self) -> dict[str, Any]:
        """The fields as JSON has them (``asdict`` would copy every number, ten times slower)."""
        return {
            **vars(self),
            "picture": dict(vars(self.picture)),
            "provenance": dict(self.provenance),
            "nouns": None if self.nouns is None else [dict(vars(noun)) for noun in self.nouns],
            "entities": None if self.entities is None else [e.to_fields() for e in self.entities],
        }

    @classmethod
    def from_json(cls, line: str) -> Record:
        """The record that :meth:`to_json` wrote."""
        return cls.from_fields(json.loads(line))

    @classmethod
    def from_fields(cls, plain: Mapping[str, Any]) -> Record:
        """The record of its fields as JSON has them."""
        fields = dict(plain)
        fields["picture"] = PictureSource(**fields["picture"])
        if fields.get("nouns") is not None:
            fields["nouns"] = tuple(Noun(**_spanned(noun)) for noun in fields["nouns"])
        if fields.get("entities") is not None:
            fields["entities"] = tuple(_entity(entity) for entity in fields["entities"])
        fields["adjustments"] = tuple(fields.get("adjustments", ()))
        return cls(**fields)


def _spanned(fields: dict[str, Any]) -> dict[str, Any]:
    span = fields.get("span")
    return {**fields, "span": None if span is None else tuple(span)}


def _entity(fields: dict[str, Any]) -> FoundEntity:
    mask = fields.get("mask")
    return FoundEntity(
        **{
            **_spanned(fields),
            "box_xyxy": tuple(fields["box_xyxy"]),
            "mask": None if mask is None else RunLengths(**mask),
        }
    )


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A picture that could not be used, and why: one reason of a fixed list, and its detail."""

    key: str
    picture: PictureSource
    reason: str
    detail: str = ""


def label_span(label: str, caption: str | None) -> tuple[int, int] | None:
    """Where a caption names a label, (first, after last) character; also as the start of a plural.

    >>> label_span("dog", "Two dogs and a hot dog")
    (19, 22)
    >>> label_span("dog", "Two dogs")
    (4, 7)
    """
    if not caption or not label:
        return None
    for ending in (r"(?!\w)", r"(?=e?s(?!\w))"):
        found = re.search(rf"(?<!\w){re.escape(label)}{ending}", caption, re.IGNORECASE)
        if found is not None:
            return found.span()
    return None
