"""Self-Subject Attention: a Stable Diffusion's self-attention sees the subjects' pictures."""

from __future__ import annotations

from typing import Any, Literal, get_args

import comfy.model_base
from comfy_api.latest import io

from ..adapters.texts import TextEncoder
from ..host.block_selection import select_blocks
from ..host.comfy_types import Clip, Conditioning, Model, SubjectsType
from ..host.layout_size import layout_size_values
from ..host.node_warnings import show_warnings
from ..host.picture_latents import checked_vae, latent_channels
from ..host.unet_geometry import Location, transformer_block_locations
from ..subjects.reference_picture import LABEL, caption_of
from ..subjects.subject import (
    Subjects,
    layout_size_of,
    require_relative_boxes,
)
from ..subjects.subject_warnings import box_warnings, preview_warnings
from .key_store import KeyStore
from .reference_pass import PassSettings
from .reference_pictures import read_references
from .references import BranchReferences, with_references
from .subject_attention import ATTACHMENT_KEY, attach_self_subject_attention

NODE_NAME = "Subject-Diffusion Self-Subject Attention"
Noise = Literal["fixed", "per step"]
NOISES = get_args(Noise)


class SubjectDiffusionSelfSubjectAttention(io.ComfyNode):
    """MODEL and conditionings -> the same, in whose self-attention the subjects' pictures are."""

    READS_ITSELF = frozenset({"vae"})  # has a sentence of its own

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionSelfSubjectAttention",
            display_name=NODE_NAME,
            category="Subject-Diffusion",
            description=(
                "DreamTuner's self-subject-attention: while the picture is made, it looks at the "
                "subjects' pictures. For any Stable Diffusion 1, 2 or XL, without other files; use "
                "it with every sampler."
            ),
            inputs=[
                io.Model.Input("model", tooltip="Any Stable Diffusion 1.x, 2.x or XL."),
                io.Clip.Input("clip", tooltip="Its text encoder, for the captions."),
                io.Vae.Input("vae", tooltip="Its VAE, for the subjects' pictures."),
                SubjectsType.Input("subjects", tooltip="From Subject or Layout nodes."),
                io.Conditioning.Input("positive", tooltip="The prompt."),
                io.Conditioning.Input("negative", tooltip="The negative prompt."),
                *_strength_inputs(),
                *_time_inputs(),
                *_reference_inputs(),
            ],
            outputs=[
                io.Model.Output(display_name="MODEL", tooltip="For the sampler or the guider."),
                io.Conditioning.Output(
                    display_name="positive", tooltip="The prompt, with the subjects' pictures."
                ),
                io.Conditioning.Output(
                    display_name="negative",
                    tooltip="The negative prompt, with the subjects' pictures.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Model,
        clip: Clip,
        vae: Any,
        subjects: Subjects,
        positive: Conditioning,
        negative: Conditioning,
        omega_ref: float,
        use_mask: bool,
        layers: str,
        start_percent: float,
        end_percent: float,
        time_bias_positive: int,
        time_bias_negative: int,
        reference_size: int,
        noise: Noise,
        noise_seed: int,
        caption: str = f"a photo of a {LABEL}",
        report_attention: bool = False,
        reuse_mb: int = 0,
    ) -> io.NodeOutput:
        locations = _checked_model(model, layers)
        subjects = tuple(subject for subject in subjects if subject.is_active)
        require_relative_boxes([subject for subject in subjects if subject.box is not None])
        acts = omega_ref > 0.0 and start_percent < end_percent and len(subjects) > 0
        if not acts:
            show_warnings([_why_nothing(subjects, omega_ref)])
            return io.NodeOutput(model, positive, negative)
        show_warnings([*box_warnings(subjects), *preview_warnings(subjects)])

        vae, channels, texts = checked_vae(vae), latent_channels(model), TextEncoder(clip)
        first = texts.encode(caption_of(subjects[0], caption))
        _require_pooled_outputs(model, first, positive, negative)
        references = tuple(
            read_references(
                subject,
                index,
                vae,
                texts.encode(caption_of(subject, caption)),
                omega_ref=omega_ref,
                use_mask=use_mask,
                reference_size=reference_size,
                latent_channels=channels,
            )
            for index, subject in enumerate(subjects)
        )

        # on clones of what came in
        model = model.clone()
        store = KeyStore(reuse_mb * 2**20) if reuse_mb > 0 else None
        settings = PassSettings(
            locations=locations, noise=noise, noise_seed=noise_seed, store=store
        )
        attach_self_subject_attention(
            model, settings, start_percent, end_percent, tells=report_attention
        )
        less_noisy = BranchReferences(
            subjects=references, time_bias=-time_bias_positive, is_watched=report_attention
        )
        noisier = BranchReferences(subjects=references, time_bias=time_bias_negative)
        size = layout_size_values(layout_size_of(subjects))
        return io.NodeOutput(
            model,
            [[text, {**values, **size}] for text, values in with_references(positive, less_noisy)],
            [[text, {**values, **size}] for text, values in with_references(negative, noisier)],
        )


def _strength_inputs() -> list[io.Input]:
    return [
        io.Float.Input(
            "omega_ref",
            default=3.0,
            min=0.0,
            max=20.0,
            step=0.1,
            tooltip="How strongly the picture looks at the subjects, times each one's strength: 3 "
            "for photos, 2.5 for anime in the paper; 0 = the model alone.",
        ),
        io.Boolean.Input(
            "use_mask",
            default=True,
            tooltip="Look at the subjects only, not at what is around them in their pictures.",
        ),
        io.String.Input(
            "layers",
            default="all",
            tooltip="Where it acts: all, or some of down, mid, up, blocks by name or number, with "
            "commas between. Fewer layers and a small omega_ref give style rather than likeness.",
        ),
    ]


def _time_inputs() -> list[io.Input]:
    return [
        io.Float.Input(
            "start_percent",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Where in the sampling it begins.",
        ),
        io.Float.Input(
            "end_percent",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Where in the sampling it ends.",
        ),
        io.Int.Input(
            "time_bias_positive",
            default=0,
            min=0,
            max=50,
            tooltip="By how many of 1000 timesteps the subjects' pictures are less noisy than the "
            "picture, for the prompt.",
        ),
        io.Int.Input(
            "time_bias_negative",
            default=0,
            min=0,
            max=50,
            tooltip="By how many of 1000 timesteps they are noisier, for the negative prompt. "
            "Different noise for the two takes one more pass a step.",
        ),
    ]


def _reference_inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "reference_size",
            default=768,
            min=0,
            max=4096,
            step=8,
            tooltip="Longest side of the subjects' pictures in pixels; larger ones are reduced, as "
            "they cost time. 0 = their own size.",
        ),
        io.Combo.Input(
            "noise",
            options=list(NOISES),
            default=NOISES[0],
            tooltip="Whether the subjects' pictures have the same noise at every step.",
        ),
        io.Int.Input(
            "noise_seed",
            default=0,
            min=0,
            max=2147483647,
            control_after_generate=False,
            tooltip="Decides that noise; the picture's own noise is the sampler's.",
        ),
        io.String.Input(
            "caption",
            default=f"a photo of a {LABEL}",
            optional=True,
            tooltip=f"What the subjects' pictures show; {LABEL} is each subject's label.",
        ),
        io.Boolean.Input(
            "report_attention",
            default=False,
            optional=True,
            tooltip="After the sampling, tell on the sampler how much of the attention went to "
            "each subject's pictures; Record Attention and Attention Maps then show where. Looks "
            "at every fourth step.",
        ),
        io.Int.Input(
            "reuse_mb",
            default=0,
            min=0,
            max=1048576,
            optional=True,
            tooltip="Megabytes of main memory for what the model says of the subjects' pictures: "
            "the next seeds then need not ask again. 0 = keep nothing.",
        ),
    ]


