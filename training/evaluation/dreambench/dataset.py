"""Reads the DreamBooth data set as it is published: one folder per subject, one text file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PROMPTS_FILE = "prompts_and_classes.txt"
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
LIVE_CLASSES = ("cat", "dog")

# Subject-Diffusion, table 8.
PAIRS = (
    ("backpack", "can"), ("bear_plushie", "backpack_dog"), ("berry_bowl", "vase"),
    ("duck_toy", "can"), ("fancy_boot", "shiny_sneaker"), ("grey_sloth_plushie", "poop_emoji"),
    ("teapot", "backpack_dog"), ("teapot", "berry_bowl"), ("wolf_plushie", "backpack_dog"),
    ("can", "bear_plushie"), ("can", "candle"), ("can", "duck_toy"),
    ("can", "shiny_sneaker"), ("clock", "teapot"), ("colorful_sneaker", "vase"),
    ("robot_toy", "backpack"), ("shiny_sneaker", "duck_toy"), ("shiny_sneaker", "poop_emoji"),
    ("pink_sunglasses", "candle"), ("poop_emoji", "clock"), ("poop_emoji", "shiny_sneaker"),
    ("cat", "dog2"), ("cat", "dog5"), ("cat2", "dog3"),
    ("dog2", "dog3"), ("dog5", "dog6"), ("dog6", "dog7"),
    ("dog6", "dog8"), ("dog7", "dog8"), ("dog8", "dog6"),
)  # fmt: skip


class DreamBenchError(ValueError):
    """The data set, or the folder of pictures, is not what was expected."""


@dataclass(frozen=True, kw_only=True)
class DreamSubject:
    """One of the data set's subjects: its folder's name, its class word, its photographs."""

    name: str
    class_word: str
    pictures: tuple[Path, ...]

    @property
    def is_live(self) -> bool:
        """Whether the live subjects' prompts are its own."""
        return self.class_word in LIVE_CLASSES


@dataclass(frozen=True, kw_only=True)
class DreamBench:
    """The whole data set; prompts have ``{}`` where the subject stands."""

    subjects: dict[str, DreamSubject]
    object_prompts: tuple[str, ...]
    live_prompts: tuple[str, ...]

    def prompts_of(self, subject: DreamSubject) -> tuple[str, ...]:
        """The 25 prompts of a subject."""
        return self.live_prompts if subject.is_live else self.object_prompts


def load_dreambench(folder: Path) -> DreamBench:
    """Read the data set.

    Raises:
        DreamBenchError: the text file, its prompts, or a subject's folder is missing.
    """
    text_file = folder / PROMPTS_FILE
    if not text_file.is_file():
        raise DreamBenchError(
            f"data: expected DreamBooth's data set with {PROMPTS_FILE}, got {folder} without it. "
            "Point --data at the folder that holds the subjects' folders and that file."
        )
    text = text_file.read_text(encoding="utf-8")
    object_part, found, live_part = text.partition("Live Subject Prompts")
    prompts = [_prompts(part) for part in (object_part, live_part)]
    classes = classes_in(object_part)
    if not found or not all(prompts) or not classes:
        raise DreamBenchError(
            f"data: expected {text_file} to list classes, object prompts and live subject prompts, "
            f"got {len(classes)} classes, {len(prompts[0])} and {len(prompts[1])} prompts. "
            "Use the file as it was published."
        )
    subjects = {
        name: DreamSubject(name=name, class_word=word, pictures=pictures_in(folder / name))
        for name, word in classes.items()
    }
    return DreamBench(subjects=subjects, object_prompts=prompts[0], live_prompts=prompts[1])


def classes_in(text: str) -> dict[str, str]:
    """Class word by subject's name, from lines like the published file's "dog3,dog"."""
    classes = dict(re.findall(r"^(\w+),([\w ]+?)\s*$", text, re.M))
    classes.pop("subject_name", None)
    return classes


def _prompts(text: str) -> tuple[str, ...]:
    """'a {0} {1} in the jungle'.format(unique_token, class_token) -> "a {} in the jungle"."""
    quoted = re.findall(r"['\"]([^'\"\n]*\{0\} \{1\}[^'\"\n]*)['\"]", text)
    return tuple(prompt.replace("{0} {1}", "{}") for prompt in quoted)


def pictures_in(folder: Path) -> tuple[Path, ...]:
    """The photographs of one subject, by name; never none."""
    found = folder.iterdir() if folder.is_dir() else ()
    pictures = sorted(path for path in found if path.suffix.lower() in PICTURES)
    if not pictures:
        raise DreamBenchError(
            f"data: expected photographs in {folder}, got none. Complete the data set."
        )
    return tuple(pictures)
