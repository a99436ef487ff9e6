"""``--set key=value``: text from the command line to values of a recipe."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from .configuration import TrainingRecipe

_FIXED = ("name", "summary")
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def with_settings(recipe: TrainingRecipe, settings: Sequence[str]) -> TrainingRecipe:
    """The recipe with ``key=value`` settings applied, all at once, then checked.

    >>> from training.recipes import recipe_named
    >>> with_settings(recipe_named("debug_cpu"), ["map_loss=off", "steps=7"]).steps
    7
    """
    known = {field.name: field.type for field in fields(recipe) if field.name not in _FIXED}
    values: dict[str, Any] = {}
    for setting in settings:
        key, found, text = setting.partition("=")
        if not found:
            raise ValueError(
                f"--set: expected key=value, got {setting!r}. For example --set steps=1000"
            )
        if key not in known:
            near = difflib.get_close_matches(key, known, n=3)
            hint = (
                f"Did you mean {' or '.join(near)}?" if near else "List them with `recipes NAME`."
            )
            raise ValueError(f"--set: expected a setting of the recipe, got {key!r}. {hint}")
        values[key] = _parse(key, text, str(known[key]))
    if "steps" in values and "warmup_steps" not in values:  # a short trial warms up shortly
        values["warmup_steps"] = min(recipe.warmup_steps, max(0, values["steps"]))
    return replace(recipe, **values)


def _parse(key: str, text: str, kind: str) -> Any:
    """``text`` as the field's type: int, float, bool or text."""
    if kind == "bool":
        if text.lower() not in _TRUTH:
            raise ValueError(f"{key}: expected true or false, got {text!r}. Write {key}=true.")
        return _TRUTH[text.lower()]
    try:
        return {"int": int, "float": float}.get(kind, str)(text)
    except ValueError as error:
        number = "a whole number" if kind == "int" else "a number"
        raise ValueError(f"{key}: expected {number}, got {text!r}. Correct --set {key}.") from error
