"""A text as its fixed parts and the gaps between them, and what was found of such texts."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .source_index import Place

WORDS = ("nothing", "none")  # that stand for a text on their own


@dataclass(frozen=True)
class Gap:
    """Where something is put in: an expression; "" where more may come than what is found."""

    source: str


OPEN = Gap("")
Form = tuple[str | Gap, ...]
Read = Callable[[ast.expr, Place], list[Form]]


@dataclass
class Sentences:
    """What was found: templates, each with one place where it is, and what is not known."""

    sentences: dict[str, str] = field(default_factory=dict)
    phrases: dict[str, str] = field(default_factory=dict)
    unresolved: dict[str, str] = field(default_factory=dict)  # "path: expression" -> place

    def note_phrases(self, forms: Iterable[Form], where: str) -> None:
        """What may stand in a gap."""
        for form in forms:
            if not is_bare(form) and has_words(template(form)):
                self.phrases.setdefault(template(form), where)


def has_words(text: str) -> bool:
    """Whether there is something to translate; a small word alone is an input's name or a choice.

    >>> [has_words(text) for text in ("no mask", "{0}'s {1}", "mask_kind", ", ", "{0} x {1}")]
    [True, True, False, False, False]
    """
    if text != text.strip():
        return False  # no text on its own
    is_word = re.fullmatch(r"[A-Z][a-z]{3,}", text) and text not in ("None", "True", "False")
    return (
        text in WORDS
        or bool(is_word)
        or "'s " in text
        or re.search(r"[A-Za-z]{2,}.*\s|\s.*[A-Za-z]{2,}", text) is not None
    )


def template(form: Form) -> str:
    """A form as the catalogue's key.

    >>> template(("a ", Gap("x"), " of ", Gap("y")))
    'a {0} of {1}'
    """
    numbers = itertools.count()
    return "".join(part if isinstance(part, str) else f"{{{next(numbers)}}}" for part in form)


def is_bare(form: Form) -> bool:
    """Whether nothing of it is known."""
    return len(form) == 1 and isinstance(form[0], Gap)


def merged(form: Iterable[str | Gap]) -> Form:
    """Texts beside each other as one, and gaps."""
    parts: list[str | Gap] = []
    for part in form:
        last = parts[-1] if parts else None
        if isinstance(part, str) and isinstance(last, str):
            parts[-1] = last + part
        elif isinstance(part, Gap) and isinstance(last, Gap):
            parts[-1] = Gap(f"{last.source} {part.source}")
        elif part != "":
            parts.append(part)
    return tuple(parts)
