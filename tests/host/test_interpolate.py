"""Text-image interpolation: a strip equals its pictures made one by one."""

from __future__ import annotations

from typing import Any

import comfy.model_sampling
import comfy.patcher_extension
import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_custom_sampler import Noise_RandomNoise
from host_models import Base, Host, cfg_guider, random_context

STEPS = 4
SIGMAS = torch.tensor([14.0, 5.0, 2.0, 0.7, 0.0])


class FixedNoise:
    seed = 5

    def generate_noise(self, latent: dict[str, Any]) -> torch.Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn(latent["samples"].shape, generator=generator)


@pytest.fixture(scope="module")
def base(host: Host) -> Base:
    with torch.inference_mode():
        return host.make_base()


@pytest.fixture(scope="module")
def guiders(host: Host, base: Base, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """With a subject, and plain."""
    with torch.inference_mode():
        loaded = host.make_adapter(base, tmp_path_factory.mktemp("adapter"))
        model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
        context = random_context(base)
        with_subject = host.conditioning(context, host.branch(loaded, 1))
        nothing = host.conditioning(context, None)
        return cfg_guider(model, with_subject, nothing), cfg_guider(base.model, nothing, nothing)


def latent() -> dict[str, torch.Tensor]:
    return {"samples": torch.zeros(1, 16, 8, 8)}


def strip(host: Host, guiders: tuple[Any, Any], alphas: str, sampler: str = "euler") -> Any:
    node = host.interpolate_node.SubjectDiffusionInterpolate
    chosen = comfy.samplers.sampler_object(sampler)
    return node.execute(FixedNoise(), *guiders, chosen, SIGMAS, latent(), alphas)[0]["samples"]


def part(
    guider: Any,
    samples: torch.Tensor,
    noise: torch.Tensor,
    sigmas: torch.Tensor,
    sampler: str = "euler",
) -> Any:
    chosen = comfy.samplers.sampler_object(sampler)
    return guider.sample(noise, samples, chosen, sigmas, seed=FixedNoise.seed)


def cut_of(host: Host, base: Base, alpha: float) -> int:
    sampling = base.model.get_model_object("model_sampling")
    return host.interpolate_node.num_subject_steps(alpha, SIGMAS, sampling)


def test_cuts_follow_the_timesteps(host: Host, base: Base) -> None:
    sampling = base.model.get_model_object("model_sampling")
    timesteps = [float(sampling.timestep(sigma)) for sigma in SIGMAS[:-1]]
    assert timesteps == sorted(timesteps, reverse=True)
    assert [cut_of(host, base, alpha) for alpha in (0.0, 1.0)] == [STEPS, 0]
    between = (timesteps[1] + timesteps[2]) / 2 / 1000
    assert cut_of(host, base, between) == 2


def test_ends_are_the_guiders_alone(host: Host, guiders: tuple[Any, Any]) -> None:
    noise = FixedNoise().generate_noise(latent())
    subject, plain = (part(guider, latent()["samples"], noise, SIGMAS) for guider in guiders)
    assert not torch.equal(subject, plain)
    assert torch.equal(strip(host, guiders, "0 1"), torch.cat((subject, plain)))


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpm_2", "ddim"])
def test_the_middle_equals_split_sigmas(
    host: Host, base: Base, guiders: tuple[Any, Any], sampler: str
) -> None:
    cut = cut_of(host, base, 0.6)
    assert 0 < cut < STEPS
    noise = FixedNoise().generate_noise(latent())
    first = part(guiders[0], latent()["samples"], noise, SIGMAS[: cut + 1], sampler)
    second = part(guiders[1], first, torch.zeros_like(noise), SIGMAS[cut:], sampler)
    assert torch.equal(strip(host, guiders, "0.6", sampler), second)
    assert torch.equal(strip(host, guiders, "1, 0.6, 0", sampler)[1:2], second)


def test_the_common_part_runs_once(host: Host, base: Base, guiders: tuple[Any, Any]) -> None:
    calls: list[str] = []

    def count(executor: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        calls.append("call")
        return executor(x, *args, **kwargs)

    wrapper = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    counted = []
    for guider in guiders:
        model = guider.model_patcher.clone()
        model.add_wrapper_with_key(wrapper, "test", count)
        copied = type(guider)(model)
        copied.original_conds, copied.cfg = guider.original_conds, guider.cfg
        counted.append(copied)
    alphas = [0.0, 0.6, 0.6, 1.0]
    strip(host, tuple(counted), " ".join(map(str, alphas)))
    cuts = [cut_of(host, base, alpha) for alpha in alphas]
    assert len(calls) == host.interpolate_node.total_steps(cuts, STEPS)


@pytest.mark.parametrize("alphas", ["", "half", "0.5 1.5", "nan", "-0.1"])
def test_bad_alphas(host: Host, guiders: tuple[Any, Any], alphas: str) -> None:
    with pytest.raises(ValueError, match="alphas: expected numbers from 0 to 1"):
        strip(host, guiders, alphas)


SAMPLER = comfy.samplers.sampler_object("euler")


def test_no_steps(host: Host, guiders: tuple[Any, Any]) -> None:
    node = host.interpolate_node.SubjectDiffusionInterpolate
    with pytest.raises(ValueError, match="sigmas: expected at least one step, got 0 numbers"):
        node.execute(FixedNoise(), *guiders, SAMPLER, torch.zeros(0), latent(), "0.5")


def test_noise_mask(host: Host, guiders: tuple[Any, Any]) -> None:
    node = host.interpolate_node.SubjectDiffusionInterpolate
    masked = {**latent(), "noise_mask": torch.ones(1, 64, 64)}
    with pytest.raises(ValueError, match="expected a latent without a noise mask"):
        node.execute(FixedNoise(), *guiders, SAMPLER, SIGMAS, masked, "0.5")


def test_a_batch_keeps_the_indices_of_its_noise(host: Host, guiders: tuple[Any, Any]) -> None:
    """Whoever samples the strip again draws for every picture the noise that it was made of."""
    noise = Noise_RandomNoise(FixedNoise.seed)
    batch = {"samples": torch.zeros(2, 16, 8, 8), "batch_index": [3, 1], "type": "own"}
    node = host.interpolate_node.SubjectDiffusionInterpolate
    sampler = comfy.samplers.sampler_object("euler")
    made = node.execute(noise, *guiders, sampler, SIGMAS, batch, "0, 0.6, 1")[0]
    assert made["batch_index"] == [3, 1] * 3
    assert made["type"] == "own" and batch["batch_index"] == [3, 1]
    again = comfy.sample.prepare_noise(made["samples"], noise.seed, made["batch_index"])
    assert torch.equal(again, noise.generate_noise(batch).repeat(3, 1, 1, 1))
    single = node.execute(noise, *guiders, sampler, SIGMAS, latent(), "0, 1")[0]
    assert set(single) == {"samples"}
