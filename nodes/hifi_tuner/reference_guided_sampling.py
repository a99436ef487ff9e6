# Shapes: B samples, C channels, h, w size of a latent, S noise levels, L vectors of a text.
"""HiFi Tuner algorithm 2 as a sampler of ComfyUI: Euler's steps, some of them guided by the
reference inside a mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import comfy.model_management
import comfy.samplers
import torch
from torch import nn
from tqdm.auto import trange

from ...subject_diffusion_core.hifi_tuner import (
    euler_step,
    guided_steps,
    inside_outside,
    invert_ddim,
    optimize_null_text,
)
from ..host.activation_memory import ActivationMemory
from ..host.comfy_types import Conditioning, Entry, Options
from ..host.context_prediction import CONTEXT, ContextPredictor
from ..host.gradients import (
    differentiable_options,
    gradients_through,
    networks_of,
)
from ..host.node_warnings import show_text
from ..host.plain_guidance import plain_guidance

Method = Literal["optimise", "caption as negative"]
METHODS = get_args(Method)
# What of a conditioning describes the generated picture alone, not the reference.
_OF_THE_PICTURE = ("area", "mask", "control", "timestep_start", "timestep_end", "gligen", "default")


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceGuidance:
    """How the reference guides.

    Attributes:
        latent: (1, C, h, w), the moved reference, as the VAE gives it.
        mask: (h, w) bool, True = its subject.
        caption: of the reference.
        method: "optimise" is the paper's; "caption as negative" takes the caption in place of the
            null text inside the mask, without gradients.
        num_updates: J, per guided step.
        start, end: in 0..1 of the steps, both included.
        num_iterations: of each step of the inversion.
    """

    latent: torch.Tensor
    mask: torch.Tensor
    caption: Conditioning
    method: Method
    num_updates: int
    learning_rate: float
    start: float
    end: float
    num_iterations: int

    def steps(self, num_steps: int) -> range:
        """Those that are guided; none where nothing would be."""
        is_off = self.method == "optimise" and self.num_updates == 0
        if is_off or not bool(self.mask.any()):
            return range(0)
        return guided_steps(num_steps, self.start, self.end)


def make_sampler(guidance: ReferenceGuidance) -> Any:
    """A SAMPLER."""
    return comfy.samplers.KSAMPLER(sample_with_reference, {"guidance": guidance})


def sample_with_reference(
    model: Any,
    x: torch.Tensor,
    sigmas: torch.Tensor,
    extra_args: dict[str, Any],
    callback: Callable[[dict[str, Any]], None] | None = None,
    disable: bool | None = None,
    *,
    guidance: ReferenceGuidance,
) -> torch.Tensor:
    """Called by ComfyUI like its own samplers; steps that are not guided are those of `euler`."""
    guided = guidance.steps(len(sigmas) - 1)
    run = GuidedRun(model.inner_model, extra_args, guidance, sigmas, x) if guided else None
    trajectory = run.invert() if run else None
    in_batch = x.new_ones([x.shape[0]])
    for index in trange(len(sigmas) - 1, disable=disable):
        sigma, following = sigmas[index], sigmas[index + 1]
        if run is not None and trajectory is not None and index in guided:
            if index == guided[0]:
                x = inside_outside(trajectory[index].to(x), x, run.mask)
            following_x, denoised = run.step(x, sigma, following, trajectory[index + 1])
        else:
            denoised = model(x, sigma * in_batch, **extra_args)
            following_x = euler_step(x, denoised, sigma, following)
        if callback is not None:
            callback({"x": x, "i": index, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})
        x = following_x
    if run is not None:
        run.report()
    return x


class GuidedRun:
    """The guided steps of one sampling run."""

    def __init__(
        self,
        guider: Any,
        extra_args: dict[str, Any],
        guidance: ReferenceGuidance,
        sigmas: torch.Tensor,
        x: torch.Tensor,
    ) -> None:
        _require_guider(guider, extra_args)
        self._guidance = guidance
        self._inner_model = guider.inner_model
        self._positive, self._negative = guider.conds["positive"], guider.conds["negative"]
        self._scale = guider.cfg
        self._options: Options = extra_args["model_options"]
        self._sigmas = sigmas
        self._latent = guider.inner_model.process_latent_in(guidance.latent.to(x))
        if self._latent.shape[1:] != x.shape[1:]:
            raise ValueError(
                "latent_image: expected the one that is sampled, of shape "
                f"{tuple(x.shape[1:])}, got {tuple(self._latent.shape[1:])} in the "
                "reference-guided sampler. Connect the same latent to both."
            )
        self.mask = guidance.mask.to(x.device)
        self._caption = guidance.caption[0][0].to(x.device, torch.float32)
        null = self._negative[0]["model_conds"][CONTEXT].cond.float()
        self._null = null.expand(x.shape[0], -1, -1)
        self._losses: list[float] = []
        self._memory = ActivationMemory()

    def invert(self) -> torch.Tensor:
        """The reference's latents at all noise levels: (S, 1, C, h, w)."""
        values = self._guidance.caption[0][1]
        entry: Entry = {k: v for k, v in self._positive[0].items() if k not in _OF_THE_PICTURE}
        entry |= {"model_conds": {}, "cross_attn": self._caption}
        if values.get("pooled_output") is not None:
            entry["pooled_output"] = values["pooled_output"]
        predict = ContextPredictor(self._inner_model, entry, self._options)

        def denoise(latent: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            comfy.model_management.throw_exception_if_processing_interrupted()
            return predict(latent, sigma.expand(len(latent)), self._caption)

        return invert_ddim(
            denoise, self._latent, self._sigmas, num_iterations=self._guidance.num_iterations
        )

    def step(
        self, x: torch.Tensor, sigma: torch.Tensor, following: torch.Tensor, wanted: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """x_{t-1}, and the clean latent that it goes to.

        Args:
            wanted: (1, C, h, w), x*_{t-1}.
        """
        level = sigma.expand(len(x))
        positive, outside = comfy.samplers.calc_cond_batch(
            self._inner_model, [self._positive, self._negative], x, level, self._options
        )
        if self._guidance.method == "optimise":
            inside = self._optimised(x, sigma, following, positive, wanted)
        else:
            inside = self._predict_for(self._options)(x, level, self._caption)
        guided = inside_outside(
            self._guided(x, level, positive, inside, self._options),
            self._guided(x, level, positive, outside, self._options),
            self.mask,
        )
        return euler_step(x, guided, sigma, following), guided

    def _optimised(
        self,
        x: torch.Tensor,
        sigma: torch.Tensor,
        following: torch.Tensor,
        positive: torch.Tensor,
        wanted: torch.Tensor,
    ) -> torch.Tensor:
        """What the model says for phi_h after its updates; phi_h is kept for the next step."""
        options = differentiable_options(self._options)
        with gradients_through(*self._modules()):
            x, sigma, following, positive, wanted, null = (
                each.clone() for each in (x, sigma, following, positive, wanted, self._null)
            )
            level, mask = sigma.expand(len(x)), self.mask.clone()
            predict = self._predict_for(options)

            def next_latent(phi: torch.Tensor) -> torch.Tensor:
                comfy.model_management.throw_exception_if_processing_interrupted()
                guided = self._guided(x, level, positive, predict(x, level, phi), options)
                return euler_step(x, guided, sigma, following)

            self._null, losses = self._memory.run(
                lambda: optimize_null_text(
                    next_latent,
                    null,
                    wanted,
                    mask,
                    self._guidance.num_updates,
                    self._guidance.learning_rate,
                )
            )
        self._losses += [losses[0], losses[-1]]
        return self._predict_for(self._options)(x, level, self._null)

    def report(self) -> None:
        """How far the updates came, on the node."""
        if self._losses:
            before, after = (sum(self._losses[i::2]) / len(self._losses[i::2]) for i in (0, 1))
            show_text([f"Distance to the reference: {before:.2e} before, {after:.2e} after."])

    def _guided(
        self,
        x: torch.Tensor,
        level: torch.Tensor,
        positive: torch.Tensor,
        negative: torch.Tensor,
        options: Options,
    ) -> torch.Tensor:
        return plain_guidance(
            self._inner_model,
            positive,
            negative,
            self._scale,
            x=x,
            timestep=level,
            options=options,
            cond=self._positive,
            uncond=self._negative,
        )

    def _predict_for(self, options: Options) -> ContextPredictor:
        return ContextPredictor(self._inner_model, self._negative[0], options, "negative")

    def _modules(self) -> list[nn.Module]:
        """All networks that a gradient passes: the model, and ControlNets on the negative."""
        modules = networks_of(self._inner_model)
        control = self._negative[0].get("control")
        if control is not None:
            modules += [patcher.model for patcher in control.get_models()]
        return modules


def _require_guider(guider: Any, extra_args: dict[str, Any]) -> None:
    conds = getattr(guider, "conds", {})
    if set(conds) != {"positive", "negative"} or not hasattr(guider, "cfg"):
        raise ValueError(
            "guider: expected a CFG Guider, with a positive and a negative prompt, got "
            f"{type(guider).__name__}. Reference guidance optimises the negative one."
        )
    if guider.cfg == 1.0:
        raise ValueError(
            "cfg: expected another number than 1, got 1, at which the negative prompt, which "
            "reference guidance optimises, does not count. 7.5 is usual."
        )
    if len(conds["negative"]) != 1 or "area" in conds["negative"][0]:
        raise ValueError(
            "negative: expected one prompt for all of the picture, got "
            f"{len(conds['negative'])} or an area. Reference guidance optimises one."
        )
    if extra_args.get("denoise_mask") is not None:
        raise ValueError(
            "latent_image: expected a latent without a noise mask, got one with a mask. Remove Set "
            "Latent Noise Mask: the reference's own mask says where it acts."
        )
