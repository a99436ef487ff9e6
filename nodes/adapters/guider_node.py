"""Guider: the paper's guidance with three branches."""

from __future__ import annotations

import math
from functools import partial

import comfy.model_patcher
import comfy.patcher_extension
import comfy.samplers
import torch
from comfy_api.latest import io

from ...subject_diffusion_core.guidance import three_branch_guidance
from ..host.advanced_inputs import advanced
from ..host.comfy_types import Conditioning, Control, Executor, Model, Options
from ..host.equal_branches import say_the_same
from ..host.node_warnings import show_text, show_warnings
from ..host.plain_guidance import Entries, plain_guidance
from .family import ATTACHMENT_KEY, LoadedAdapter, require_adapter

NODE_NAME = "Subject-Diffusion Guider"
TEXT_SCALE, IMAGE_SCALE = 3.0, 1.5  # the paper's


# What patches are told of negative, image-only and positive, the order in which they are computed:
# as by ComfyUI's own guider, 1 for what is guided away from and 0 for what is guided towards.
TOLD_TO_PATCHES = (1, 0, 0)


class ThreeBranchGuider(comfy.samplers.CFGGuider):
    """Core's `three_branch_guidance`, on denoised predictions.

    It is ComfyUI's DualCFGGuider in style "regular" with cfg_conds = s_t and cfg_cond2_negative =
    s_i. A branch whose weight is zero is not computed: without the image-only one, whose weight is
    s_i - s_t, it is plain guidance of the positive. Where image-only and negative say the same, as
    outside of Apply's start and end, one prediction serves both. Outside of the guidance's own
    start and end both scales are 1.
    """

    text_guidance_scale = 1.0
    image_guidance_scale = 1.0
    start_percent = 0.0
    end_percent = 1.0

    def set_branches(
        self, positive: Conditioning, image_only: Conditioning, negative: Conditioning
    ) -> None:
        self.inner_set_conds({"positive": positive, "image_only": image_only, "negative": negative})

    def set_scales(self, text_guidance_scale: float, image_guidance_scale: float) -> None:
        self.text_guidance_scale = text_guidance_scale
        self.image_guidance_scale = image_guidance_scale

    def set_range(self, start_percent: float, end_percent: float) -> None:
        self.start_percent, self.end_percent = start_percent, end_percent

    def predict_noise(
        self,
        x: torch.Tensor,
        timestep: torch.Tensor,
        model_options: Options | None = None,
        seed: int | None = None,
        **_kwargs: object,
    ) -> torch.Tensor:
        options = _telling_patches(model_options or {})
        text_scale, image_scale = self._scales_at(timestep)
        computed = _branches_with_weight(self.conds, text_scale, image_scale, options)
        negative, image_only, positive = computed
        is_twice = _is_twice(image_only, negative, timestep, options)
        if is_twice:
            computed = [negative, None, positive]
        uncond, image, text = comfy.samplers.calc_cond_batch(
            self.inner_model, computed, x, timestep, options
        )
        if is_twice:
            image = uncond
        # ComfyUI's own plain guidance, as other nodes' functions take part in it
        guidance = partial(
            plain_guidance, self.inner_model, x=x, timestep=timestep, options=options
        )
        if image_only is None:
            return guidance(text, uncond, image_scale, cond=positive, uncond=negative)
        return three_branch_guidance(
            text,
            image,
            uncond,
            text_scale,
            image_scale,
            image_guidance=partial(guidance, cond=image_only, uncond=negative),
        )

    def _scales_at(self, timestep: torch.Tensor) -> tuple[float, float]:
        """Text and image scale at a step, which begins inside of start and end or not."""
        if self.start_percent > 0.0 or self.end_percent < 1.0:
            to_sigma = self.inner_model.model_sampling.percent_to_sigma
            start, end = to_sigma(self.start_percent), to_sigma(self.end_percent)
            if not start >= float(timestep.flatten()[0]) > end:
                return 1.0, 1.0
        return self.text_guidance_scale, self.image_guidance_scale


