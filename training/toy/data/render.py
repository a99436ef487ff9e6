"""Cut-outs of every subject: 24 views of a model, one picture of an emoji."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ...runs import save_array, write_json
from .mesh import MeshError, read_mesh
from .pictures import SIDE, crop_to_alpha, fill_square
from .raycast import MeshRenderer, fit_mesh, view_direction
from .split import IDENTITIES_PATH, load_identities, split_identities, write_identities
from .subject_list import Subject, build_catalogue

VIEWS = tuple((30.0 * k, 12.0) for k in range(12)) + tuple((30.0 * k + 15, 35.0) for k in range(12))
MIN_CONTENT_SIDE = 12
MIN_COVERAGE = 0.05
MIN_VIEWS = 12
NOTO_SIZE = 109  # the only size of the bitmap font
OPAQUE = 64  # alpha from which a pixel counts as the subject


@dataclass(frozen=True)
class View:
    """One picture of a subject: rgba (h, w, 4) uint8 and the unit vector to the camera."""

    rgba: np.ndarray
    direction: tuple[float, float, float] | None


def is_visible(rgba: np.ndarray) -> bool:
    """False for a picture that is nearly empty or edge-on; `rgba` is cropped to its content."""
    longest = max(rgba.shape[:2], default=0)
    if longest == 0 or min(rgba.shape[:2]) < MIN_CONTENT_SIDE * longest / SIDE:
        return False
    return bool((rgba[..., 3] >= OPAQUE).sum() >= MIN_COVERAGE * longest**2)


def model_views(subject: Subject, folder: Path, side: int = SIDE) -> list[View]:
    """All visible views of a furniture model; none where the model cannot be read."""
    archive = folder / "usr/share/sweethome3d/furniture" / f"{subject.source}.sh3f"
    try:
        with zipfile.ZipFile(archive) as library:
            mesh = read_mesh(library, subject.asset)
    except (MeshError, KeyError, ValueError):
        return []
    fit_mesh(mesh, subject.size_cm, subject.rotation)
    renderer = MeshRenderer(mesh)
    views = []
    for azimuth, elevation in VIEWS:
        direction = view_direction(azimuth, elevation)
        rgba = crop_to_alpha(renderer.draw(direction, side))
        if is_visible(rgba):
            x, y, z = (round(float(v), 5) for v in direction)
            views.append(View(rgba, (x, y, z)))
    return views if len(views) >= MIN_VIEWS else []


def noto_picture(code_points: str, font: ImageFont.FreeTypeFont) -> np.ndarray:
    """Draws the emoji "1f34e" (or "a-b-c") in Google's design: (h, w, 4) uint8."""
    text = "".join(chr(int(point, 16)) for point in code_points.split("-"))
    canvas = Image.new("RGBA", (3 * NOTO_SIZE, 2 * NOTO_SIZE))
    ImageDraw.Draw(canvas).text((8, 24), text, font=font, embedded_color=True)
    return crop_to_alpha(np.asarray(canvas))


def emoji_views(subject: Subject, folders: dict[str, Path]) -> list[View]:
    """The picture of an emoji design; none where the font lacks it or draws several glyphs."""
    if subject.source == "fluent":
        path = folders["fluent"] / "package/assets" / subject.asset
        rgba = crop_to_alpha(np.asarray(Image.open(path).convert("RGBA")))
    else:
        path = folders["noto"] / "usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
        rgba = noto_picture(subject.asset, ImageFont.truetype(str(path), NOTO_SIZE))
        if rgba.shape[1] > 1.4 * NOTO_SIZE:
            return []
    return [View(rgba, None)] if is_visible(rgba) else []


def subject_views(subject: Subject, folders: dict[str, Path], side: int = SIDE) -> list[View]:
    """All pictures of one subject, cropped to their content; models `side` pixels long."""
    if subject.identity.startswith("model:"):
        return model_views(subject, folders["furniture"], side)
    return emoji_views(subject, folders)


def render_job(
    job: tuple[Subject, dict[str, Path]],
) -> tuple[Subject, np.ndarray, list[dict[str, object]]]:
    """Pictures of one subject as (n, 128, 128, 4) uint8 with their records."""
    subject, folders = job
    views = subject_views(subject, folders)
    squares = np.zeros((len(views), SIDE, SIDE, 4), np.uint8)
    records: list[dict[str, object]] = []
    for index, view in enumerate(views):
        height, width = view.rgba.shape[:2]
        scale = SIDE / max(height, width)
        squares[index] = fill_square(view.rgba)
        records.append(
            {
                "identity": subject.identity,
                "label": subject.label,
                "category": subject.category,
                "source": subject.source,
                "view": view.direction,
                "width": max(1, round(width * scale)),
                "height": max(1, round(height * scale)),
            }
        )
    return subject, squares, records


def render_all(
    folders: dict[str, Path], workers: int
) -> Iterator[tuple[Subject, np.ndarray, list[dict[str, object]]]]:
    """Renders every subject of the catalogue, in catalogue order."""
    jobs = [(subject, folders) for subject in build_catalogue(folders)]
    with get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(render_job, jobs, chunksize=4)


def build_cutouts(
    work: Path,
    folders: dict[str, Path],
    workers: int = 2,
    identities_path: Path = IDENTITIES_PATH,
) -> None:
    """Writes `cutouts.npy` (n, 128, 128, 4) uint8 and `cutouts.json` below `work`.

    Each picture fills its square with its longer side and is centred in it. Writes the identities
    file where there is none yet, else checks that it holds what was rendered.
    """
    if (work / "cutouts.json").exists():
        return
    pixels: list[np.ndarray] = []
    records: list[dict[str, object]] = []
    kept: list[dict[str, str]] = []
    for subject, squares, rows in render_all(folders, workers):
        if not rows:
            continue
        pixels.append(squares)
        records += rows
        kept.append(identity_record(subject))
    if not identities_path.exists():
        write_identities(kept, identities_path)
    known = load_identities(identities_path)
    missing = {record["identity"] for record in kept} ^ set(known)
    if missing:
        raise ValueError(
            f"{identities_path.name}: expected the rendered subjects, {len(missing)} differ, e.g. "
            f"{sorted(missing)[0]}. Use the packages' versions named in sources.py."
        )
    sides = split_identities({record["identity"]: record["label"] for record in kept})
    for row in records:
        row["split"] = sides[str(row["identity"])]
    save_array(work / "cutouts.npy", np.concatenate(pixels))
    write_json(work / "cutouts.json", records)


def identity_record(subject: Subject) -> dict[str, str]:
    """What the identities file says about a subject, apart from its side."""
    return {
        "identity": subject.identity,
        "label": subject.label,
        "category": subject.category,
        "source": subject.source,
        "licence": subject.licence,
        "creator": subject.creator,
    } | ({"branded": "yes"} if subject.branded else {})
