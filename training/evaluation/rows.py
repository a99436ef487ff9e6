"""The rows of the table: the model, its controls and the bounds; and how pictures are sampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Source = Literal["subject", "text_only", "text_only_pasted", "shuffled", "real", "real_vae"]
PASTED_SOURCES: tuple[Source, ...] = ("text_only_pasted", "real", "real_vae")
DEFAULT_COUNT = 200  # pictures of a row
PRECISIONS = ("float32", "bfloat16")
ORDINALS = ("first", "second", "third", "fourth")  # of a picture's subjects


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How pictures are generated; all of it is printed with the table."""

    steps: int = 20
    text_guidance_scale: float = 4.0
    image_guidance_scale: float = 5.0
    text_only_guidance_scale: float = 3.0
    precision: str = "float32"
    batch_size: int = 32


@dataclass(frozen=True)
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
    Row("one_subject", "one", "subject", "one subject"),
    Row("one_text_only", "one", "text_only", "one: text only"),
    Row("one_shuffled", "one", "shuffled", "one: shuffled reference"),
    Row("one_real", "one", "real", "one: real composites"),
    Row("one_real_vae", "one", "real_vae", "one: real through the VAE"),
    Row("two_subjects", "two", "subject", "two subjects"),
    Row("swap", "swap", "subject", "swap pairs"),
    Row("two_text_only", "two", "text_only", "two: text only"),
    Row("two_shuffled", "two", "shuffled", "two: shuffled references"),
    Row("two_real", "two", "real", "two: real composites"),
    Row("one_seen_scene", "seen_scene", "subject", "one, scene seen"),
    Row("one_seen_text_only", "seen_scene", "text_only", "one, scene seen: text only"),
    Row(
        "one_seen_text_pasted",
        "seen_scene",
        "text_only_pasted",
        "one, scene seen: text only, real subject pasted in",
    ),
    Row("two_real_vae", "two", "real_vae", "two: real through the VAE"),
    Row("three_subjects", "three", "subject", "three subjects"),
    Row("three_real_vae", "three", "real_vae", "three: real through the VAE"),
    Row("four_subjects", "four", "subject", "four subjects"),
    Row("four_real_vae", "four", "real_vae", "four: real through the VAE"),
)
