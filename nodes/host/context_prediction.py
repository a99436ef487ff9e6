# Shapes: B samples, C channels, h, w size of a latent, L vectors of a text, d their width.
"""A model's prediction as a function of its text, inside a sampling run."""

from __future__ import annotations

from typing import Any, Literal

import comfy.conds
import comfy.samplers
import torch

from .comfy_types import Entry, Options

CONTEXT = "c_crossattn"


class ContextPredictor:
    """What the run's model says of a latent for a text that is not one of the run's.

    Everything else that the model is told, as the pooled text and the size, is that of `entry`.

    Args:
        inner_model: of the guider that samples.
        entry: a conditioning as the run has it; its text is exchanged.
        model_options: of the run.
        prompt_type: of the entry.
    """

    def __init__(
        self,
        inner_model: Any,
        entry: Entry,
        model_options: Options,
        prompt_type: Literal["positive", "negative"] = "positive",
    ) -> None:
        self._inner_model = inner_model
        self._entry = entry
        self._options = model_options
        self._prompt_type = prompt_type
        self._conds: dict[tuple[int, ...], dict[str, Any]] = {}

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """The clean latent (B, C, h, w).

        Args:
            x: (B, C, h, w).
            sigma: (B,).
            context: (1 or B, L, d).
        """
        conds = self._conds_for(x)
        if CONTEXT not in conds:
            raise ValueError(
                "model: expected one that is told a text, got "
                f"{type(self._inner_model).__name__}, which is not. Load a Stable Diffusion 1, 2 "
                "or XL."
            )
        text = type(conds[CONTEXT])(context)
        entry = {**self._entry, "model_conds": {**conds, CONTEXT: text}}
        denoised: torch.Tensor = comfy.samplers.calc_cond_batch(
            self._inner_model, [[entry]], x, sigma, self._options
        )[0]
        return denoised

    def _conds_for(self, x: torch.Tensor) -> dict[str, Any]:
        """The entry's conds for latents of this size, which SDXL is told."""
        size = tuple(x.shape[1:])
        if size not in self._conds:
            (sized,) = comfy.samplers.encode_model_conds(
                self._inner_model.extra_conds,
                [self._entry],
                x,
                x.device,
                self._prompt_type,
                latent_image=torch.zeros_like(x),  # inpainting models ask for it
            )
            self._conds[size] = {
                name: _out_of_inference_mode(cond) for name, cond in sized["model_conds"].items()
            }
        return self._conds[size]


def _out_of_inference_mode(cond: Any) -> Any:
    """A copy whose tensor may stand in a computation with gradients."""
    tensor = getattr(cond, "cond", None)
    if isinstance(cond, comfy.conds.CONDRegular) and isinstance(tensor, torch.Tensor):
        return cond._copy_with(tensor.clone())
    return cond
