"""A loss in the features of the training side's image encoder (EfficientNet-Lite0), after Lin and
Yang, "Diffusion Model with Perceptual Loss": what a step makes of the noise must look like the
picture, not only be near it in every channel of the latents, most of which hardly show.

# Shapes: B pictures, c latent channels, h x w latents.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.bases.base_model import BaseModel
from training.toy.autoencoder import perceptual_distance
from training.toy.vision import load_vision

PICTURES = 8  # of a step
BLOCKS = (2, 4, 10)  # behind them: strides 4, 8 and 16


class FeatureLoss:
    """Distance of decoded predictions to decoded latents, for a v-predicting base."""

    def __init__(self, base: BaseModel, alphas: Tensor) -> None:
        assert base.prediction_type == "v_prediction" and base.vision_geometry is not None
        self.alphas = alphas
        self.vae = base.load_vae().requires_grad_(False)
        self.vision = load_vision(base.vision_geometry)

    def __call__(
        self, latents: Tensor, prediction: Tensor, target: Tensor, steps: Tensor
    ) -> Tensor:
        """Of the first pictures of latents, prediction and target v (B, c, h, w) at timesteps
        ``steps`` (B,)."""
        some = slice(0, PICTURES)
        clean = latents[some].float()
        shown = predicted_latents(clean, prediction[some], target[some], self.alphas[steps[some]])
        with torch.no_grad():
            wanted = self.vae.decode(clean)
        return perceptual_distance(self.vision, self.vae.decode(shown), wanted, BLOCKS)


def predicted_latents(
    latents: Tensor, prediction: Tensor, target: Tensor, alphas: Tensor
) -> Tensor:
    """The latents x0 that a predicted v means: sqrt(a) x_t - sqrt(1 - a) v, which is off by
    sqrt(1 - a) times the error of v. ``alphas`` (B,)."""
    noise_share = (1 - alphas)[:, None, None, None].sqrt()
    return latents + noise_share * (target.float() - prediction.float())
