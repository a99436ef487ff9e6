"""What is asked for: the DreamBooth data set as it is published, or a folder of people, as jobs.

One folder per subject, one text file. People are in folders of the same layout, with prompts of
our own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Protocol = Literal["single", "pairs", "human"]
# FastComposer makes four pictures of a person and prompt.
IMAGES_PER_PROMPT = {"single": 6, "pairs": 6, "human": 4}
# The paper does not state its boxes: one subject fills most of the picture, two share it.
BOXES = {1: ((0.2, 0.2, 0.8, 0.8),), 2: ((0.05, 0.25, 0.48, 0.85), (0.52, 0.25, 0.95, 0.85))}
PROMPTS_FILE = "prompts_and_classes.txt"
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
LIVE_CLASSES = ("cat", "dog")
OWN_PROMPTS = "this project's own list, not FastComposer's"

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
# FastComposer's four groups; the sentences are this project's.
PROMPTS = {
    "accessory": (
        "a {} wearing round sunglasses", "a {} wearing a knitted green beanie",
        "a {} wearing large headphones", "a {} with a crown of flowers",
        "a {} in an astronaut suit", "a {} wearing a striped tie",
        "a {} in a knight's armour", "a {} wearing a straw hat",
    ),
    "style": (
        "an oil portrait of a {}", "a charcoal drawing of a {}",
        "a comic book panel with a {}", "a stained glass window that shows a {}",
        "a low poly render of a {}", "a tile mosaic of a {}",
        "a bronze bust of a {}", "a pastel sketch of a {}",
    ),
    "action": (
        "a {} playing the violin", "a {} drinking a cup of tea",
        "a {} talking on the phone", "a {} painting at an easel",
        "a {} riding a bicycle", "a {} laughing out loud",
        "a {} holding an open umbrella", "a {} repairing a clock",
    ),
    "context": (
        "a {} in an old library", "a {} at a train station",
        "a {} in a field of sunflowers", "a {} under a starry sky",
        "a {} in a greenhouse", "a {} in front of a waterfall",
        "a {} on a theatre stage", "a {} in a crowded market",
    ),
}  # fmt: skip


class DreamBenchError(ValueError):
    """The data set, or the folder of pictures, is not what was expected."""


@dataclass(frozen=True, kw_only=True)
class DreamSubject:
    """A subject: its folder's name, its class word, its photographs; its prompts have ``{}`` where
    the class word stands."""

    name: str
    class_word: str
    pictures: tuple[Path, ...]
    prompts: tuple[str, ...]

    def reference(self, number: int) -> Path:
        """The photograph that the generator is given."""
        return self.pictures[number % len(self.pictures)]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One picture to generate: ``out`` is its file below the folder of pictures."""

    prompt: str
    subjects: tuple[DreamSubject, ...]
    seed: int
    out: str

    def job(self, reference: int) -> dict[str, Any]:
        """As ``dev.py generate --jobs`` takes it, with photograph ``reference`` of each."""
        subjects = [
            {
                "image": str(subject.reference(reference).resolve()),
                "label": subject.class_word,
                "box": list(box),
            }
            for subject, box in zip(self.subjects, BOXES[len(self.subjects)], strict=True)
        ]
        return {"prompt": self.prompt, "subjects": subjects, "seed": self.seed, "out": self.out}


def cases(
    subjects: Mapping[str, DreamSubject], protocol: Protocol, per_prompt: int
) -> Iterator[Case]:
    """All pictures of a protocol: "single" and "human" every subject, "pairs" the 30 of table 8."""
    groups: list[tuple[str, ...]] = [(name,) for name in subjects]
    if protocol == "pairs":
        groups = [pair for pair in PAIRS if set(pair) <= set(subjects)]
    for names in groups:
        shown = tuple(subjects[name] for name in names)
        phrase = " and a ".join(subject.class_word for subject in shown)
        for index, template in enumerate(shown[0].prompts):
            for seed in range(per_prompt):
                yield Case(
                    prompt=template.format(phrase),
                    subjects=shown,
                    seed=seed,
                    out=f"{'-'.join(names)}/{index:02d}-{seed}.png",
                )


