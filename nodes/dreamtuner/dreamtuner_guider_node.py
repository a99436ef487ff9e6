"""DreamTuner Guider: guidance towards the subjects' pictures and towards the prompt, in turns."""

from __future__ import annotations

import math
import random
from functools import partial
from typing import Any, Literal, get_args

import comfy.samplers
import torch
from comfy_api.latest import io

from ...subject_diffusion_core.dreamtuner import expected_guidance
from ..host.comfy_types import Conditioning, Model, Options
from ..host.node_warnings import show_warnings
from ..host.plain_guidance import plain_guidance
from .references import has_references, without_references
from .steps import level_of_step
from .subject_attention import ATTACHMENT_KEY

NODE_NAME = "Subject-Diffusion DreamTuner Guider"
Mode = Literal["interleaved", "expected"]
MODES = get_args(Mode)
# Samplers that carry predictions of earlier steps on, which then belong to another formula.
MULTISTEP = ("lms", "ipndm", "deis", "res_multistep", "uni_pc", "unipc", "2m", "3m", "er_sde",
             "sa_solver", "gradient_estimation")  # fmt: skip


class DreamTunerGuider(comfy.samplers.CFGGuider):
    """DreamTuner eq. 4 to 6 on denoised predictions; each is ComfyUI's own plain guidance, so other
    nodes' functions take part in it. A branch that a step does not need is not computed."""

    mode: Mode = MODES[0]
    reference_guidance_scale = 1.0
    text_guidance_scale = 1.0
    reference_probability = 0.0
    draw_seed = -1

    def set_branches(self, positive: Conditioning, negative: Conditioning) -> None:
        plain = without_references(positive)
        self.inner_set_conds({"positive": positive, "plain": plain, "negative": negative})

    def set_guidance(
        self,
        mode: Mode,
        reference_guidance_scale: float,
        text_guidance_scale: float,
        reference_probability: float,
        draw_seed: int = -1,
    ) -> None:
        """`draw_seed` below 0: the sampler's seed decides which steps follow the references."""
        self.mode = mode
        self.reference_guidance_scale = reference_guidance_scale
        self.text_guidance_scale = text_guidance_scale
        self.reference_probability = reference_probability
        self.draw_seed = draw_seed

    def sample(
        self, noise: torch.Tensor, latent_image: torch.Tensor, sampler: Any, *args: Any, **kw: Any
    ) -> Any:
        name = getattr(getattr(sampler, "sampler_function", None), "__name__", "")
        jumps = self.mode == "interleaved" and self._is_mixed
        if jumps and any(kind in name for kind in MULTISTEP):
            show_warnings(
                [
                    f"mode interleaved changes the guidance from step to step, and {name} carries "
                    "earlier steps on. Choose mode expected, or euler, heun or dpm_2."
                ]
            )
        return super().sample(noise, latent_image, sampler, *args, **kw)

    def predict_noise(
        self,
        x: torch.Tensor,
        timestep: torch.Tensor,
        model_options: Options | None = None,
        seed: int | None = None,
        **_kwargs: Any,
    ) -> torch.Tensor:
        options = model_options or {}
        if self.mode == "expected" and self._is_mixed:
            return self._expected(x, timestep, options)
        if self._follows_reference(timestep, options, seed or 0):
            other, scale = self.conds["plain"], self.reference_guidance_scale
        else:
            other, scale = self.conds["negative"], self.text_guidance_scale
        guided: torch.Tensor = comfy.samplers.sampling_function(
            self.inner_model,
            x,
            timestep,
            other,
            self.conds["positive"],
            scale,
            model_options=options,
            seed=seed,
        )
        return guided

    def _follows_reference(self, timestep: torch.Tensor, options: Options, seed: int) -> bool:
        sigmas = options.get("transformer_options", {}).get("sample_sigmas")
        level = level_of_step(timestep, sigmas)
        draw_seed = seed if self.draw_seed < 0 else self.draw_seed
        return use_reference(self.reference_probability, draw_seed, level)

    @property
    def _is_mixed(self) -> bool:
        return 0.0 < self.reference_probability < 1.0

    def _expected(self, x: torch.Tensor, timestep: torch.Tensor, options: Options) -> torch.Tensor:
        scales = {
            "plain": self.reference_guidance_scale,
            "negative": self.text_guidance_scale,
        }
        may_leave_out = not options.get("disable_cfg1_optimization", False)
        others = {
            name: None if may_leave_out and math.isclose(scale, 1.0) else self.conds[name]
            for name, scale in scales.items()
        }
        positive = self.conds["positive"]
        pred_cond_ref, pred_cond, pred_uncond_ref = comfy.samplers.calc_cond_batch(
            self.inner_model, [positive, *others.values()], x, timestep, options
        )
        towards_reference, towards_text = (
            partial(
                plain_guidance,
                self.inner_model,
                x=x,
                timestep=timestep,
                options=options,
                cond=positive,
                uncond=other,
            )
            for other in others.values()
        )
        return expected_guidance(
            pred_cond_ref,
            pred_cond,
            pred_uncond_ref,
            self.reference_guidance_scale,
            self.text_guidance_scale,
            self.reference_probability,
            reference_guidance=towards_reference,
            text_guidance=towards_text,
        )


