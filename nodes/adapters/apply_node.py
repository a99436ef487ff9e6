"""Apply: the adapter on a MODEL and a CLIP."""

from __future__ import annotations

from typing import Any

import comfy.patcher_extension
from comfy_api.latest import io

from ...subject_diffusion_core.errors import require_finite_numbers
from ..host.sampling_setup import make_outer_sample_wrapper, null_branch
from ..host.schedule import add_scheduled_patches
from ..host.unet_geometry import UnetGeometry, read_unet_geometry, require_matching_base
from ..host.weight_diffs import text_encoder_diffs, unet_weight_diffs
from .adapter_types import (
    ATTACHMENT_KEY,
    AdapterType,
    AppliedAdapter,
    LoadedAdapter,
    applied_adapter,
)
from .block_weights import parse_block_weights
from .subject_diffusion.adapter_modules import build_adapter_patcher
from .subject_diffusion.unet_patches import (
    make_diffusion_model_wrapper,
    make_input_block_patch,
    make_middle_patch,
)

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
            inputs=[
                io.Model.Input(
                    "model", tooltip="The base model the adapter was trained on (e.g. SD 2 base)."
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
                    "by block name or number; the others have 1. Empty: all 1.",
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
        model: Any,
        clip: Any,
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
    model: Any,
    clip: Any,
    adapter: LoadedAdapter,
    strength: float = 1.0,
    start_percent: float = 0.0,
    end_percent: float = 1.0,
    block_weights: str = "",
) -> tuple[Any, Any]:
    """Clones of MODEL and CLIP that carry the adapter; the originals stay as they are."""
    weights = parse_block_weights(block_weights, [b.name for b in adapter.config.adapter_blocks])
    require_finite_numbers(
        NODE_NAME, strength=strength, start_percent=start_percent, end_percent=end_percent
    )
    geometry = read_unet_geometry(model)
    require_matching_base(geometry, adapter.config, adapter.name)
    for patcher, kind in ((model, "model"), (clip.patcher, "clip")):
        if applied_adapter(patcher) is not None:
            raise ValueError(
                f"{kind}: expected a {kind.upper()} without a Subject-Diffusion adapter, got one "
                f"that has '{applied_adapter(patcher).loaded.name}'. Use one Subject-Diffusion "
                "Apply node per MODEL."
            )
    applied = AppliedAdapter(
        loaded=adapter,
        strength=strength,
        start_percent=start_percent,
        end_percent=end_percent,
        text_patches=text_encoder_diffs(clip, adapter),
        block_strengths={name: strength * weight for name, weight in weights.items()},
    )
    model, clip = model.clone(), clip.clone()
    model.set_attachments(ATTACHMENT_KEY, applied)
    clip.patcher.set_attachments(ATTACHMENT_KEY, applied)
    if applied.is_active:
        clip.add_patches(applied.text_patches, strength)
        _attach_to_model(model, geometry, applied)
    return model, clip


def _attach_to_model(model: Any, geometry: UnetGeometry, applied: AppliedAdapter) -> None:
    loaded, strength = applied.loaded, applied.strength
    patcher = build_adapter_patcher(loaded, model)
    modules = patcher.model
    diffs = unet_weight_diffs(model, geometry, loaded)
    hook = None
    if applied.is_always_on:
        model.add_patches(diffs, strength)
    else:
        hook = add_scheduled_patches(model, diffs, applied)
    block_names = {geometry.blocks[name].location: name for name in modules.block_names}
    null = null_branch(loaded.config, loaded.fingerprint)
    wrappers = comfy.patcher_extension.WrappersMP
    model.set_additional_models(ATTACHMENT_KEY, [patcher])
    model.add_wrapper_with_key(
        wrappers.OUTER_SAMPLE, ATTACHMENT_KEY, make_outer_sample_wrapper(applied, hook)
    )
    model.add_wrapper_with_key(
        wrappers.DIFFUSION_MODEL, ATTACHMENT_KEY, make_diffusion_model_wrapper(modules, null)
    )
    model.set_model_patch(
        make_middle_patch(modules, block_names, applied.block_strengths), "middle_patch"
    )
    model.set_model_input_block_patch(make_input_block_patch(strength))
