"""What to generate: the values of one image, read from the command line or from a line of JSON."""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .console import DevError, cut, short

SUBJECT_KEYS = ("image", "label", "box", "mask", "strength")
JOB_KEYS = (
    "prompt", "subjects", "seed", "steps", "out", "method", "text_guidance", "image_guidance",
    "sampler", "scheduler",
)  # fmt: skip
METHODS = ("subject_diffusion", "ip_adapter", "ms_diffusion", "base")  # base: the prompt alone
BUNDLED = ("subject_diffusion", "base")  # methods that need no file
MAX_SEED = 2**64 - 1
LARGEST_STRENGTH, LONGEST_LABEL = 2.0, 1000  # as the nodes' schema has it
SUBJECT_HELP = "Write image=FILE,label=WORD,box=x1,y1,x2,y2[,mask=FILE][,strength=1.0]"


@dataclass(frozen=True, kw_only=True)
class SubjectSpec:
    """One subject: its picture, its noun, its box (x1, y1, x2, y2 in 0..1 of the generated image).

    `mask` is a picture of the reference's size, white where the subject is; None takes the
    reference's alpha channel where it has one.
    """

    image: Path
    label: str
    box_xyxy: tuple[float, float, float, float]
    mask: Path | None = None
    strength: float = 1.0

    def __post_init__(self) -> None:
        for name, path in (("image", self.image), ("mask", self.mask)):
            if path is not None and not _is_file(path):
                raise DevError(
                    f"{name}: expected a picture file, got {cut(str(path))}, which does not exist."
                )
        if not self.label.strip():
            raise DevError(
                "label: expected a noun such as cat, got nothing. Name what the picture shows."
            )
        x1, y1, x2, y2 = self.box_xyxy
        if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
            raise DevError(
                "box: expected 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1, "
                f"got {x1:g},{y1:g},{x2:g},{y2:g}. "
                "Give the left, top, right and bottom edge as fractions of the image."
            )
        if not 0.0 <= self.strength <= LARGEST_STRENGTH:
            raise DevError(
                f"strength: expected a number from 0 to {LARGEST_STRENGTH:g}, got {self.strength}. "
                "1 is the default."
            )
        if len(self.label) > LONGEST_LABEL:
            raise DevError(
                f"label: expected at most {LONGEST_LABEL} characters, got {len(self.label)}. Name "
                "what the picture shows in a word or two."
            )


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """Everything that is the same for all images of one command."""

    steps: int = 20
    width: int = 128
    height: int = 128
    text_guidance_scale: float = 4.0
    image_guidance_scale: float = 5.0
    sampler: str = "dpmpp_2m"  # as ComfyUI names them
    scheduler: str = "normal"
    adapter: str | None = None  # a file, "none" for the base model alone, None for the pack's own

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise DevError(f"steps: expected 1 or more, got {self.steps}. 20 is the default.")
        if min(self.width, self.height) < 64 or self.width % 8 or self.height % 8:
            raise DevError(
                f"size: expected multiples of 8 from 64 up, got {self.width}x{self.height}. "
                "Try 128x128."
            )
        if self.uses_adapter_file and not _is_file(Path(str(self.adapter))):
            got = cut(str(self.adapter))
            raise DevError(
                f"adapter: expected a .safetensors file or the word none, got {got}, "
                "which does not exist."
            )

    @property
    def is_base_only(self) -> bool:
        return self.adapter == "none"

    @property
    def uses_adapter_file(self) -> bool:
        return self.adapter is not None and not self.is_base_only


@dataclass(frozen=True, kw_only=True)
class Job:
    """One image to make and the file to put it in."""

    prompt: str
    subjects: tuple[SubjectSpec, ...]
    seed: int
    out: Path
    settings: GenerationSettings

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise DevError("prompt: expected a text, got nothing. Say what the image shows.")
        if not self.subjects and not self.settings.is_base_only:
            raise DevError(
                "subject: expected at least one, got none. Add --subject, or use --adapter none "
                "for the base model alone."
            )
        if not 0 <= self.seed <= MAX_SEED:
            raise DevError(f"seed: expected 0 to {MAX_SEED}, got {self.seed}.")


def fresh_seed() -> int:
    """A seed nobody chose, short enough to type."""
    return secrets.randbelow(10**6)


def parse_size(text: str) -> tuple[int, int]:
    """Width and height out of "WxH"."""
    found = re.fullmatch(r"(\d+)x(\d+)", text.strip().lower())
    if found is None:
        raise DevError(f"--size: expected WIDTHxHEIGHT such as 128x128, got {short(text)}.")
    return int(found.group(1)), int(found.group(2))


def parse_box(value: Any) -> tuple[float, float, float, float]:
    """Four numbers out of "x1,y1,x2,y2" or out of a list of numbers."""
    parts = value.split(",") if isinstance(value, str) else value
    try:
        numbers = tuple(float(part) for part in parts)
    except (TypeError, ValueError, OverflowError):
        numbers = ()
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise DevError(f"box: expected four numbers x1,y1,x2,y2, got {short(value)}.")
    return numbers[0], numbers[1], numbers[2], numbers[3]


