# Shapes: B samples, C channels, h, w size of a latent, S noise levels, L vectors of a text, d their
#         width.
"""The model of a CFG Guider inside one sampling run, as a sampler asks for the parts of its answer:
with the prompts, with a caption, and with a null text that is being optimised."""

from __future__ import annotations

from typing import Any, Literal, get_args

import comfy.model_management
import comfy.utils
import torch
from torch import nn

from ...subject_diffusion_core.hifi_tuner import euler_step, invert_ddim, optimize_null_text
from ..host.activation_memory import ActivationMemory
from ..host.comfy_types import Conditioning, Entry, Options
from ..host.context_prediction import CONTEXT, ContextPredictor
from ..host.gradients import differentiable_options, gradients_through, networks_of
from ..host.picture_latents import require_latent
from ..host.plain_guidance import plain_guidance
from ..host.unet_geometry import require_unet

Method = Literal["optimise", "caption as negative"]
METHODS = get_args(Method)
# What of a conditioning describes the generated picture alone, not a picture that was there before.
_OF_THE_PICTURE = ("area", "mask", "control", "timestep_start", "timestep_end", "gligen", "default")


class GuidedModel:
    """One positive prompt, one negative prompt, a scale, and the caption of a picture.

    Args:
        sigmas: (S,) of the run.
        method: what needs it, for errors.

    Attributes:
        null: (B, L, d) float32, the negative prompt's text.
        caption: (1, L, d) float32.
    """

    def __init__(
        self,
        guider: Any,
        extra_args: dict[str, Any],
        caption: Conditioning,
        x: torch.Tensor,
        sigmas: torch.Tensor,
        method: str,
    ) -> None:
        _require_guider(guider, extra_args, sigmas, method)
        self.inner_model = guider.inner_model
        self.positive, self.negative = guider.conds["positive"], guider.conds["negative"]
        self.options: Options = extra_args["model_options"]
        self._scale = guider.cfg
        self._caption_values = caption[0][1]
        self.caption = caption[0][0].to(x.device, torch.float32)
        null = self.negative[0]["model_conds"][CONTEXT].cond.float()
        _require_same_width(self.caption, null)
        self.null = comfy.utils.repeat_to_batch_size(null, x.shape[0])
        self._memory = ActivationMemory()

    def latent_of(self, latent: torch.Tensor, x: torch.Tensor, sampler: str) -> torch.Tensor:
        """A VAE's latent (1, C, h, w) as the model has it; it must fit x (B, C, h, w)."""
        require_latent(latent, x.shape[1])
        inside: torch.Tensor = self.inner_model.process_latent_in(latent.to(x))
        if inside.shape[1:] != x.shape[1:]:
            raise ValueError(
                "latent_image: expected the one that is sampled, of shape "
                f"{tuple(x.shape[1:])}, got {tuple(inside.shape[1:])} in the {sampler}. Connect "
                "the same latent to both."
            )
        return inside

    def for_caption(self, options: Options | None = None) -> ContextPredictor:
        """The model without what the prompts say of the generated picture, adapters included."""
        entry: Entry = {k: v for k, v in self.positive[0].items() if k not in _OF_THE_PICTURE}
        entry |= {"model_conds": {}, "cross_attn": self.caption}
        pooled = self._caption_values.get("pooled_output")
        if pooled is not None:
            entry["pooled_output"] = pooled
        return ContextPredictor(self.inner_model, entry, options or self.options)

    def for_null(self, options: Options | None = None) -> ContextPredictor:
        """The model as the negative prompt has it, with another text."""
        return ContextPredictor(
            self.inner_model, self.negative[0], options or self.options, "negative"
        )

    def invert(
        self, latent: torch.Tensor, sigmas: torch.Tensor, num_iterations: int
    ) -> torch.Tensor:
        """The latents (S, 1, C, h, w) of which the caption at guidance 1 makes `latent`."""
        predict = self.for_caption()

        def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            comfy.model_management.throw_exception_if_processing_interrupted()
            return predict(x, sigma.expand(len(x)), self.caption)

        return invert_ddim(denoise, latent, sigmas, num_iterations=num_iterations)

    def guided(
        self,
        x: torch.Tensor,
        level: torch.Tensor,
        positive: torch.Tensor,
        negative: torch.Tensor,
        options: Options | None = None,
    ) -> torch.Tensor:
        """The run's guidance of two predictions (B, C, h, w)."""
        return plain_guidance(
            self.inner_model,
            positive,
            negative,
            self._scale,
            x=x,
            timestep=level,
            options=options or self.options,
            cond=self.positive,
            uncond=self.negative,
        )

    def optimise_null(
        self,
        x: torch.Tensor,
        sigma: torch.Tensor,
        following: torch.Tensor,
        positive: torch.Tensor,
        wanted: torch.Tensor,
        mask: torch.Tensor,
        num_updates: int,
        learning_rate: float,
        stop_below: float = 0.0,
    ) -> list[float]:
        """Update `null` so that the next latent comes nearer to `wanted` inside the mask.

        Args:
            x: (B, C, h, w) at noise level sigma; `following` is the next one.
            positive: (B, C, h, w), what the model says with the text that is not updated.
            wanted: (1, C, h, w), at noise level `following`.
            mask: (h, w) bool.

        Returns:
            The loss before each update.
        """
        options = differentiable_options(self.options)
        with gradients_through(*self._modules()):
            x, sigma, following, positive, wanted, null, mask = (
                each.clone() for each in (x, sigma, following, positive, wanted, self.null, mask)
            )
            level = sigma.expand(len(x))
            predict = self.for_null(options)

            def next_latent(phi: torch.Tensor) -> torch.Tensor:
                comfy.model_management.throw_exception_if_processing_interrupted()
                guided = self.guided(x, level, positive, predict(x, level, phi), options)
                return euler_step(x, guided, sigma, following)

            self.null, losses = self._memory.run(
                lambda: optimize_null_text(
                    next_latent, null, wanted, mask, num_updates, learning_rate, stop_below
                )
            )
        return losses

    def _modules(self) -> list[nn.Module]:
        """All networks that a gradient passes: the model, and ControlNets on the negative."""
        modules = networks_of(self.inner_model)
        control = self.negative[0].get("control")
        if control is not None:
            modules += [patcher.model for patcher in control.get_models()]
        return modules


