"""Guider: the paper's guidance with three branches."""

from __future__ import annotations

import math
from functools import partial

import comfy.samplers
import torch
from comfy_api.latest import io

from ...subject_diffusion_core.errors import require_finite_numbers
from ...subject_diffusion_core.guidance import three_branch_guidance
from ..host.comfy_types import Conditioning, Model, Options
from .family import require_adapter

NODE_NAME = "Subject-Diffusion Guider"


class ThreeBranchGuider(comfy.samplers.CFGGuider):
    """Core's `three_branch_guidance`, on denoised predictions.

    It is ComfyUI's DualCFGGuider in style "regular" with cfg_conds = s_t and cfg_cond2_negative =
    s_i. A branch whose weight is zero is not computed.
    """

    text_guidance_scale = 1.0
    image_guidance_scale = 1.0

    def set_branches(
        self, positive: Conditioning, image_only: Conditioning, negative: Conditioning
    ) -> None:
        self.inner_set_conds({"positive": positive, "image_only": image_only, "negative": negative})

    def set_scales(self, text_guidance_scale: float, image_guidance_scale: float) -> None:
        self.text_guidance_scale = text_guidance_scale
        self.image_guidance_scale = image_guidance_scale

    def predict_noise(
        self,
        x: torch.Tensor,
        timestep: torch.Tensor,
        model_options: Options | None = None,
        seed: int | None = None,
        **_kwargs: object,
    ) -> torch.Tensor:
        options = model_options or {}
        positive, image_only = self.conds["positive"], self.conds["image_only"]
        negative = self.conds["negative"]
        if not options.get("disable_cfg1_optimization", False) and math.isclose(
            self.image_guidance_scale, 1.0
        ):
            negative = None
            if math.isclose(self.text_guidance_scale, 1.0):
                image_only = None
        uncond, image, text = comfy.samplers.calc_cond_batch(
            self.inner_model, [negative, image_only, positive], x, timestep, options
        )
        # ComfyUI's own plain guidance, as other nodes' functions take part in it
        image_guidance = partial(
            comfy.samplers.cfg_function,
            self.inner_model,
            x=x,
            timestep=timestep,
            model_options=options,
            cond=image_only,
            uncond=negative,
        )
        return three_branch_guidance(
            text,
            image,
            uncond,
            self.text_guidance_scale,
            self.image_guidance_scale,
            image_guidance=image_guidance,
        )


class SubjectDiffusionGuider(io.ComfyNode):
    """MODEL and the three conditionings -> GUIDER for Sampler Custom Advanced."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionGuider",
            display_name=NODE_NAME,
            category="Subject-Diffusion",
            description=(
                "Guidance with separate scales for the prompt and for the subjects, in one model "
                "call per step. Connect it to Sampler Custom Advanced."
            ),
            inputs=[
                io.Model.Input("model", tooltip="The MODEL output of Subject-Diffusion Apply."),
                io.Conditioning.Input("positive", tooltip="positive of Subject-Diffusion Encode."),
                io.Conditioning.Input(
                    "image_only", tooltip="image_only of Subject-Diffusion Encode."
                ),
                io.Conditioning.Input("negative", tooltip="negative of Subject-Diffusion Encode."),
                io.Float.Input(
                    "text_guidance_scale",
                    default=3.0,
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    tooltip="How strictly the prompt is followed (3 in the paper).",
                ),
                io.Float.Input(
                    "image_guidance_scale",
                    default=1.5,
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    tooltip="How strictly the subjects are followed (1.5 in the paper).",
                ),
            ],
            outputs=[io.Guider.Output(display_name="GUIDER", tooltip="For the sampler.")],
        )

    @classmethod
    def execute(
        cls,
        model: Model,
        positive: Conditioning,
        image_only: Conditioning,
        negative: Conditioning,
        text_guidance_scale: float,
        image_guidance_scale: float,
    ) -> io.NodeOutput:
        require_adapter(model, "MODEL", NODE_NAME)
        require_finite_numbers(
            NODE_NAME,
            text_guidance_scale=text_guidance_scale,
            image_guidance_scale=image_guidance_scale,
        )
        guider = ThreeBranchGuider(model)
        guider.set_branches(positive, image_only, negative)
        guider.set_scales(text_guidance_scale, image_guidance_scale)
        return io.NodeOutput(guider)