def parse_subject(text: str) -> SubjectSpec:
    """A subject out of "image=...,label=...,box=x1,y1,x2,y2[,mask=...][,strength=...]".

    Values may contain commas: a new one begins at a comma followed by a known name and "=".
    """
    pieces = re.split(rf"(?:^|,)\s*({'|'.join(SUBJECT_KEYS)})\s*=", text)
    if pieces[0].strip():
        raise DevError(
            f"--subject: expected it to begin with image=, got {short(pieces[0])}. {SUBJECT_HELP}."
        )
    names, values = pieces[1::2], pieces[2::2]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise DevError(
            f"--subject: expected each name once, got {', '.join(sorted(repeated))} twice."
        )
    try:
        return subject_from_mapping(dict(zip(names, map(str.strip, values), strict=True)))
    except DevError as error:
        raise DevError(f"--subject: {error}") from error


def subject_from_mapping(values: Any) -> SubjectSpec:
    """A subject out of the names and values that the command line or a JSON line gave."""
    if not isinstance(values, dict):
        raise DevError(
            f"subjects: expected objects with image, label and box, got {short(values)}."
        )
    _refuse_unknown(values, SUBJECT_KEYS)
    missing = [name for name in ("image", "label", "box") if name not in values]
    if missing:
        raise DevError(
            f"expected image, label and box, got no {' and no '.join(missing)}. {SUBJECT_HELP}."
        )
    try:
        strength = float(values.get("strength", 1.0))
    except (TypeError, ValueError, OverflowError):
        raise DevError(f"strength: expected a number, got {short(values['strength'])}.") from None
    mask = values.get("mask")
    return SubjectSpec(
        image=Path(str(values["image"])),
        label=str(values["label"]),
        box_xyxy=parse_box(values["box"]),
        mask=Path(str(mask)) if mask else None,
        strength=strength,
    )


def job_from_line(line: str, number: int, out_folder: Path, settings: GenerationSettings) -> Job:
    """One job out of line `number` of a `--jobs` file."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DevError(
            f"expected one JSON object in a line, got {line.strip()[:60]!r} ({error})."
        ) from None
    if not isinstance(values, dict):
        raise DevError(f"expected a JSON object, got {line.strip()[:60]!r}.")
    _refuse_unknown(values, JOB_KEYS)
    seed = _integer(values.get("seed", fresh_seed()), "seed")
    steps = _integer(values.get("steps", settings.steps), "steps")
    subjects = values.get("subjects", [])
    if not isinstance(subjects, list):
        raise DevError(f"subjects: expected a list, got {short(subjects)}.")
    return Job(
        prompt=str(values.get("prompt", "")),
        subjects=tuple(map(subject_from_mapping, subjects)),
        seed=seed,
        out=out_file(out_folder, values.get("out"), f"{number:05d}_seed{seed}.png"),
        settings=settings_of_line(values, replace(settings, steps=steps)),
    )


def settings_of_line(values: dict[str, Any], settings: GenerationSettings) -> GenerationSettings:
    """The command's settings with what a job says of its method, guidance and sampler."""
    method = values.get("method", METHODS[0])
    if method not in METHODS:
        raise DevError(f"method: expected one of {', '.join(METHODS)}, got {method!r}.")
    if method == "base":
        settings = replace(settings, adapter="none")
    if method not in BUNDLED and not settings.uses_adapter_file:
        raise DevError(
            f"method: expected --adapter FILE with {method}, of which the pack brings none, got "
            f"--adapter {settings.adapter}. Name one."
        )
    return replace(
        settings,
        text_guidance_scale=_number(values, "text_guidance", settings.text_guidance_scale),
        image_guidance_scale=_number(values, "image_guidance", settings.image_guidance_scale),
        sampler=_word(values, "sampler", settings.sampler),
        scheduler=_word(values, "scheduler", settings.scheduler),
    )


def _word(values: dict[str, Any], name: str, default: str) -> str:
    """ComfyUI's own name of something, which the server then checks."""
    value = values.get(name, default)
    if not isinstance(value, str) or not value:
        raise DevError(f"{name}: expected one of ComfyUI's names, got {short(value)}.")
    return value


def _number(values: dict[str, Any], name: str, default: float) -> float:
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DevError(f"{name}: expected a number, got {value!r}.")
    return float(value)


def out_file(out_folder: Path, out: Any, default_name: str) -> Path:
    """Where a job's image goes: `out` is a .png file or a folder, relative to `out_folder`."""
    if out is None:
        return out_folder / default_name
    path = out_folder / str(out)
    return path if path.suffix.lower() == ".png" else path / default_name


def jobs_of_command(
    *,
    prompt: str,
    subjects: Sequence[str],
    seed: int | None,
    count: int,
    out: Path,
    settings: GenerationSettings,
) -> list[Job]:
    """`count` jobs that differ in their seeds: seed, seed + 1, ..."""
    if count < 1:
        raise DevError(f"--count: expected 1 or more, got {count}.")
    first = fresh_seed() if seed is None else seed
    specs = tuple(map(parse_subject, subjects))
    return [
        Job(
            prompt=prompt,
            subjects=specs,
            seed=value,
            out=out / f"seed{value}.png",
            settings=settings,
        )
        for value in range(first, first + count)
    ]


def _is_file(path: Path) -> bool:
    """Also for what can be no path at all, such as one that is too long."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _refuse_unknown(values: dict[str, Any], known: Sequence[str]) -> None:
    unknown = [name for name in values if name not in known]
    if unknown:
        raise DevError(
            f"expected only the names {', '.join(known)}, got {cut(', '.join(unknown))}."
        )


def _integer(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise DevError(f"{name}: expected a whole number, got {short(value)}.")
    return value
