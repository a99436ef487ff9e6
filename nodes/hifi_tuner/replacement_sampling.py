# Shapes: C channels, h, w size of a latent, L columns of a text.
"""HiFi Tuner algorithm 3 as a sampler of ComfyUI: a picture is reconstructed, and beside it, step
by step, made with another subject."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.samplers
import torch
from tqdm.auto import trange

from ...subject_diffusion_core.hifi_tuner import euler_step, inside_outside
from ..host.attention_terms import with_attention_around
from ..host.comfy_types import Conditioning, Options
from ..host.node_warnings import show_text, show_warnings
from ..host.picture_size import warn_of_size
from .guided_model import GuidedModel, Method
from .replaced_attention import KEY, ReplacedAttention
from .replaced_words import TextColumns, columns_in_run, map_columns

# Null-text inversion's early stop for 50 steps, in units of x / sqrt(1 + sigma^2).
STOP_FIRST, STOP_GROWTH, STOP_STEPS = 1e-5, 2e-5, 50
PAPERS_START = 0.2  # of the steps; LocalBlend waits until words have found their places


@dataclass(frozen=True, kw_only=True, eq=False)
class Replacement:
    """A picture, and how much of it stays.

    Attributes:
        latent: (1, C, h, w) of the picture, as the VAE gives it.
        mask: (h, w) bool, True = here the picture may change; None = everywhere.
        caption: of the picture.
        source, target: columns of the caption and of the prompt with the new word.
        num_free_last: columns at the end that a tuned embedding takes.
        method: "optimise" is the paper's; "caption as negative" takes the caption in place of the
            null text, without gradients.
        num_updates: of the null text, at most, in each step.
        stops_early: whether a step that is near enough has no more updates.
        keep_until: in 0..1 of the steps: until here the other words keep their attention.
        blend: LocalBlend's threshold in 0..1 of the highest attention; 0 = off.
        num_iterations: of each step of the inversion.
    """

    latent: torch.Tensor
    mask: torch.Tensor | None
    caption: Conditioning
    source: TextColumns
    target: TextColumns
    num_free_last: int
    method: Method
    num_updates: int
    learning_rate: float
    stops_early: bool
    keep_until: float
    blend: float
    num_iterations: int


def make_sampler(replacement: Replacement) -> Any:
    """A SAMPLER."""
    return comfy.samplers.KSAMPLER(sample_replacement, {"replacement": replacement})


def sample_replacement(
    model: Any,
    x: torch.Tensor,
    sigmas: torch.Tensor,
    extra_args: dict[str, Any],
    callback: Callable[[dict[str, Any]], None] | None = None,
    disable: bool | None = None,
    *,
    replacement: Replacement,
) -> torch.Tensor:
    """Called by ComfyUI like its own samplers; the noise is the picture's own."""
    warn_of_size(model.inner_model, model.latent_image)
    run = ReplacementRun(model.inner_model, extra_args, replacement, sigmas, x)
    trajectory = run.invert()
    source = trajectory[0]
    target = source.expand_as(x)
    for index in trange(len(sigmas) - 1, disable=disable):
        comfy.model_management.throw_exception_if_processing_interrupted()
        before = target
        source, target, denoised = run.step(index, source, target, trajectory[index + 1])
        if callback is not None:
            sigma = sigmas[index]
            callback(
                {"x": before, "i": index, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised}
            )
    run.report(source, trajectory[-1])
    return target