def use_reference(reference_probability: float, seed: int, level: float) -> bool:
    """lambda < p_r of DreamTuner eq. 6: one draw for a step and all its samples.

    Args:
        level: sigma at which the step begins. A schedule that is sampled in two stages has the same
            draws as in one. Heun's second call, at the level where the next step begins, has the
            next step's, so that the guidance is a function of the noise level.

    >>> [use_reference(0.5, 3, level) for level in (14.6, 10.0, 1.5, 0.3)]
    [False, True, False, True]
    """
    # four digits, as schedules differ in the last ones from device to device
    return random.Random(f"{seed} {level:.4g}").random() < reference_probability


class SubjectDiffusionDreamTunerGuider(io.ComfyNode):
    """MODEL and conditionings of Self-Subject Attention -> GUIDER for Sampler Custom Advanced."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionDreamTunerGuider",
            display_name=NODE_NAME,
            category="Subject-Diffusion",
            description=(
                "Guidance with separate scales for the subjects' pictures and for the prompt, for "
                "Self-Subject Attention. Connect it to Sampler Custom Advanced."
            ),
            inputs=[
                io.Model.Input("model", tooltip="MODEL of Self-Subject Attention."),
                io.Conditioning.Input("positive", tooltip="positive of Self-Subject Attention."),
                io.Conditioning.Input("negative", tooltip="negative of Self-Subject Attention."),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default=MODES[0],
                    tooltip="interleaved: each step follows either the subjects or the prompt, as "
                    "in the paper. expected: each step follows the mean of both; slower, and right "
                    "for multistep samplers such as DPM++ 2M.",
                ),
                io.Float.Input(
                    "reference_guidance_scale",
                    default=2.0,
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    tooltip="How strictly the subjects' pictures are followed. 1 = as the model "
                    "sees them.",
                ),
                io.Float.Input(
                    "text_guidance_scale",
                    default=7.5,
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    tooltip="How strictly the prompt is followed.",
                ),
                io.Float.Input(
                    "reference_probability",
                    default=0.9,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="The share of the steps that follow the subjects (0.9 in the paper); "
                    "the sampler's seed decides which.",
                ),
                io.Int.Input(
                    "draw_seed",
                    default=-1,
                    min=-1,
                    max=2147483647,
                    control_after_generate=False,
                    optional=True,
                    tooltip="For mode interleaved: decides which steps follow the subjects. -1 = "
                    "the sampler's seed; give a number where a schedule is sampled in two stages, "
                    "as the second one has no noise and so no seed of its own.",
                ),
            ],
            outputs=[io.Guider.Output(display_name="GUIDER", tooltip="For the sampler.")],
        )

    @classmethod
    def execute(
        cls,
        model: Model,
        positive: Conditioning,
        negative: Conditioning,
        mode: Mode,
        reference_guidance_scale: float,
        text_guidance_scale: float,
        reference_probability: float,
        draw_seed: int = -1,
    ) -> io.NodeOutput:
        _warn_without_references(model, positive)
        guider = DreamTunerGuider(model)
        guider.set_branches(positive, negative)
        guider.set_guidance(
            mode,
            reference_guidance_scale,
            text_guidance_scale,
            reference_probability,
            draw_seed,
        )
        return io.NodeOutput(guider)


def _warn_without_references(model: Model, positive: Conditioning) -> None:
    """Not an error: an omega_ref of 0 leaves model and conditionings as they were."""
    if model.get_attachment(ATTACHMENT_KEY) is None or not has_references(positive):
        show_warnings(
            [
                f"{NODE_NAME}: no subjects' pictures take part. Connect MODEL, positive and "
                "negative of Self-Subject Attention, with an omega_ref above 0."
            ]
        )