def load_dreambench(folder: Path) -> dict[str, DreamSubject]:
    """Read the data set; 25 prompts of a subject, those of live ones are others.

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
    classes = _classes(object_part)
    if not found or not all(prompts) or not classes:
        raise DreamBenchError(
            f"data: expected {text_file} to list classes, object prompts and live subject prompts, "
            f"got {len(classes)} classes, {len(prompts[0])} and {len(prompts[1])} prompts. "
            "Use the file as it was published."
        )
    return {
        name: _subject(folder / name, word, prompts[word in LIVE_CLASSES])
        for name, word in classes.items()
    }


def load_people(folder: Path, prompts_file: Path | None) -> dict[str, DreamSubject]:
    """Every person of a folder, in DreamBooth's layout; all have the same prompts.

    The text file gives the class words ("anna,woman"); without it, every folder is a "person".

    Raises:
        DreamBenchError: no people, a person without a picture, or a file of prompts that is not.
    """
    text_file = folder / PROMPTS_FILE
    if text_file.is_file():
        classes = _classes(text_file.read_text(encoding="utf-8"))
    else:
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        classes = {path.name: "person" for path in found if path.is_dir()}
    if not classes:
        raise DreamBenchError(
            f"data: expected a folder with one folder per person, got {folder} with none. Put one "
            f"picture of each into a folder of their own; {PROMPTS_FILE} may give class words, "
            'one line each: "anna,woman".'
        )
    prompts = tuple(prompt for group in PROMPTS.values() for prompt in group)
    if prompts_file is not None:
        prompts = read_prompts(prompts_file)
    return {name: _subject(folder / name, word, prompts) for name, word in classes.items()}


def read_prompts(path: Path) -> tuple[str, ...]:
    """One prompt a line, with ``{}`` where the class word stands; ``#`` begins a comment line."""
    if not path.is_file():
        raise DreamBenchError(
            f"prompts: expected a text file, got {path}, which is not there. Correct the path, or "
            "leave --prompts out for the list that comes with this project."
        )
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    prompts = tuple(line for line in lines if line and not line.startswith("#"))
    wrong = [p for p in prompts if "{}" not in p or p.count("{") != 1 or p.count("}") != 1]
    if wrong or not prompts:
        got = repr(wrong[0]) if wrong else "no prompt"
        raise DreamBenchError(
            f"prompts: expected {path} to have one prompt a line with one {{}} for the class word, "
            f'got {got}. Write them like "a {{}} in an old library".'
        )
    return prompts


def _classes(text: str) -> dict[str, str]:
    """Class word by subject's name, from lines like the published file's "dog3,dog"."""
    classes = dict(re.findall(r"^(\w+),([\w ]+?)\s*$", text, re.M))
    classes.pop("subject_name", None)
    return classes


def _prompts(text: str) -> tuple[str, ...]:
    """'a {0} {1} in the jungle'.format(unique_token, class_token) -> "a {} in the jungle"."""
    quoted = re.findall(r"['\"]([^'\"\n]*\{0\} \{1\}[^'\"\n]*)['\"]", text)
    return tuple(prompt.replace("{0} {1}", "{}") for prompt in quoted)


def _subject(folder: Path, class_word: str, prompts: tuple[str, ...]) -> DreamSubject:
    """A subject with its photographs, by name; never none."""
    found = folder.iterdir() if folder.is_dir() else ()
    pictures = tuple(sorted(path for path in found if path.suffix.lower() in PICTURES))
    if not pictures:
        raise DreamBenchError(
            f"data: expected photographs in {folder}, got none. Complete the data set."
        )
    return DreamSubject(name=folder.name, class_word=class_word, pictures=pictures, prompts=prompts)
