"""Nodes that keep what a model said at earlier steps, such as ComfyUI's *EasyCache*."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

from .comfy_types import Options

OPTION = "easycache"


@contextlib.contextmanager
def told_of_late_conditionings(options: Options) -> Iterator[None]:
    """A sentence in place of the name of a conditioning that the cache has never seen.

    Up to ComfyUI 0.3.75 it skips steps of a call in which such a one takes part; newer ones do not.

    Args:
        options: the model's, of the guider.
    """
    try:
        yield
    except KeyError as error:
        is_ours_to_tell = OPTION in options.get("transformer_options", {}) and any(
            isinstance(name, uuid.UUID) for name in error.args
        )
        if not is_ours_to_tell:
            raise
        raise ValueError(
            "EasyCache: expected conditionings that take part from the first step on, got one that "
            "joins later, by a start above 0. Use LazyCache in its place, begin EasyCache behind "
            "that start, or update ComfyUI."
        ) from error