def _require_guider(
    guider: Any, extra_args: dict[str, Any], sigmas: torch.Tensor, method: str
) -> None:
    conds = getattr(guider, "conds", {})
    if set(conds) != {"positive", "negative"} or not hasattr(guider, "cfg"):
        raise ValueError(
            "guider: expected a CFG Guider, with a positive and a negative prompt, got "
            f"{type(guider).__name__}. {method} optimises the negative one."
        )
    require_unet(guider.model_patcher)
    if guider.cfg == 1.0:
        raise ValueError(
            "cfg: expected another number than 1, got 1, at which the negative prompt, which "
            f"{method[0].lower()}{method[1:]} optimises, does not count. 7.5 is usual."
        )
    # ComfyUI gives each branch the areas of the other one
    if any("area" in entry for entries in conds.values() for entry in entries):
        raise ValueError(
            "positive, negative: expected prompts for all of the picture, got one with an area. "
            "Remove Conditioning (Set Area), or use Conditioning (Set Mask) with `default`."
        )
    if len(conds["negative"]) != 1:
        raise ValueError(
            "negative: expected one prompt for all of the picture and all steps, got "
            f"{len(conds['negative'])}. {method} optimises one."
        )
    if not _is_in_force(conds["negative"][0], sigmas):
        raise ValueError(
            "negative: expected a prompt for all steps, got one for a part of them. Remove "
            "ConditioningSetTimestepRange from it."
        )
    if extra_args.get("denoise_mask") is not None:
        raise ValueError(
            "latent_image: expected a latent without a noise mask, got one with a mask. Remove Set "
            "Latent Noise Mask: this sampler has a mask of its own."
        )


def _is_in_force(entry: Entry, sigmas: torch.Tensor) -> bool:
    """Whether ComfyUI uses the entry at every step."""
    start, end = entry.get("timestep_start"), entry.get("timestep_end")
    levels = sigmas[:-1]
    begins = start is None or not bool((levels > start).any())
    return begins and (end is None or not bool((levels < end).any()))


def _require_same_width(caption: torch.Tensor, null: torch.Tensor) -> None:
    if caption.shape[-1] != null.shape[-1]:
        raise ValueError(
            f"clip: expected the text encoder of the prompts, of width {null.shape[-1]}, got one "
            f"of width {caption.shape[-1]}. Connect the CLIP of the model that is sampled."
        )
