"""Sample subject pictures and the credits of everything the data is made of."""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from .pictures import fill_square
from .render import View, subject_views
from .sources import fetch_sources
from .split import load_identities
from .subject_list import Subject, build_catalogue

SAMPLE_SIDE = 256
LICENCE_TITLES = {
    "CC0-1.0": "CC0 1.0",
    "CC-BY-3.0": "CC BY 3.0",
    "CC-BY-3.0-US": "CC BY 3.0 US",
    "MIT": "MIT",
    "Apache-2.0": "Apache 2.0",
}
LIBRARY_TITLES = {
    "BlendSwap-CC-0": "Blend Swap, in Sweet Home 3D furniture 1.8",
    "BlendSwap-CC-BY": "Blend Swap, in Sweet Home 3D furniture 1.8",
    "KatorLegaz": "Kator Legaz, in Sweet Home 3D furniture 1.8",
    "Scopia": "Scopia, in Sweet Home 3D furniture 1.8",
    "fluent": "Fluent Emoji 3D",
    "noto": "Noto Color Emoji",
}


@dataclass(frozen=True)
class SampleSubject:
    """A picture of assets/subjects: file stem, identity and which view of it (0 to 23)."""

    stem: str
    identity: str
    view: int = 13


# Held-out subjects without brands. "guitar" and "guitar-2" are two designs of one label.
SAMPLE_SUBJECTS = (
    SampleSubject("teddy-bear", "model:BlendSwap-CC-0/teddyBear", 12),
    SampleSubject("playhouse", "model:BlendSwap-CC-0/childHut"),
    SampleSubject("hamburger", "model:BlendSwap-CC-BY/hamburger"),
    SampleSubject("futon", "model:KatorLegaz/futon-couch"),
    SampleSubject("vase-lamp", "model:KatorLegaz/pedestal-vase-lamp"),
    SampleSubject("camping-tent", "model:Scopia/campingTent"),
    SampleSubject("dog-house", "model:Scopia/dog-house"),
    SampleSubject("fruit-bowl", "model:Scopia/bowlWithFruits"),
    SampleSubject("owl", "emoji:1f989:fluent"),
    SampleSubject("crab", "emoji:1f980:fluent"),
    SampleSubject("dinosaur", "emoji:1f995:noto"),
    SampleSubject("guitar", "emoji:1f3b8:fluent"),
    SampleSubject("guitar-2", "emoji:1f3b8:noto"),
)


def sample_view(subject: Subject, view: int, folders: dict[str, Path]) -> View:
    """View number `view` of a model at 256 pixels, or the picture of an emoji at its own size."""
    views = subject_views(subject, folders, SAMPLE_SIDE)
    return views[min(view, len(views) - 1)]


def sample_row(stem: str, subject: Subject) -> str:
    """Row of the licence table for one sample picture."""
    licence = LICENCE_TITLES[subject.licence]
    source = LIBRARY_TITLES[subject.source]
    return f"| {stem}.png | {subject.label} | {source} | {subject.creator} | {licence} |"


def export_samples(target: Path, folders: dict[str, Path]) -> None:
    """Writes the sample pictures (RGBA PNG) and LICENSES.md into `target`."""
    target.mkdir(parents=True, exist_ok=True)
    subjects = {subject.identity: subject for subject in build_catalogue(folders)}
    rows = []
    for sample in SAMPLE_SUBJECTS:
        subject = subjects[sample.identity]
        rgba = sample_view(subject, sample.view, folders).rgba
        square = fill_square(rgba, max(rgba.shape[:2]))
        Image.fromarray(square).save(target / f"{sample.stem}.png", optimize=True)
        rows.append(sample_row(sample.stem, subject))
    heading = (
        "# Sample subjects\n\nPictures of subjects that no model of this repository was trained "
        "on.\nModels were drawn by `training.toy.data.raycast` from the named source; emoji are "
        "cropped to their content.\n\n| picture | subject | source | creator | licence |\n"
        "|---|---|---|---|---|\n"
    )
    (target / "LICENSES.md").write_text(heading + "\n".join(rows) + "\n")


def creators_by_source() -> dict[str, list[str]]:
    """Source -> names of the creators whose models the data uses, sorted."""
    creators = defaultdict(set)
    for record in load_identities().values():
        creators[record["source"]].add(record["creator"])
    return {source: sorted(names, key=str.lower) for source, names in creators.items()}


def main() -> None:
    """Writes the sample pictures again: `python -m training.toy.data.credits --work W --to DIR`."""
    parser = argparse.ArgumentParser(prog="training.toy.data.credits", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of the data stages")
    parser.add_argument("--to", type=Path, required=True, help="folder for the pictures")
    options = parser.parse_args()
    export_samples(options.to, fetch_sources(options.work / "raw"))


if __name__ == "__main__":
    main()
