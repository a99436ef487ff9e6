"""What every node makes sure of before it runs: its inputs are of the kinds and in the ranges that
its schema names.

ComfyUI compares with a schema only what is written on the node; what is linked to it, or handed
over by a script, may be anything.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

from ..subject_diffusion_core.errors import printable
from ..subject_diffusion_core.pictures import read_masks, read_pictures
from ..subject_diffusion_core.schema import NumberRange, printed, require_parentheses, require_text
from .subjects.subject import require_subjects

LARGEST = 1e9  # of a number for which a schema has no limit
ACTION = "Write a number"


def with_checked_inputs(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """The node, whose `execute` refuses or converts its inputs first.

    A node may name inputs that it reads itself, in more forms, as `READS_ITSELF`; and how errors
    call it, by its inputs, as a class method `input_owner`.
    """
    execute = node.__dict__["execute"].__func__
    if hasattr(execute, "__wrapped__"):  # the list of nodes is asked for more than once
        return node
    signature = inspect.signature(execute)

    @functools.cache
    def schema() -> io.Schema:
        return node.define_schema()

    @functools.wraps(execute)
    def checked(cls: type[io.ComfyNode], *args: Any, **kwargs: Any) -> Any:
        _, *given = signature.bind(cls, *args, **kwargs).arguments.items()
        try:
            return execute(cls, **_read(cls, schema(), dict(given)))
        except Exception as error:  # also of a file's name that is no text
            if str(error) == printable(error):
                raise
            raise ValueError(printable(error)) from None

    setattr(node, "execute", classmethod(checked))  # noqa: B010  mypy knows no assignment here
    return node


def _read(node: type[io.ComfyNode], schema: io.Schema, given: dict[str, Any]) -> dict[str, Any]:
    entries = {entry.id: entry for entry in schema.inputs}
    for name in given:
        is_needed = given[name] is None and not entries[name].optional
        if str(entries[name].io_type) == "SUBJECTS" and not is_needed:
            given[name] = () if given[name] is None else given[name]
            require_subjects(name, given[name])
            given[name] = tuple(given[name])
    by_itself: frozenset[str] = getattr(node, "READS_ITSELF", frozenset())
    name_by_inputs = getattr(node, "input_owner", None)
    owner = schema.display_name if name_by_inputs is None else name_by_inputs(given)
    return {
        name: value
        if name in by_itself or (value is None and entries[name].optional)
        else _checked(entries[name], f"{owner}'s {name}", value)
        for name, value in given.items()
    }


def _checked(entry: Any, argument: str, value: Any) -> Any:
    """The value of an input, refused in one sentence or in the form that nodes work with."""
    kind = str(entry.io_type)
    if value is None:
        raise ValueError(
            f"{argument}: expected {kind}, got nothing. Connect a node that gives it; a "
            "checkpoint, for example, may have none."
        )
    if kind in ("INT", "FLOAT"):
        low, high = getattr(entry, "min", None), getattr(entry, "max", None)
        NumberRange(
            low=-LARGEST if low is None else low,
            high=LARGEST if high is None else high,
            is_whole=kind == "INT",
        ).require(argument, value, ACTION)
        return int(value) if kind == "INT" else float(value)
    if kind == "COMBO" and entry.default is not None:  # a list of files has none
        _require_choice(argument, value, entry.options)
    if kind == "BOOLEAN" and not isinstance(value, bool):
        raise ValueError(
            f"{argument}: expected true or false, got {printed(value)}. Connect one of these."
        )
    if kind == "STRING":
        if not isinstance(value, str):
            raise ValueError(f"{argument}: expected text, got {printed(value)}. Connect a text.")
        require_text(argument, value)
        if entry.multiline:
            require_parentheses(argument, value)
    if kind == "IMAGE":
        return read_pictures(argument, value)
    if kind == "MASK":
        return read_masks(argument, value)
    return value


def _require_choice(argument: str, value: Any, options: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in options:
        names = (" or " if len(options) == 2 else ", ").join(options)
        raise ValueError(f"{argument}: expected {names}, got {printed(value)}. Choose one of them.")