class ReplacementRun:
    """The steps of one sampling run."""

    def __init__(
        self,
        guider: Any,
        extra_args: dict[str, Any],
        replacement: Replacement,
        sigmas: torch.Tensor,
        x: torch.Tensor,
    ) -> None:
        self._replacement, self._sigmas = replacement, sigmas
        self._model = GuidedModel(
            guider, extra_args, replacement.caption, x[:1], sigmas, "Replacement"
        )
        self._latent = self._model.latent_of(replacement.latent, x, "replacement sampler")
        whole = torch.ones(x.shape[-2:], dtype=torch.bool, device=x.device)
        self._everywhere = whole
        self._may_change = whole if replacement.mask is None else replacement.mask.to(x.device)
        self._attention = self._replaced_attention((x.shape[-2], x.shape[-1]))
        self._options: Options = with_attention_around(
            self._model.options, KEY, "attn2", self._attention.around
        )

    def invert(self) -> torch.Tensor:
        """The picture's latents at all noise levels: (S, 1, C, h, w)."""
        return self._model.invert(self._latent, self._sigmas, self._replacement.num_iterations)

    def step(
        self, index: int, source: torch.Tensor, target: torch.Tensor, wanted: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The next latents of both, and the clean latent that the target goes to.

        Args:
            source, wanted: (1, C, h, w) of the picture, at this noise level and the next.
            target: (B, C, h, w).
        """
        model, replacement = self._model, self._replacement
        sigma, following = self._sigmas[index], self._sigmas[index + 1]
        is_kept = index < replacement.keep_until * (len(self._sigmas) - 1)
        level = sigma.expand(1)
        with self._attention.of("source", is_kept):
            positive = model.for_caption(self._options)(source, level, model.caption)
        if replacement.method == "optimise":
            model.optimise_null(
                source,
                sigma,
                following,
                positive,
                wanted,
                self._everywhere,
                replacement.num_updates,
                replacement.learning_rate,
                stop_below(index, self._sigmas) if replacement.stops_early else 0.0,
            )
            null = model.null
        else:
            null = model.caption
        source_denoised = model.guided(
            source, level, positive, model.for_null()(source, level, null)
        )
        level = sigma.expand(len(target))
        with self._attention.of("target"):
            (positive,) = comfy.samplers.calc_cond_batch(
                model.inner_model, [model.positive], target, level, self._options
            )
        denoised = model.guided(target, level, positive, model.for_null()(target, level, null))
        source = euler_step(source, source_denoised, sigma, following)
        target = euler_step(target, denoised, sigma, following)
        return source, inside_outside(target, source.expand_as(target), self._mask(index)), denoised

    def report(self, source: torch.Tensor, wanted: torch.Tensor) -> None:
        """How near the reconstruction came to the picture, on the node."""
        error = float((source - wanted).square().mean() / wanted.square().mean())
        if error > 0.0:
            show_text(
                [f"The picture is reconstructed with a signal of {-10 * math.log10(error):.1f} dB."]
            )

    def _mask(self, index: int) -> torch.Tensor:
        """(h, w) bool: where the target may differ from the picture."""
        blend = self._replacement.blend
        if blend == 0.0 or index < PAPERS_START * (len(self._sigmas) - 1):
            return self._may_change
        words = self._attention.blend_mask(blend)
        return self._may_change if words is None else self._may_change & words

    def _replaced_attention(self, latent_size: tuple[int, int]) -> ReplacedAttention:
        replacement, positive = self._replacement, self._model.positive
        target = columns_in_run(replacement.target, positive)
        _require_lengths(positive, replacement)
        mapper, words = map_columns(replacement.source, target, replacement.num_free_last)
        if bool((mapper.sum(dim=0) > 0).all()):
            show_warnings(
                [
                    "The positive prompt says what the caption says, so the picture stays as it "
                    "is. Replace a word, or connect a tuned embedding."
                ]
            )
        return ReplacedAttention(mapper, latent_size, words)


def stop_below(index: int, sigmas: torch.Tensor) -> float:
    """The loss of a step at which its updates of the null text end; sigmas are (S,)."""
    of_fifty = index * STOP_STEPS / (len(sigmas) - 1)
    scale = 1.0 + float(sigmas[index + 1]) ** 2
    return (STOP_FIRST + of_fifty * STOP_GROWTH) * scale


def _require_lengths(positive: list[dict[str, Any]], replacement: Replacement) -> None:
    """Columns are told by the text that the sampler was given."""
    wanted = len(replacement.target.tokens)
    for entry in positive:
        got = entry["cross_attn"].shape[1]
        if got != wanted:
            raise ValueError(
                f"positive: expected the sampler's `prompt`, of {wanted} tokens, got a text of "
                f"{got}. Connect `prompt` of the Replacement Sampler to the node that encodes it."
            )
