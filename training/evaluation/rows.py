"""The rows of the table: the model, its controls and the bounds, as pictures for given queries.

# Shapes: Q queries, H picture side (128).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from ..bases.base_model import Autoencoder
from ..bases.encoders import decode_latents, encode_latents, to_pictures
from ..toy.data.compose import compose
from ..toy.data.library import Library
from ..toy.data.pictures import reference_image
from .generation import GenerationRequest, SubjectRequest
from .queries import Box, Query

Source = Literal["subject", "text_only", "text_only_pasted", "shuffled", "real", "real_vae"]
PASTED_SOURCES: tuple[Source, ...] = ("text_only_pasted", "real", "real_vae")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: whose queries, and where its pictures come from.

    ``source``: "subject" = the full model; "text_only" = the base model, no picture, no box;
    "text_only_pasted" = those pictures with the right subject pasted into the box, as in "real":
    what is left of the scene once a subject stands in it; "shuffled" = the full model with another
    held-out subject's picture under the same caption; "real" = another view of the right subject
    pasted into the box; "real_vae" = the same through the autoencoder.
    """

    name: str
    kind: str
    source: Source
    title: str


ROWS = (
    Row(name="one_subject", kind="one", source="subject", title="one subject"),
    Row(name="one_text_only", kind="one", source="text_only", title="one: text only"),
    Row(name="one_shuffled", kind="one", source="shuffled", title="one: shuffled reference"),
    Row(name="one_real", kind="one", source="real", title="one: real composites"),
    Row(name="one_real_vae", kind="one", source="real_vae", title="one: real through the VAE"),
    Row(name="two_subjects", kind="two", source="subject", title="two subjects"),
    Row(name="swap", kind="swap", source="subject", title="swap pairs"),
    Row(name="two_text_only", kind="two", source="text_only", title="two: text only"),
    Row(name="two_shuffled", kind="two", source="shuffled", title="two: shuffled references"),
    Row(name="two_real", kind="two", source="real", title="two: real composites"),
    Row(name="one_seen_scene", kind="seen_scene", source="subject", title="one, scene seen"),
    Row(
        name="one_seen_text_only",
        kind="seen_scene",
        source="text_only",
        title="one, scene seen: text only",
    ),
    Row(
        name="one_seen_text_pasted",
        kind="seen_scene",
        source="text_only_pasted",
        title="one, scene seen: text only, real subject pasted in",
    ),
    Row(name="two_real_vae", kind="two", source="real_vae", title="two: real through the VAE"),
    Row(name="three_subjects", kind="three", source="subject", title="three subjects"),
    Row(
        name="three_real_vae", kind="three", source="real_vae", title="three: real through the VAE"
    ),
    Row(name="four_subjects", kind="four", source="subject", title="four subjects"),
    Row(name="four_real_vae", kind="four", source="real_vae", title="four: real through the VAE"),
)


def generation_request(
    library: Library, query: Query, source: Source, reference_size: int
) -> GenerationRequest:
    """What the sampler is given for a query; text only gives the prompt alone."""
    subjects = () if source.startswith("text_only") else query.subjects
    rows = [s.shuffled_row if source == "shuffled" else s.reference_row for s in subjects]
    return GenerationRequest(
        prompt=query.prompt,
        subjects=tuple(
            SubjectRequest(
                reference=reference_image(np.asarray(library.cutouts[row]), reference_size),
                label=subject.label,
                box_xyxy=subject.box_xyxy,
            )
            for row, subject in zip(rows, subjects, strict=True)
        ),
        seed=query.seed,
    )


def contained_box(box_px: Box, width: int, height: int) -> Box:
    """The largest box of aspect ``width`` : ``height`` inside ``box_px``, centred in it.

    >>> contained_box((0, 0, 40, 20), 10, 10)
    (10, 0, 30, 20)
    """
    x1, y1, x2, y2 = box_px
    scale = min((x2 - x1) / width, (y2 - y1) / height)
    new_width, new_height = max(2, round(width * scale)), max(2, round(height * scale))
    left, top = x1 + (x2 - x1 - new_width) // 2, y1 + (y2 - y1 - new_height) // 2
    return left, top, left + new_width, top + new_height


def pasted_boxes(library: Library, query: Query) -> list[Box]:
    """Where :func:`paste_subjects` puts the query's subjects, in pixels."""
    cutouts = [library.cutout(subject.target_row) for subject in query.subjects]
    return [
        contained_box(subject.box_px, cutout.width, cutout.height)
        for subject, cutout in zip(query.subjects, cutouts, strict=True)
    ]


def paste_subjects(library: Library, query: Query, background: np.ndarray) -> np.ndarray:
    """The right subjects, from other views, pasted into the boxes of a picture (H, H, 3) uint8."""
    cutouts = [library.cutout(subject.target_row) for subject in query.subjects]
    boxes_px = pasted_boxes(library, query)
    rng = np.random.default_rng(query.seed)
    composite = compose(
        cutouts, background, query.scene, rng, boxes_px=boxes_px, flipped=[False] * len(cutouts)
    )
    return composite.image


def real_composite(library: Library, query: Query) -> np.ndarray:
    """The right subjects in a photograph of the scene: (H, H, 3) uint8."""
    return paste_subjects(library, query, np.asarray(library.backgrounds[query.background_row]))


@torch.no_grad()
def through_autoencoder(autoencoder: Autoencoder, images: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures (H, H, 3) uint8, encoded and decoded: (Q, H, H, 3) uint8."""
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    return to_pictures(decode_latents(autoencoder, encode_latents(autoencoder, pixels)))
