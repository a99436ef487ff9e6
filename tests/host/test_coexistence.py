"""The adapter next to LoRAs and other adapters, and what is left of it afterwards: nothing."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.samplers
import comfy.sd
import pytest
import torch
from host_models import (
    Base,
    Host,
    cfg_guider,
    random_context,
    random_noise,
    relative_error,
    sample,
)

RANGES = pytest.mark.parametrize("settings", [(1.0, 0.0, 1.0), (1.0, 0.0, 0.9)])


def make_lora(context_dim: int = 48) -> dict[str, torch.Tensor]:
    """A LoRA on weights that the adapter changes too, in the UNet and in the text encoder."""
    generator = torch.Generator().manual_seed(1)
    names = {
        "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k": (64, context_dim),
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj": (48, 48),
    }
    lora: dict[str, torch.Tensor] = {}
    for name, (rows, columns) in names.items():
        lora[f"{name}.lora_up.weight"] = torch.randn(rows, 2, generator=generator)
        lora[f"{name}.lora_down.weight"] = torch.randn(2, columns, generator=generator)
        lora[f"{name}.alpha"] = torch.tensor(2.0)
    return lora


def run(host: Host, model: Any, clip: Any, loaded: Any, base: Base) -> torch.Tensor:
    """Encode a text and sample with two subjects."""
    text = host.encode_text(clip, "a dog")[0][0]
    positive = host.conditioning(text, host.branch(loaded, 2))
    return sample(cfg_guider(model, positive, positive), random_noise(base))


@RANGES
def test_lora_before_and_after(host: Host, tmp_path: Path, settings: tuple[float, ...]) -> None:
    base = host.make_base()
    loaded = host.make_adapter(base, tmp_path)
    apply = host.apply_node.apply_adapter
    without = run(host, *apply(base.model, base.clip, loaded, *settings), loaded, base)
    with_lora = comfy.sd.load_lora_for_models(base.model, base.clip, make_lora(), 1.0, 1.0)
    before = run(host, *apply(*with_lora, loaded, *settings), loaded, base)
    applied = apply(base.model, base.clip, loaded, *settings)
    with_lora = comfy.sd.load_lora_for_models(*applied, make_lora(), 1.0, 1.0)
    after = run(host, *with_lora, loaded, base)
    assert relative_error(before, after) < 1e-5
    assert relative_error(before, without) > 1e-2


def test_stock_text_keeps_a_lora(host: Host, tmp_path: Path) -> None:
    """ "Stock" is the base with the user's LoRAs, without the adapter's text encoder."""
    base = host.make_base()
    loaded = host.make_adapter(base, tmp_path)
    applied = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    _, clip = comfy.sd.load_lora_for_models(*applied, make_lora(), 1.0, 1.0)
    _, wanted = comfy.sd.load_lora_for_models(base.model, base.clip, make_lora(), 1.0, 1.0)
    applied_adapter = host.family.applied_adapter(clip.patcher)
    stock = host.weight_diffs.without_patches(clip, applied_adapter.text_patches)
    encode = host.encode_text
    assert torch.equal(encode(stock, "a dog")[0][0], encode(wanted, "a dog")[0][0])
    assert not torch.equal(encode(clip, "a dog")[0][0], encode(wanted, "a dog")[0][0])


@RANGES
def test_two_adapters_on_two_clones(
    host: Host, tmp_path: Path, settings: tuple[float, ...]
) -> None:
    base = host.make_base()
    first, second = (host.make_adapter(base, tmp_path, seed) for seed in (10, 20))
    stock = run_stock(host, base)
    applied = [
        host.apply_node.apply_adapter(base.model, base.clip, loaded, *settings)
        for loaded in (first, second)
    ]
    results = [
        run(host, *applied[index], loaded, base)
        for index, loaded in ((0, first), (1, second), (0, first), (1, second))
    ]
    assert torch.equal(results[0], results[2])
    assert torch.equal(results[1], results[3])
    assert relative_error(results[0], results[1]) > 1e-2
    assert torch.equal(run_stock(host, base), stock)


def run_stock(host: Host, base: Base) -> torch.Tensor:
    positive = host.conditioning(random_context(base), None)
    return sample(cfg_guider(base.model, positive, positive), random_noise(base))


def test_subjects_of_another_adapter_are_refused(host: Host, tmp_path: Path) -> None:
    base = host.make_base()
    first, second = (host.make_adapter(base, tmp_path, seed) for seed in (10, 20))
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, first)
    positive = host.conditioning(random_context(base), host.branch(second, 1))
    with pytest.raises(ValueError, match=r"encoded with the adapter 'adapter_10\.safetensors'"):
        sample(cfg_guider(model, positive, positive), random_noise(base))


def test_nothing_stays_alive(host: Host, tmp_path: Path) -> None:
    base = host.make_base()
    loaded = host.make_adapter(base, tmp_path)
    model, clip = host.apply_node.apply_adapter(base.model, base.clip, loaded, 1.0, 0.1, 0.9)
    run(host, model, clip, loaded, base)
    assert live_generations(host) == []
    (patcher,) = model.get_additional_models()
    modules = patcher.model
    assert modules in [loaded_model.model.model for loaded_model in current_models()]
    watched = [
        weakref.ref(thing)
        for thing in (modules, loaded, model, base.model.model, modules.gated_layers[0])
    ]
    del base, loaded, model, clip, patcher, modules
    gc.collect()
    comfy.model_management.cleanup_models()
    assert [reference() for reference in watched] == [None] * len(watched)
    kinds = [type(loaded_model.model.model).__name__ for loaded_model in current_models()]
    assert "AdapterModules" not in kinds


def test_a_cancelled_run_keeps_no_tables(host: Host, tmp_path: Path) -> None:
    """The guider is an output that ComfyUI keeps; what it holds must not hold memory."""
    base = host.make_base()
    loaded = host.make_adapter(base, tmp_path)
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    positive = host.conditioning(random_context(base), host.branch(loaded, 2))
    guider = cfg_guider(model, positive, positive)

    def cancel(*_args: Any) -> None:
        (generation,) = live_generations(host)
        assert generation._tables
        raise comfy.model_management.InterruptProcessingException

    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", 3)
    sampler = comfy.samplers.sampler_object("euler")
    noise = random_noise(base)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        guider.sample(noise, torch.zeros_like(noise), sampler, sigmas, callback=cancel)
    assert [generation._tables for generation in live_generations(host)] in ([], [{}])


def current_models() -> list[Any]:
    models = comfy.model_management.current_loaded_models
    return [loaded_model for loaded_model in models if loaded_model.model is not None]


def live_generations(host: Host) -> list[Any]:
    gc.collect()
    kind = host.sampling_run.SamplingRun
    return [thing for thing in gc.get_objects() if type(thing) is kind]


def test_unloading_and_loading_again(host: Host, tmp_path: Path) -> None:
    base = host.make_base()
    loaded = host.make_adapter(base, tmp_path)
    model, clip = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    before = run(host, model, clip, loaded, base)
    comfy.model_management.unload_all_models()
    assert current_models() == []
    assert torch.equal(run(host, model, clip, loaded, base), before)
