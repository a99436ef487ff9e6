"""Errors that users read: ``<argument>: expected X, got Y. <What to do>.``"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch


class ShapeError(ValueError):
    """A tensor has another shape than the function needs."""


class CheckpointError(ValueError):
    """A file is not what it should be: wrong format, wrong model, damaged."""


def require_shape(
    argument: str, tensor: torch.Tensor, expected: Sequence[int | str], action: str
) -> None:
    """Raise ShapeError unless `tensor` has the expected shape.

    Args:
        argument: the caller's own name of the tensor, as it appears in the message.
        tensor: the tensor to check.
        expected: one entry per dimension; a number must match, a letter stands for any size.
        action: what the caller should do, without the final full stop.

    >>> try:
    ...     require_shape("boxes", torch.zeros(2, 3), ("B", "N", 4), "Pass a box a subject")
    ... except ShapeError as error:
    ...     print(error)
    boxes: expected shape (B, N, 4), got (2, 3). Pass a box a subject.
    """
    shape = tuple(tensor.shape)
    matches = len(shape) == len(expected) and all(
        isinstance(want, str) or want == got for want, got in zip(expected, shape, strict=True)
    )
    if not matches:
        wanted = ", ".join(str(size) for size in expected)
        raise ShapeError(f"{argument}: expected shape ({wanted}), got {shape}. {action}.")


def printable(text: object) -> str:
    """A text whose halves of characters are written by their number: a server's log breaks on
    them, and ComfyUI's queue with it.

    >>> printable("half \\ud800")
    'half \\\\ud800'
    """
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")


def shown(text: object, limit: int = 200) -> str:
    """What an error repeats of a text from elsewhere.

    >>> shown("abcdef", limit=4)
    'abcd...'
    """
    written = printable(str(text)[: limit + 1])
    return written if len(written) <= limit else f"{written[:limit]}..."


def reason_of(error: Exception) -> str:
    """What was wrong with something that was read, in words; Python's own tell only of contents.

    >>> reason_of(KeyError("dtype")), reason_of(TypeError("'NoneType' object is not iterable"))
    ("'dtype'", 'something of another kind')
    """
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, TypeError | AttributeError):
        return "something of another kind"
    return shown(error)


def require_finite_numbers(owner: str, **values: float) -> None:
    """One sentence for the first of `values` that is NaN or infinite; `owner` is the node."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(
                f"{owner}'s {name}: expected a finite number, got {value}. Write a number."
            )


def require_finite_tensor(name: str, tensor: torch.Tensor, source: str) -> None:
    """One sentence if a picture or latent holds NaN or infinity; `source` is where to look."""
    if not bool(tensor.isfinite().all()):
        raise ValueError(
            f"{name}: expected finite numbers, got NaN or infinity. Look at {source}, for example "
            "with a preview."
        )
