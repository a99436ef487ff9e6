"""Apply: the adapter on a MODEL and a CLIP."""

from __future__ import annotations

from comfy_api.latest import io

from ...subject_diffusion_core.errors import require_finite_numbers
from ..host.advanced_inputs import advanced
from ..host.comfy_types import AdapterType, Clip, Model, Patcher
from ..host.schedule import make_hook, require_switchable
from ..host.search_words import search_words
from .block_weights import parse_block_weights
from .family import ATTACHMENT_KEY, AppliedAdapter, LoadedAdapter, applied_adapter

NODE_NAME = "Subject-Diffusion Apply"


class SubjectDiffusionApply(io.ComfyNode):
    """MODEL and CLIP of a base model -> the same with the adapter."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionApply",
            display_name=NODE_NAME,
            category="Subject-Diffusion",
            description=(
                "Puts the adapter on MODEL and CLIP. LoRAs may come before or after it. Strength 0 "
                "gives the base model unchanged."
            ),
            **search_words("ipadapter", "reference image", "personalise", "personalize"),
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The base model the adapter was trained on (e.g. SD 1.5, SDXL).",
                ),
                io.Clip.Input("clip", tooltip="The text encoder of the same base model."),
                AdapterType.Input("adapter", tooltip="From Adapter Loader or Tiny Loader."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="How strongly the subjects act. 1 = as trained, 0 = the base model.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Where in the sampling the adapter begins to act; before it the base "
                    "model runs.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Where in the sampling the adapter stops; after it the base model "
                    "runs.",
                ),
                io.String.Input(
                    "block_weights",
                    default="",
                    optional=True,
                    tooltip="Strength of single blocks' adapters, e.g. down=1, mid=0.5, up=0.8, or "
                    "by block name or number; the others have 1. Empty: all 1. IP-Adapter and "
                    "MS-Diffusion also know style, composition, ease in and ease out.",
                    **advanced(),
                ),
            ],
            outputs=[
                io.Model.Output(display_name="MODEL", tooltip="For the sampler or the guider."),
                io.Clip.Output(display_name="CLIP", tooltip="For Subject-Diffusion Encode."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Model,
        clip: Clip,
        adapter: LoadedAdapter,
        strength: float,
        start_percent: float,
        end_percent: float,
        block_weights: str = "",
    ) -> io.NodeOutput:
        return io.NodeOutput(
            *apply_adapter(
                model, clip, adapter, strength, start_percent, end_percent, block_weights
            )
        )


def apply_adapter(
    model: Model,
    clip: Clip,
    adapter: LoadedAdapter,
    strength: float = 1.0,
    start_percent: float = 0.0,
    end_percent: float = 1.0,
    block_weights: str = "",
) -> tuple[Model, Clip]:
    """Clones of MODEL and CLIP that carry the adapter; the originals stay as they are."""
    require_finite_numbers(
        NODE_NAME, strength=strength, start_percent=start_percent, end_percent=end_percent
    )
    adapter.require_base(model)
    weights = parse_block_weights(
        block_weights, adapter.block_names(model), adapter.block_presets(model)
    )
    _require_unused(model, "model")
    _require_unused(clip.patcher, "clip")
    is_switched = adapter.changes_weights and (start_percent > 0.0 or end_percent < 1.0)
    applied = AppliedAdapter(
        loaded=adapter,
        strength=strength,
        start_percent=start_percent,
        end_percent=end_percent,
        text_patches=adapter.text_patches(clip),
        block_strengths={name: strength * weight for name, weight in weights.items()},
        hook=make_hook(strength, start_percent, end_percent) if is_switched else None,
    )
    model, clip = model.clone(), clip.clone()
    model.set_attachments(ATTACHMENT_KEY, applied)
    clip.patcher.set_attachments(ATTACHMENT_KEY, applied)
    if applied.is_active:
        if applied.hook is not None:
            require_switchable(model, start_percent, end_percent)
        clip.add_patches(applied.text_patches, strength)
        adapter.attach(model, applied)
    return model, clip


def _require_unused(patcher: Patcher, kind: str) -> None:
    there = applied_adapter(patcher)
    if there is not None:
        raise ValueError(
            f"{kind}: expected a {kind.upper()} without a Subject-Diffusion adapter, got one "
            f"that has '{there.loaded.name}'. Use one Subject-Diffusion Apply node per MODEL."
        )
