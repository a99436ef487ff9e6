"""What a subject, a layout, an encoded-subject file, an adapter file and a saved list may hold.

Nodes, layouts and files go by these limits, before anything is allocated or opened whole.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass

from .errors import shown


@dataclass(frozen=True, kw_only=True)
class NumberRange:
    """Numbers from `low` to `high`, both included; NaN and infinity are never among them.

    >>> PERCENT.holds(0.5), PERCENT.holds(float("nan")), NUM_VIEWS.holds(1.5)
    (True, False, False)
    """

    low: float
    high: float
    is_whole: bool = False

    def holds(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            return False
        try:
            number = float(value)
        except OverflowError:
            return False
        return self.low <= number <= self.high and (not self.is_whole or number.is_integer())

    def require(self, argument: str, value: object, action: str) -> None:
        """One sentence about `argument` unless the range holds the value; `action` says what to
        do, without the final full stop."""
        if self.holds(value):
            return
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{argument}: expected a finite number, got {value}. {action}.")
        kind = "whole number" if self.is_whole else "number"
        raise ValueError(
            f"{argument}: expected a {kind} from {self.low:g} to {self.high:g}, got "
            f"{printed(value)}. {action}."
        )


# a subject; its strength is that of its node times a factor of every layout that it went through
STRENGTH = NumberRange(low=0.0, high=16.0)
PERCENT = NumberRange(low=0.0, high=1.0)
NUM_SUBJECTS = NumberRange(low=1, high=64, is_whole=True)
NUM_VIEWS = NumberRange(low=1, high=64, is_whole=True)
MOST_VIEWS_OF_A_NODE = 8  # of a batch: an animation has hundreds, each encoded and attended
LONGEST_LABEL = 1000  # characters

# texts and pictures
LONGEST_TEXT = 50_000  # characters of any input
DEEPEST_PARENTHESES = 100  # of a prompt: ComfyUI reads each in a call of its own
PICTURE_SIDE = NumberRange(low=1, high=16384, is_whole=True)
THUMBNAIL_SIDE = NumberRange(low=1, high=512, is_whole=True)
COLOUR = NumberRange(low=-0.5, high=4.0)  # sharpened or wide-gamut pictures leave 0..1

# a tuned embedding
NUM_VECTORS = NumberRange(low=1, high=1024, is_whole=True)
NUM_STEP_SETS = NumberRange(low=1, high=1000, is_whole=True)
TIMESTEP = NumberRange(low=0.0, high=1000.0)

# files
MOST_TENSORS = 20_000
LARGEST_HEADER = 16_000_000  # bytes
MODULE_WIDTH = NumberRange(low=1, high=2**16, is_whole=True)
MOST_BLOCKS = 256


def printed(value: object) -> str:
    """A value of any kind in a sentence, cut to a readable length.

    >>> printed("a dog"), printed([1, 2])
    ("'a dog'", '[1, 2]')
    """
    if isinstance(value, str):
        return repr(shown(value))
    if isinstance(value, int) and abs(value) > 10**30:
        return "a number of more than 30 digits"
    if isinstance(value, int | float) or value is None:
        return str(value)
    if not _is_plain(value) or not all(map(_is_plain, _items(value))):
        return type(value).__name__
    try:
        return shown(repr(value))
    except (RecursionError, ValueError):  # nested too deeply, or with a number of too many digits
        return type(value).__name__


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, int | float | str | list | tuple | dict)


def require_parentheses(argument: str, text: str) -> None:
    """One sentence about `argument` if a prompt's parentheses are nested too deeply to be read.

    >>> require_parentheses("prompt", "a (red (small)) dog")
    """
    depth = deepest = 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        deepest = max(deepest, depth)
    if deepest > DEEPEST_PARENTHESES:
        raise ValueError(
            f"{argument}: expected at most {DEEPEST_PARENTHESES} parentheses in one another, got "
            f"{deepest}. Write \\( for one that means nothing."
        )


def _items(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []


def require_text(argument: str, text: str, longest: int = LONGEST_TEXT) -> None:
    """One sentence about `argument` if a text is too long, or holds half a character.

    >>> require_text("label", "a dog")
    """
    if len(text) > longest:
        raise ValueError(
            f"{argument}: expected at most {longest} characters, got {len(text)}. Shorten it."
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{argument}: expected text, got half of a surrogate pair at character "
            f"{error.start + 1}. Write it again."
        ) from None
