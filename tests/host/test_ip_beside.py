"""IP-Adapter and MS-Diffusion at work: kinds of numbers, memory, keys made once a run, areas,
LoRA, PAG, and two adapters on clones of one MODEL."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sd
import comfy_extras.nodes_pag
import node_helpers
import pytest
import torch
from host_models import (
    Host,
    cfg_guider,
    denoise_once,
    random_context,
    random_noise,
    relative_error,
    sample,
)
from ip_models import make_file, write_file
from sdxl_models import TEXT_L, make_sdxl_clip
from test_coexistence import make_lora
from test_ip_adapter import PROMPT, Setup, setup  # noqa: F401
from test_ms_diffusion import Setup as GroundedSetup
from test_self_subject_attention_node import Setup as ReferenceSetup

HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32


def guided(setup: Setup, model: Any, branches: Any, steps: int = 2) -> torch.Tensor:  # noqa: F811
    return sample(cfg_guider(model, branches[0], branches[2], 3.0), setup.noise, steps=steps)


@pytest.mark.parametrize("kind", ["plus", "grounded"])
@pytest.mark.parametrize(
    ("stored", "cast", "computed"),
    [(FULL, None, FULL), (HALF, None, HALF), (BRAIN, None, BRAIN), (HALF, FULL, FULL)],
)
def test_it_computes_in_the_models_type(
    setup: Setup,  # noqa: F811
    tmp_path: Path,
    kind: str,
    stored: torch.dtype,
    cast: torch.dtype | None,
    computed: torch.dtype,
) -> None:
    host = setup.host
    exact = host.make_base("sd15")
    path = write_file(tmp_path / "file.safetensors", make_file(kind, exact.unet))
    adapter = host.registry.load_adapter(path)
    context, seen = random_context(exact), set()

    def predict(base: Any) -> torch.Tensor:
        clip = make_sdxl_clip(TEXT_L, TEXT_L)  # as wide as the base
        model, clip = host.apply_node.apply_adapter(base.model, clip, adapter)
        node = host.encode_node.SubjectDiffusionEncode
        subjects = (setup.subject(0), setup.subject(1))
        encoded = node.execute(clip, setup.vision.ours, adapter, subjects, PROMPT, "").args[0]
        positive = [[context, values] for _, values in encoded]
        (patcher,) = model.get_additional_models()
        hooks = [
            layer.register_forward_hook(lambda _m, _args, out: seen.add(out.dtype))
            for layer in patcher.model.keys
        ]
        got = denoise_once(cfg_guider(model, positive, positive), random_noise(base), 500)
        for hook in hooks:
            hook.remove()
        return got

    wanted = predict(exact)
    seen.clear()
    got = predict(host.make_base("sd15", stored, cast))
    assert seen == {computed}
    assert relative_error(got, wanted) < (1e-6 if stored == FULL else 0.05)


def test_keys_are_made_once_a_run(setup: Setup) -> None:  # noqa: F811
    """Of every subject, in every layer, for all steps, branches and samples."""
    model, clip = setup.apply()
    branches = setup.encode(clip, setup.subject(0), setup.subject(1))
    (patcher,) = model.get_additional_models()
    modules, counts = patcher.model, Counter()
    hooks = [
        layer.register_forward_hook(lambda *_, number=number: counts.update([number]))
        for number, layer in enumerate([*modules.keys, modules.projection])
    ]
    node = setup.host.guider_node.SubjectDiffusionGuider
    (guider,) = node.execute(model, *branches, 3.0, 1.5).args
    sample(guider, random_noise(setup.base, batch=2), steps=3)
    for hook in hooks:
        hook.remove()
    # two subjects, and what stands in the places of both in the negative branch
    assert counts == dict.fromkeys(range(len(modules.keys) + 1), 4)


def test_null_branches_cost_nothing(host: Host, tmp_path: Path) -> None:
    with torch.inference_mode():
        grounded = GroundedSetup(host, tmp_path)
        model, clip = grounded.apply()
        _, _, negative = grounded.encode(clip, *grounded.subjects(2))
        (patcher,) = model.get_additional_models()
        calls: list[int] = []
        hooks = [layer.register_forward_hook(lambda *_: calls.append(1))
                 for layer in patcher.model.keys]  # fmt: skip
        grounded.predict(model, negative)
        grounded.predict(model, host.encode_text(clip, PROMPT))
        for hook in hooks:
            hook.remove()
        assert calls == []


def test_weights_that_leave_in_mid_run(setup: Setup) -> None:  # noqa: F811
    model, clip = setup.apply()
    branches = setup.encode(clip, setup.subject(0), setup.subject(1))
    wanted = guided(setup, model, branches)
    for entry in list(comfy.model_management.current_loaded_models):
        if entry.model is not None:
            entry.model.partially_unload(torch.device("cpu"), entry.model.model_size())
    assert relative_error(guided(setup, model, branches), wanted) < 1e-5
    comfy.model_management.free_memory(1e32, torch.device("cpu"))
    assert torch.equal(guided(setup, model, branches), wanted)


def test_an_area_crops_boxes_and_regions(setup: Setup) -> None:  # noqa: F811
    """The right half, with the box in it, is the whole picture with the box in that frame."""
    model, clip = setup.apply()
    region = torch.zeros(1, 32, 32)
    region[:, :16, 16:] = 1
    latent = random_noise(setup.base, size=(16, 8))
    whole = torch.cat((torch.zeros_like(latent), latent), dim=3)
    inside = setup.encode(clip, setup.subject(box="0,0,1,0.5"))[0]
    wanted = denoise_once(cfg_guider(model, inside, inside), latent, 500)
    for place in ({"box": "0.5,0,1,0.5"}, {"box": "", "region": region}):
        positive = setup.encode(clip, setup.subject(**place))[0]
        area = {"area": ("percentage", 1.0, 0.5, 0.0, 0.5), "strength": 1.0}
        positive = node_helpers.conditioning_set_values(positive, area)
        got = denoise_once(cfg_guider(model, positive, positive), whole, 500)
        assert relative_error(got[..., 8:], wanted) < 1e-5


def test_beside_a_lora_and_pag(setup: Setup) -> None:  # noqa: F811
    """A LoRA before or after is the same; PAG replaces the self-attention of the middle block."""
    lora = make_lora()
    latents = []
    for first in ("lora", "adapter"):
        model, clip = setup.base.model, setup.base.clip
        if first == "lora":
            model, clip = comfy.sd.load_lora_for_models(model, clip, lora, 1.0, 0.0)
        apply = setup.host.apply_node.apply_adapter
        model, clip = apply(model, clip, setup.adapters["plus"])
        if first == "adapter":
            model, clip = comfy.sd.load_lora_for_models(model, clip, lora, 1.0, 0.0)
        latents.append(guided(setup, model, setup.encode(clip, setup.subject())))
    plain, clip = setup.apply()
    branches = setup.encode(clip, setup.subject())
    without = guided(setup, plain, branches)
    assert relative_error(latents[0], latents[1]) < 1e-5
    assert relative_error(latents[0], without) > 1e-3
    pag = comfy_extras.nodes_pag.PerturbedAttentionGuidance
    patched = pag.execute(plain, 3.0)[0] if hasattr(pag, "execute") else pag().patch(plain, 3.0)[0]
    assert relative_error(guided(setup, patched, branches), without) > 1e-3


def test_two_files_on_clones_of_one_model(setup: Setup) -> None:  # noqa: F811
    alone = [setup.run(setup.subject(), kind=kind) for kind in ("plus", "base")]
    applied = [setup.apply(kind) for kind in ("plus", "base")]
    encoded = [
        setup.encode(clip, setup.subject(), kind=kind)
        for kind, (_, clip) in zip(("plus", "base"), applied, strict=True)
    ]
    for (model, _), branches, wanted in zip(applied, encoded, alone, strict=True):
        assert torch.equal(guided(setup, model, branches), wanted)
    with pytest.raises(ValueError, match="conditioning: expected subjects encoded with"):
        guided(setup, applied[0][0], encoded[1])


@pytest.mark.parametrize("kind", ["plus", "ours"])
def test_parts_of_the_sampling_beside_self_subject_attention(
    setup: Setup,  # noqa: F811
    tmp_path: Path,
    kind: str,
) -> None:
    """Apply's range and a subject's own, on a MODEL that another method prepares runs of, too."""
    host, references = setup.host, ReferenceSetup(setup.host)
    vision, adapter = setup.vision.ours, setup.adapters["plus"]
    if kind == "ours":
        vision = host.tiny_clip_vision.TinyClipVision(host.tiny)
        adapter = host.make_adapter(setup.base, tmp_path)
    base = setup.base
    model, clip = host.apply_node.apply_adapter(base.model, base.clip, adapter, 1.0, 0.2, 0.8)
    subjects = (setup.subject(0, start_percent=0.4), setup.subject(1))
    node = host.encode_node.SubjectDiffusionEncode
    branches = node.execute(clip, vision, adapter, subjects, PROMPT, "blurry").args
    alone = guided(setup, model, branches, steps=4)
    both, positive, negative = references.apply(
        *subjects, model=model, positive=branches[0], negative=branches[2]
    )
    # without references it is the adapter alone
    assert torch.equal(guided(setup, both, branches, steps=4), alone)
    together = guided(setup, both, (positive, None, negative), steps=4)
    assert relative_error(together, alone) > 1e-3
    first = references.apply(*subjects, model=base.model)[0]
    other = host.apply_node.apply_adapter(first, base.clip, adapter, 1.0, 0.2, 0.8)[0]
    got = guided(setup, other, (positive, None, negative), steps=4)
    assert relative_error(got, together) < 1e-5


def test_subjects_of_another_family_get_a_sentence(
    setup: Setup,  # noqa: F811
    tmp_path: Path,
) -> None:
    host, base = setup.host, setup.base
    adapter = host.make_adapter(base, tmp_path)
    theirs = host.conditioning(random_context(base), host.branch(adapter, 2))
    model, clip = setup.apply()
    _, _, negative = setup.encode(clip, setup.subject())
    with pytest.raises(ValueError, match="conditioning: expected subjects encoded with"):
        guided(setup, model, (theirs, None, negative))


def test_the_modules_type_is_that_of_the_clone(setup: Setup) -> None:  # noqa: F811
    """Not what another clone, which sampled before, had changed in the model that they share."""
    plain, changed = setup.base.model.clone(), setup.base.model.clone()
    changed.set_model_compute_dtype(BRAIN)
    text = setup.host.encode_text(setup.base.clip, "a dog")
    sample(cfg_guider(changed, text, text), setup.noise, steps=1)

    def dtype_on(model: Any) -> torch.dtype:
        (patcher,) = setup.apply(model=model)[0].get_additional_models()
        return patcher.model.keys[0].weight.dtype

    assert dtype_on(plain) == FULL
    comfy.model_management.unload_all_models()
    assert dtype_on(changed) == BRAIN


def test_an_override_of_another_node_computes_image_attention(setup: Setup) -> None:  # noqa: F811
    """As a node that exchanges the attention function puts it on a MODEL."""
    model, clip = setup.apply()
    branches = setup.encode(clip, setup.subject())
    wanted = guided(setup, model, branches)
    lengths: Counter[int] = Counter()

    def override(function: Any, query: Any, key: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        lengths[key.shape[1]] += 1
        return function(query, key, *args, **kwargs)

    model.model_options["transformer_options"]["optimized_attention_override"] = override
    assert torch.equal(guided(setup, model, branches), wanted)
    assert set(lengths) >= {16, 77}, "16 image tokens and 77 of the text"
