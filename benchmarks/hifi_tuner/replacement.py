# Shapes: Q pictures, H side of a picture.
"""Another subject in the place of one: how much of a picture changes inside its box and outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from devtools.api_client import Graph
from devtools.workflows import ADAPTER, CLIP, CLIP_VISION, MODEL, VAE, node
from training.evaluation.metrics import mean_interval
from training.evaluation.pictures import real_composite
from training.evaluation.queries import Query
from training.runs import atomic_path, save_array
from training.toy.data.library import Library

from ..made_picture import input_folder, made_picture
from ..structure.in_process import InProcessHost


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One row: inputs of Replacement Sampler, and whether a mask says where it may change."""

    title: str
    blend: float = 0.0
    has_mask: bool = False


SETTINGS = (
    Setting(title="as in the paper"),
    Setting(title="LocalBlend at .3", blend=0.3),
    Setting(title="LocalBlend at .6", blend=0.6),
    Setting(title="the box as mask", has_mask=True),
)
CFG = 4.0
SHEET_ROWS = 6


def measure_replacement(
    host: InProcessHost, library: Library, queries: Sequence[Query], steps: int, out: Path
) -> list[str]:
    """The table's lines; all pictures are kept in `out`, and a sheet of them."""
    pairs = list(zip(queries, [*queries[1:], queries[0]], strict=True))
    old = np.stack([real_composite(library, query) for query in queries])
    made = []
    for number, setting in enumerate(SETTINGS):
        path = out / f"replacement-{steps}-{number}.npy"
        done = list(np.load(path)) if path.exists() else []
        for pair in tqdm(pairs[len(done) :], desc=setting.title):
            done.append(_replace(host, library, pair, steps, setting))
            save_array(path, np.stack(done))
            host.forget()
        made.append(np.stack(done[: len(pairs)]))
    _write_sheet(old, made, out / "replacement.png")
    return table(old, made, queries, steps)


def table(
    old: np.ndarray, made: Sequence[np.ndarray], queries: Sequence[Query], steps: int
) -> list[str]:
    """Markdown lines. Pictures are (Q, H, H, 3) uint8, `made` those of each of `SETTINGS`."""
    lines = [
        f"{len(old)} real composites, 128 x 128, {steps} steps: the subject is replaced by another "
        "one, through Subject-Diffusion's adapter and its picture. Mean change of a colour, of "
        "255, inside the old subject's box and outside, with 95 % bootstrap intervals.",
        "",
        "| | inside | outside | inside to outside |",
        "|---|---|---|---|",
    ]
    for setting, new in zip(SETTINGS, made, strict=True):
        change = np.abs(new.astype(np.float64) - old).mean(axis=-1)
        inside, outside = _split(change, queries)
        lines.append(
            f"| {setting.title} | {_interval(inside)} | {_interval(outside)} | "
            f"{_interval(inside / outside)} |"
        )
    return lines


def _split(change: np.ndarray, queries: Sequence[Query]) -> tuple[np.ndarray, np.ndarray]:
    """(Q, H, H) -> means inside the box and outside, each (Q,)."""
    inside, outside = [], []
    for query, one in zip(queries, change, strict=True):
        x1, y1, x2, y2 = query.subjects[0].box_px
        area = np.zeros(one.shape, dtype=bool)
        area[y1:y2, x1:x2] = True
        inside.append(one[area].mean())
        outside.append(one[~area].mean())
    return np.array(inside), np.array(outside)


def _interval(values: np.ndarray) -> str:
    interval = mean_interval(values)
    assert interval is not None
    return f"{interval.value:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


def _replace(
    host: InProcessHost, library: Library, pair: tuple[Query, Query], steps: int, setting: Setting
) -> np.ndarray:
    """The picture (H, H, 3) uint8 of the pair's first query with the subject of its second."""
    query, other = pair
    inputs = input_folder()
    Image.fromarray(real_composite(library, query)).save(inputs / "old_picture.png")
    cutout = np.asarray(library.cutouts[other.subjects[0].reference_row])
    Image.fromarray(cutout, "RGBA").save(inputs / "new_subject.png")
    return made_picture(host, replacement_graph(query, other, steps, setting))


def replacement_graph(query: Query, other: Query, steps: int, setting: Setting) -> Graph:
    """The graph of the example `subject_replacement`, for the pictures of two queries."""
    (old,), (new,) = query.subjects, other.subjects
    sampler: dict[str, Any] = {
        "caption": query.prompt,
        "word": old.label,
        "replacement": new.label,
        "method": "optimise",
        "num_updates": 10,
        "learning_rate": 0.01,
        "stop_early": True,
        "keep_until": 1.0,
        "blend": setting.blend,
        "inversion_iterations": 1,
    }
    graph = {
        "loader": node("SubjectDiffusionTinyLoader"),
        "old": node("LoadImage", image="old_picture.png"),
        "new": node("LoadImage", image="new_subject.png"),
        "new_mask": node("InvertMask", mask=["new", 1]),
        "subject": node(
            "SubjectDiffusionSubject",
            image=["new", 0],
            mask=["new_mask", 0],
            label=new.label,
            box=",".join(f"{edge:.6f}" for edge in old.box_xyxy),
            strength=1.0,
        ),
        "apply": node(
            "SubjectDiffusionApply", model=MODEL, clip=CLIP, adapter=ADAPTER, strength=1.0,
            start_percent=0.0, end_percent=1.0, block_weights="",
        ),
        "replace": node(
            "SubjectDiffusionReplacementSampler", clip=CLIP, vae=VAE, image=["old", 0], **sampler
        ),
        "encode": node(
            "SubjectDiffusionEncode", clip=["apply", 1], clip_vision=CLIP_VISION, adapter=ADAPTER,
            subjects=["subject", 0], prompt=["replace", 3], negative_prompt="",
        ),
        "guider": node(
            "CFGGuider", model=["apply", 0], positive=["encode", 0], negative=["encode", 2], cfg=CFG
        ),
        "noise": node("DisableNoise"),
        "sigmas": node(
            "BasicScheduler", model=MODEL, scheduler="ddim_uniform", steps=steps, denoise=1.0
        ),
        "sample": node(
            "SamplerCustomAdvanced", noise=["noise", 0], guider=["guider", 0],
            sampler=["replace", 0], sigmas=["sigmas", 0], latent_image=["replace", 1],
        ),
        "decode": node("VAEDecode", samples=["sample", 0], vae=VAE),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="replaced"),
    }  # fmt: skip
    if setting.has_mask:
        graph["place"] = node(
            "SubjectDiffusionBoxMask", subjects=["subject", 0], width=128, height=128, grow=0,
            feather=0,
        )  # fmt: skip
        graph["replace"]["inputs"]["mask"] = ["place", 0]
    return graph


def _write_sheet(old: np.ndarray, made: Sequence[np.ndarray], path: Path) -> None:
    """A row for each of the first pictures: the old one, then each setting's."""
    rows = [np.concatenate(row, axis=1) for row in zip(old, *made, strict=True)]
    with atomic_path(path) as temporary:
        Image.fromarray(np.concatenate(rows[:SHEET_ROWS])).save(temporary, "PNG")
