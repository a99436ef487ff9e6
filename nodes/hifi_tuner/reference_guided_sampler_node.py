"""Reference-Guided Sampler: a sampler that takes a subject's details from its picture."""

from __future__ import annotations

from typing import Any, get_args

import torch
from comfy_api.latest import io

from ...subject_diffusion_core.hifi_tuner.similarity import Algorithm
from ...subject_diffusion_core.pictures import is_subject
from ..adapters.texts import TextEncoder
from ..host.comfy_types import Clip, ClipVision, Latent, SubjectsType
from ..host.node_warnings import show_text, show_warnings
from ..host.picture_latents import checked_vae
from ..host.search_words import search_words
from ..subjects.reference_picture import LABEL, caption_of
from ..subjects.subject import Subject, Subjects
from ..subjects.subject_warnings import preview_warnings, region_warnings
from .closest_picture import similarities
from .guided_model import METHODS, Method
from .moved_reference import (
    MovedReference,
    move_reference,
    reference_cells,
    stretch_warnings,
    target_mask,
)
from .reference_guided_sampling import ReferenceGuidance, make_sampler

NODE_NAME = "Subject-Diffusion Reference-Guided Sampler"
ALGORITHMS = get_args(Algorithm)


class SubjectDiffusionReferenceGuidedSampler(io.ComfyNode):
    """A subject's picture and its place -> SAMPLER for Sampler Custom Advanced."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionReferenceGuidedSampler",
            display_name=NODE_NAME,
            category="Subject-Diffusion",
            description=(
                "HiFi Tuner's reference-guided generation: Euler's sampler, which in the middle of "
                "the sampling takes the details of one subject from its picture. For Sampler "
                "Custom Advanced with a CFG Guider and the scheduler ddim_uniform."
            ),
            inputs=[
                io.Clip.Input("clip", tooltip="The model's text encoder, for the caption."),
                io.Vae.Input("vae", tooltip="The model's VAE, for the subject's picture."),
                SubjectsType.Input("subjects", tooltip="One subject, with its mask."),
                io.Latent.Input(
                    "latent_image", tooltip="The latent that is sampled, for its size."
                ),
                *_guidance_inputs(),
                *_place_inputs(),
            ],
            outputs=[
                io.Sampler.Output(display_name="SAMPLER", tooltip="For Sampler Custom Advanced."),
                io.Image.Output(
                    display_name="reference", tooltip="The subject's picture, moved to its place."
                ),
                io.Mask.Output(display_name="mask", tooltip="Where it guides."),
            ],
            **search_words("HiFi Tuner", "null-text", "DDIM inversion"),
        )

    @classmethod
    def execute(
        cls,
        clip: Clip,
        vae: Any,
        subjects: Subjects,
        latent_image: Latent,
        method: Method,
        num_updates: int,
        learning_rate: float,
        start_percent: float,
        end_percent: float,
        caption: str,
        algorithm: Algorithm,
        max_angle: float,
        inversion_iterations: int,
        mask: torch.Tensor | None = None,
        generated: torch.Tensor | None = None,
        clip_vision: ClipVision | None = None,
    ) -> io.NodeOutput:
        subject = _one_reference(subjects)
        show_warnings([*preview_warnings((subject,)), *_why_nothing(start_percent, end_percent)])
        samples = latent_image["samples"]
        vae, texts = checked_vae(vae), TextEncoder(clip)
        factor = vae.spacial_compression_encode()
        height, width = (side * factor for side in samples.shape[-2:])
        target = target_mask(mask, subject, height, width)
        show_warnings(
            region_warnings((subject,), width, height)
            if mask is None
            else stretch_warnings(mask, height, width)
        )
        view = _closest(subject, target, generated, clip_vision)
        moved = _moved(subject, view, target, algorithm, max_angle)
        latent = vae.encode(moved.image[None])
        cells = reference_cells(moved.mask, latent)
        if bool(moved.mask.any()) and not bool(cells.any()):
            show_warnings(
                [
                    f"mask: {subject.name} is too small or thin in its place to fill half a cell "
                    "of the latent, so the sampler is Euler's. Connect a larger mask, or sample a "
                    "larger picture."
                ]
            )
        guidance = ReferenceGuidance(
            latent=latent,
            mask=cells,
            caption=texts.encode(caption_of(subject, caption)),
            method=method,
            num_updates=num_updates,
            learning_rate=learning_rate,
            start=start_percent,
            end=end_percent,
            num_iterations=inversion_iterations,
        )
        return io.NodeOutput(make_sampler(guidance), moved.image[None], moved.mask[None])


def _closest(
    subject: Subject,
    target: torch.Tensor,
    generated: torch.Tensor | None,
    clip_vision: ClipVision | None,
) -> int:
    """Which of the subject's pictures is the reference."""
    count = len(subject.images)
    if generated is not None and tuple(generated.shape[1:3]) != tuple(target.shape):
        (height, width), (rows, columns) = generated.shape[1:3], target.shape
        raise ValueError(
            f"generated: expected a picture of the latent's size, {columns} x {rows}, got "
            f"{width} x {height}. Connect the picture that the same noise gives."
        )
    if count == 1 or not bool(is_subject(target).any()):
        return 0
    if generated is None or clip_vision is None:
        show_warnings(
            [
                f"{subject.name} has {count} pictures, of which the first is the reference. To "
                "take the closest one, connect generated and clip_vision."
            ]
        )
        return 0
    cosines = similarities(subject, clip_vision, generated[0, ..., :3], target)
    view = int(cosines.argmax())
    show_text(
        [
            f"Picture {view + 1} of {count} of {subject.name} is the closest: cosine "
            f"{float(cosines[view]):.2f}."
        ]
    )
    return view


