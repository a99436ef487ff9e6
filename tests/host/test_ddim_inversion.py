"""DDIM inversion on the small model's own weights: what comes back of a picture."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import comfy.samplers
import numpy as np
import pytest
import torch
from host_models import Host, cfg_guider
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
STEPS = 20
NAMES = ("crab", "dog-house")


def picture(name: str) -> torch.Tensor:
    """(1, 128, 128, 3) on white."""
    image = Image.open(ROOT / "assets" / "subjects" / f"{name}.png").convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return torch.from_numpy(np.asarray(image.resize((128, 128))).copy())[None].float() / 255


def psnr(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(-10 * (first - second).square().mean().log10())


class InvertAndBack(comfy.samplers.Sampler):
    """A latent to its noise and back, by the sampler's own prediction at guidance 1."""

    def __init__(self, host: Host, num_iterations: int, timestep: str) -> None:
        self._core = host.core("hifi_tuner")
        self._options = {"num_iterations": num_iterations, "timestep": timestep}

    def sample(self, model_wrap: Any, sigmas: Any, extra_args: Any, *args: Any, **kw: Any) -> Any:
        latent = args[2]

        def predict(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            return model_wrap(x, sigma.expand(len(x)), **extra_args)

        x = self._core.invert_ddim(predict, latent, sigmas, **self._options)[0]
        for sigma, following in itertools.pairwise(sigmas):
            x = self._core.euler_step(x, predict(x, sigma), sigma, following)
        return x


@pytest.mark.parametrize("name", NAMES)
def test_one_iteration_is_as_good_as_the_autoencoder(host: Host, name: str) -> None:
    """Within 1 dB of its own round trip; eq. 3 as printed is worse than with iterations."""
    loader = host.tiny_loader_node.SubjectDiffusionTinyLoader
    model, clip, vae, *_ = loader.execute().args
    image = picture(name)
    latent = vae.encode(image)
    wanted = psnr(vae.decode(latent), image)
    caption = host.encode_text(clip, f"a photo of a {name.replace('-', ' ')}")
    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "ddim_uniform", STEPS)

    def back(iterations: int, timestep: str) -> float:
        guider = cfg_guider(model, caption, caption, 1.0)
        sampler = InvertAndBack(host, iterations, timestep)
        noise = torch.zeros_like(latent)
        x = guider.sample(noise, latent, sampler, sigmas, seed=0, disable_pbar=True)
        return psnr(vae.decode(x), image)

    printed, one, three = back(0, "source"), back(1, "target"), back(3, "target")
    assert one > wanted - 1.0, (wanted, printed, one, three)
    assert three > printed, (wanted, printed, one, three)
