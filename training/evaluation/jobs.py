"""TinyBench's queries as jobs for any generator, and its pictures from a folder.

FILE.jsonl                  one picture a line, as `dev.py generate --jobs` takes them
FILE-references/ROW.png     the references, cut-outs with transparency
PICTURES/ROW/0000.png ...   what a generator makes of them
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..toy.data.library import Library, load_library
from ..toy.data.pictures import SIDE
from .pictures import PictureMaker
from .queries import Query, draw_queries
from .rows import Row, SamplingSettings

JOB_SOURCES = ("subject", "shuffled", "text_only")
BASE_METHOD = "base"
# The bench's own DDIM, as ComfyUI names it and its timesteps, so that both ways draw alike.
SAMPLING = {"sampler": "ddim", "scheduler": "sgm_uniform"}


def picture_name(row: Row, number: int) -> str:
    """Where a query's picture is, below the folder of pictures."""
    return f"{row.name}/{number:04d}.png"


def write_jobs(
    work: Path,
    rows: Sequence[Row],
    settings: SamplingSettings,
    count: int,
    path: Path,
    method: str,
) -> int:
    """Write the first ``count`` jobs of each of ``rows`` that a generator can make; their number.

    ``work``: the data folder.
    """
    library = load_library(work, "heldout", "heldout")
    references = path.with_name(f"{path.stem}-references")
    lines = []
    for row in rows:
        if row.source in JOB_SOURCES:
            for number, query in enumerate(draw_queries(library, row.kind, count)):
                job = job_of(library, row, query, settings, references)
                job["method"] = BASE_METHOD if row.source == "text_only" else method
                lines.append(json.dumps({**job, "out": picture_name(row, number)}))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines)


def job_of(
    library: Library, row: Row, query: Query, settings: SamplingSettings, references: Path
) -> dict[str, Any]:
    """A query as a job; its references are written beside the jobs."""
    job: dict[str, Any] = {"prompt": query.prompt, "seed": query.seed, "steps": settings.steps}
    job |= SAMPLING
    if row.source == "text_only":
        return {**job, "text_guidance": settings.text_only_guidance_scale}
    subjects = []
    for subject in query.subjects:
        cutout = subject.shuffled_row if row.source == "shuffled" else subject.reference_row
        image = write_reference(library, cutout, references)
        box = [round(edge, 6) for edge in subject.box_xyxy]
        subjects.append({"image": str(image.resolve()), "label": subject.label, "box": box})
    return {
        **job,
        "subjects": subjects,
        "text_guidance": settings.text_guidance_scale,
        "image_guidance": settings.image_guidance_scale,
    }


def write_reference(library: Library, row: int, folder: Path) -> Path:
    """A cut-out as a PNG with transparency."""
    path = folder / f"{row:06d}.png"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(library.cutouts[row]), "RGBA").save(path)
    return path


class StoredPictures(PictureMaker):
    """A row's pictures from a folder that a generator filled; the bounds are made as ever."""

    def __init__(
        self, library: Library, weights: Path, settings: SamplingSettings, folder: Path
    ) -> None:
        super().__init__(library, weights, settings)
        self.folder = folder

    def all_of(self, row: Row, queries: Sequence[Query], folder: Path) -> np.ndarray:
        """Pictures (Q, H, H, 3) uint8 of a row; those that nobody was asked for are kept in
        ``folder``.

        Raises:
            ValueError: a picture is missing.
        """
        if row.source not in JOB_SOURCES:
            return super().all_of(row, queries, folder)
        numbers = range(len(queries))
        return np.stack([self.read(self.folder / picture_name(row, n)) for n in numbers])

    def read(self, path: Path) -> np.ndarray:
        """One picture, brought to the bench's side."""
        try:
            with Image.open(path) as file:
                picture = file.convert("RGB")
        except (OSError, SyntaxError) as error:
            raise ValueError(
                f"--pictures: expected a picture for every job, got none that can be read at "
                f"{path}. Make the jobs of `evaluate jobs` with the same --limit and --rows."
            ) from error
        if picture.size != (SIDE, SIDE):
            picture = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        return np.asarray(picture)

    def fingerprint(self, row: Row, queries: Sequence[Query]) -> str:
        """Names what a row's pictures are: for stored ones the files themselves."""
        if row.source not in JOB_SOURCES:
            return super().fingerprint(row, queries)
        digest = hashlib.sha256()
        for number in range(len(queries)):
            path = self.folder / picture_name(row, number)
            digest.update(path.read_bytes() if path.is_file() else b"")
        return digest.hexdigest()[:12]