def _checked_model(model: Model, layers: str) -> frozenset[Location]:
    """The layers to act in."""
    locations = transformer_block_locations(model)
    if not locations:
        raise ValueError(
            "model: expected a UNet (Stable Diffusion 1, 2 or XL), got "
            f"{type(model.model).__name__}. Self-subject-attention works in a UNet's "
            "self-attention: load such a checkpoint."
        )
    if model.get_attachment(ATTACHMENT_KEY) is not None:
        raise ValueError(
            "model: expected a MODEL without self-subject-attention, got one that another "
            f"{NODE_NAME} made. Use one per MODEL, with all subjects."
        )
    return frozenset(locations[name] for name in select_blocks(layers, list(locations), "layers"))


def _require_pooled_outputs(
    model: Model, caption: Conditioning, positive: Conditioning, negative: Conditioning
) -> None:
    """Stable Diffusion XL takes one from every text."""
    if not isinstance(model.model, comfy.model_base.SDXL | comfy.model_base.SDXLRefiner):
        return
    for name, texts in (("clip", caption), ("positive", positive), ("negative", negative)):
        for _, values in texts:
            if values.get("pooled_output") is None and "unclip_conditioning" not in values:
                raise ValueError(
                    f"{name}: expected texts with a pooled output, as Stable Diffusion XL takes "
                    "one, got one without. Use the CLIP of the XL checkpoint, or a Dual CLIP "
                    "Loader of type sdxl, also for the prompts."
                )


def _why_nothing(subjects: Subjects, omega_ref: float) -> str:
    """What keeps it from acting."""
    if not subjects:
        return "subjects: none takes part, so the model stays as it is. Raise a strength above 0."
    if omega_ref == 0.0:
        return "omega_ref is 0, so the model stays as it is. Write 3 for photos, 2.5 for anime."
    return "start_percent is not below end_percent, so the model stays as it is. Change one."