def _moved(
    subject: Subject, view: int, target: torch.Tensor, algorithm: Algorithm, max_angle: float
) -> MovedReference:
    assert subject.masks is not None
    image, mask = subject.images[view], subject.masks[view]
    if float(target.max()) > 0.0:
        return move_reference(image, mask, target, algorithm, max_angle)
    show_warnings(["mask: it is empty, so the sampler is Euler's. Connect where the subject is."])
    return MovedReference(image=torch.ones(*target.shape, 3), mask=target)


def _one_reference(subjects: Subjects) -> Subject:
    active = [subject for subject in subjects if subject.is_active]
    if len(active) != 1:
        raise ValueError(
            f"subjects: expected one with a strength above 0, got {len(active)}. Use a sampler for "
            "one of them."
        )
    if active[0].masks is None:
        raise ValueError(
            f"{active[0].name} has no mask: expected where it is in its picture. Connect one, for "
            "example of Segment."
        )
    return active[0]


def _why_nothing(start_percent: float, end_percent: float) -> list[str]:
    if start_percent <= end_percent:
        return []
    return ["start_percent is above end_percent, so the sampler is Euler's. Change one."]


def _guidance_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "method",
            options=list(METHODS),
            default=METHODS[0],
            tooltip="optimise: as in the paper, 12 times as slow in the guided steps. caption as "
            "negative: a shortcut without gradients.",
        ),
        io.Int.Input(
            "num_updates",
            default=10,
            min=0,
            max=100,
            tooltip="With optimise, how strongly the reference guides: updates per guided step (10 "
            "in the paper). 0 = Euler's sampler alone.",
        ),
        io.Float.Input(
            "learning_rate",
            default=0.01,
            min=0.0001,
            max=1.0,
            step=0.001,
            round=0.0001,
            tooltip="By how much an update changes the empty text.",
        ),
        io.Float.Input(
            "start_percent",
            default=0.2,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Where in the steps guiding begins: earlier changes the picture's structure.",
        ),
        io.Float.Input(
            "end_percent",
            default=0.8,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Where in the steps it ends: later than this, details no longer fit in.",
        ),
        io.String.Input(
            "caption",
            default=f"a photo of a {LABEL}",
            tooltip=f"What the subject's picture shows; {LABEL} is its label.",
        ),
    ]


def _place_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "algorithm",
            options=list(ALGORITHMS),
            default=ALGORITHMS[0],
            tooltip="How the picture is moved to its place: moments finds the best overlap of the "
            "masks; paper is algorithm 4 as printed, which never enlarges.",
        ),
        io.Float.Input(
            "max_angle",
            default=180.0,
            min=0.0,
            max=180.0,
            step=1.0,
            tooltip="How far it may be turned, in degrees; 0 = upright.",
        ),
        io.Int.Input(
            "inversion_iterations",
            default=1,
            min=0,
            max=10,
            tooltip="Repeats of each step of the inversion; more follow the picture more exactly.",
        ),
        io.Mask.Input(
            "mask",
            optional=True,
            tooltip="Where the subject stands in the picture that the same noise gives, such as of "
            "Segment; else the subject's region or box.",
        ),
        io.Image.Input(
            "generated",
            optional=True,
            tooltip="The picture that the same noise gives. With clip_vision beside it, the "
            "subject's picture that is closest to it is the reference, else the first one.",
        ),
        io.ClipVision.Input(
            "clip_vision",
            optional=True,
            tooltip="Compares the subject's pictures with the generated one: CLIP Vision or "
            "DINOv2; on the small model the one of Tiny Loader.",
        ),
    ]