def _branches_with_weight(
    conds: dict[str, Entries], text: float, image: float, options: Options
) -> list[Entries | None]:
    """Negative, image-only and positive; None for a branch that need not be computed."""
    weights = {"negative": 1.0 - image, "image_only": image - text, "positive": text}
    if options.get("disable_cfg1_optimization", False):
        weights = dict.fromkeys(weights, 1.0)
    return [
        None if math.isclose(weight, 0.0, abs_tol=1e-9) else conds[name]
        for name, weight in weights.items()
    ]


def _is_twice(
    image_only: Entries | None, negative: Entries | None, timestep: torch.Tensor, options: Options
) -> bool:
    """Whether one prediction serves for both."""
    if image_only is None or negative is None or options.get("disable_cfg1_optimization", False):
        return False
    return say_the_same(image_only, negative, timestep)


def _telling_patches(model_options: Options) -> Options:
    """A copy with which patches that ask for `cond_or_uncond` get the answer that they know."""
    options: Options = comfy.model_patcher.create_model_options_clone(model_options)
    comfy.patcher_extension.add_wrapper_with_key(
        comfy.patcher_extension.WrappersMP.APPLY_MODEL,
        ATTACHMENT_KEY,
        _tell_patches,
        options,
        is_model_options=True,
    )
    return options


def _tell_patches(
    executor: Executor,
    x: torch.Tensor,
    t: torch.Tensor,
    c_concat: torch.Tensor | None = None,
    c_crossattn: torch.Tensor | None = None,
    control: Control | None = None,
    transformer_options: Options | None = None,
    **kwargs: object,
) -> object:
    options = dict(transformer_options or {})
    if "cond_or_uncond" in options:
        options["cond_or_uncond"] = [TOLD_TO_PATCHES[i] for i in options["cond_or_uncond"]]
    return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)


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
                    default=TEXT_SCALE,
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    tooltip="How strictly the prompt is followed (3 in the paper).",
                ),
                io.Float.Input(
                    "image_guidance_scale",
                    default=IMAGE_SCALE,
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    tooltip="How strictly the subjects are followed (1.5 in the paper).",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    tooltip="Where in the sampling guidance begins. Before it only the positive is "
                    "computed, as with both scales at 1: a third of the time.",
                    **advanced(),
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    tooltip="Where in the sampling guidance ends. After it only the positive is "
                    "computed, as with both scales at 1: a third of the time.",
                    **advanced(),
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
        start_percent: float = 0.0,
        end_percent: float = 1.0,
    ) -> io.NodeOutput:
        applied = require_adapter(model, "MODEL", NODE_NAME)
        _warn_of_empty_range(start_percent, end_percent)
        _tell_measured(applied.loaded, text_guidance_scale, image_guidance_scale)
        guider = ThreeBranchGuider(model)
        guider.set_branches(positive, image_only, negative)
        guider.set_scales(text_guidance_scale, image_guidance_scale)
        guider.set_range(start_percent, end_percent)
        return io.NodeOutput(guider)


def _warn_of_empty_range(start_percent: float, end_percent: float) -> None:
    if start_percent >= end_percent:
        show_warnings(
            [
                f"start_percent {start_percent:g} is not before end_percent {end_percent:g}: there "
                "is no guidance, and the scales have no effect. Set start_percent below it."
            ]
        )


def _tell_measured(adapter: LoadedAdapter, text_scale: float, image_scale: float) -> None:
    """What the adapter's file says of guidance, to who has left the scales as they were."""
    measured = adapter.measured_guidance
    if measured is None or (text_scale, image_scale) != (TEXT_SCALE, IMAGE_SCALE):
        return
    text, image = measured.text_guidance_scale, measured.image_guidance_scale
    if (text, image) != (TEXT_SCALE, IMAGE_SCALE):
        show_text(
            [
                f"The adapter '{adapter.name}' was measured with text guidance {text:g} and image "
                f"guidance {image:g}; {text_scale:g} and {image_scale:g} are this node's defaults. "
                f"To draw as it was measured, set text_guidance_scale to {text:g} and "
                f"image_guidance_scale to {image:g}."
            ]
        )
