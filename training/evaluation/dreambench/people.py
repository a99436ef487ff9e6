"""The data of the human protocol: a folder per person, and prompts of our own."""

from __future__ import annotations

from pathlib import Path

from .dataset import (
    PROMPTS_FILE,
    DreamBench,
    DreamBenchError,
    DreamSubject,
    classes_in,
    pictures_in,
)

PERSON = "person"
OWN_PROMPTS = "this project's own list, not FastComposer's"
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


def load_people(folder: Path, prompts_file: Path | None) -> DreamBench:
    """Every person of a folder, in DreamBooth's layout; all have the same prompts.

    The text file gives the class words ("anna,woman"); without it, every folder is a "person".

    Raises:
        DreamBenchError: no people, a person without a picture, or a file of prompts that is not.
    """
    text_file = folder / PROMPTS_FILE
    if text_file.is_file():
        classes = classes_in(text_file.read_text(encoding="utf-8"))
    else:
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        classes = {path.name: PERSON for path in found if path.is_dir()}
    if not classes:
        raise DreamBenchError(
            f"data: expected a folder with one folder per person, got {folder} with none. Put one "
            f"picture of each into a folder of their own; {PROMPTS_FILE} may give class words, "
            'one line each: "anna,woman".'
        )
    prompts = _own_prompts() if prompts_file is None else read_prompts(prompts_file)
    subjects = {
        name: DreamSubject(name=name, class_word=word, pictures=pictures_in(folder / name))
        for name, word in classes.items()
    }
    return DreamBench(subjects=subjects, object_prompts=prompts, live_prompts=prompts)


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


def _own_prompts() -> tuple[str, ...]:
    return tuple(prompt for group in PROMPTS.values() for prompt in group)
