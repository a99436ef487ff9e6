"""What holds for IP-Adapter and MS-Diffusion alike: neutral settings, order, sizes, branches, the
other nodes, unloading."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.samplers
import torch
from host_models import Host, cfg_guider, random_noise, relative_error, sample
from ip_models import make_file, write_file
from test_interpolate import SIGMAS, FixedNoise, part
from test_ip_beside_models import Family, adapter_of, family  # noqa: F401
from test_parity import host_prediction
from test_saved_subjects import output_folder, save_and_load  # noqa: F401

# height and width in cells, of 520 x 776 and of 832 x 1216 pixels
SIZES = {"IP-Adapter": ((97, 65),), "MS-Diffusion": ((97, 65), (152, 104))}


def test_neutral_settings_are_stock(family: Family) -> None:  # noqa: F811
    stock = family.run(family.setup.base.model, family.plain)
    settings: tuple[dict[str, Any], ...] = (
        {"strength": 0.0},
        {"start_percent": 0.4, "end_percent": 0.4},
        {"block_weights": "all=0"},
    )
    for each in settings:
        assert torch.equal(family.run(*family.apply(**each)), stock)
    model, clip = family.setup.apply()
    for subjects in ([], family.setup.subjects(2, strength=0.0)):
        positive, _, negative = family.setup.encode(clip, *subjects)
        assert torch.equal(family.run(model, [positive, negative]), stock)
    assert relative_error(family.run(*family.apply()), stock) > 1e-3


def test_order_of_subjects_does_not_matter(family: Family) -> None:  # noqa: F811
    model, clip = family.setup.apply()
    subjects = family.setup.subjects(3)
    latents = []
    for chosen in (subjects, subjects[::-1]):
        positive, _, negative = family.setup.encode(clip, *chosen)
        latents.append(family.run(model, [positive, negative]))
    assert relative_error(*latents) < 1e-5


def test_sizes_that_do_not_divide_evenly(family: Family) -> None:  # noqa: F811
    """A batch is its pictures one by one, and a subject changes its own box most."""
    model, clip = family.setup.apply()
    (subject,) = family.setup.subjects(1, box="0,0,0.3,0.3")
    positive = family.setup.encode(clip, subject)[0]
    for height, width in SIZES[family.name]:
        noise = random_noise(family.setup.base, batch=2, size=(height, width))
        texts = [positive, family.plain[0]]
        batch, without = (
            host_prediction(family.setup.base, cfg_guider(model, text, text), noise)
            for text in texts
        )
        guider = cfg_guider(model, positive, positive)
        single = host_prediction(family.setup.base, guider, noise[1:])
        assert relative_error(batch[1:], single) < 1e-4
        change = (batch - without).abs().mean(dim=(0, 1))
        inside = change[: int(0.3 * height), : int(0.3 * width)].mean()
        assert inside > 3 * change[int(0.6 * height) :, int(0.6 * width) :].mean()


def test_three_branches_in_one_call_equal_three_calls(family: Family) -> None:  # noqa: F811
    base, (model, clip) = family.setup.base, family.setup.apply()
    branches = family.setup.encode(clip, *family.setup.subjects(2))
    node = family.host.guider_node.SubjectDiffusionGuider
    (guider,) = node.execute(model, *branches, 3.0, 1.5).args
    together = host_prediction(base, guider, family.setup.noise)
    text, image, nothing = (
        host_prediction(base, cfg_guider(model, branch, branch), family.setup.noise)
        for branch in branches
    )
    assert relative_error(together, nothing + 1.5 * (image - nothing) + 3 * (text - image)) < 1e-4


def test_saved_subjects_are_the_same(family: Family, output_folder: Path) -> None:  # noqa: F811
    model, clip = family.setup.apply()
    subjects = tuple(family.setup.subjects(2))
    encoded = family.host.image_encoding.encode_subjects(
        family.setup.vision.ours, subjects, adapter_of(family).pictures, keep=True
    )
    loaded = save_and_load(family.host, encoded)
    assert list(output_folder.iterdir())
    latents = []
    for chosen in (subjects, loaded):
        positive, _, negative = family.setup.encode(clip, *chosen)
        latents.append(family.run(model, [positive, negative]))
    assert relative_error(*latents) < 1e-5


def test_the_strip_goes_from_the_subjects_to_the_plain_prompt(family: Family) -> None:  # noqa: F811
    model, texts = family.apply()
    guiders = (
        cfg_guider(model, *texts, 3.0),
        cfg_guider(family.setup.base.model, *family.plain, 3.0),
    )
    node = family.host.interpolate_node.SubjectDiffusionInterpolate
    latent = {"samples": torch.zeros_like(family.setup.noise)}
    euler = comfy.samplers.sampler_object("euler")
    strip = node.execute(FixedNoise(), *guiders, euler, SIGMAS, latent, "0, 0.5, 1")[0]["samples"]
    noise = FixedNoise().generate_noise(latent)
    ends = [part(guider, latent["samples"], noise, SIGMAS) for guider in guiders]
    assert relative_error(strip[:1], ends[0]) < 1e-5 and relative_error(strip[2:], ends[1]) < 1e-5
    assert relative_error(strip[1:2], ends[0]) > 1e-4 and relative_error(strip[1:2], ends[1]) > 1e-4


def test_into_a_photo(family: Family) -> None:  # noqa: F811
    """With a noise mask, the photo stays outside of it, and the subject acts inside."""
    photo = torch.randn(family.setup.noise.shape, generator=torch.Generator().manual_seed(3))
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :12, :9] = 1
    latents = []
    for model, texts in (family.apply(), (family.setup.base.model, family.plain)):
        guider = cfg_guider(model, *texts, 3.0)
        euler = comfy.samplers.sampler_object("euler")
        noise = family.setup.noise
        latents.append(guider.sample(noise, photo, euler, SIGMAS, denoise_mask=mask, seed=0))
    assert relative_error(latents[0] * (1 - mask), photo * (1 - mask)) < 1e-5
    assert relative_error(latents[0] * mask, latents[1] * mask) > 1e-3


def test_the_reference_view_shows_what_the_encoder_gets(family: Family) -> None:  # noqa: F811
    node = family.host.reference_view_node.SubjectDiffusionReferenceView
    (pictures,) = node.execute(tuple(family.setup.subjects(2)), adapter_of(family)).args
    assert pictures.shape == (2, 224, 224, 3)


def test_nothing_is_alive_after_unloading(family: Family, tmp_path: Path) -> None:  # noqa: F811
    host: Host = family.host
    kind = adapter_of(family).file.kind
    file = write_file(tmp_path / "file.bin", make_file(kind, family.setup.base.unet))
    adapter = host.registry.load_adapter(file)
    base = family.setup.base
    model, clip = host.apply_node.apply_adapter(base.model, base.clip, adapter)
    inputs = (clip, family.setup.vision.ours, adapter, tuple(family.setup.subjects(2)), "a dog", "")
    positive, _, negative = host.encode_node.SubjectDiffusionEncode.execute(*inputs).args
    sample(cfg_guider(model, positive, negative, 3.0), family.setup.noise, steps=1)
    (patcher,) = model.get_additional_models()
    alive = [weakref.ref(item) for item in (adapter, patcher.model, model)]
    del adapter, patcher, model, clip, positive, negative, inputs
    comfy.model_management.unload_all_models()
    comfy.model_management.cleanup_models_gc()
    gc.collect()
    assert [ref() for ref in alive] == [None, None, None]
