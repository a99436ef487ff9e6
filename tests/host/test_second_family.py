"""The nodes work through the contract of a family alone: a second one beside the first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comfy.samplers
import pytest
import torch
from host_models import Base, Host, cfg_guider, random_noise, relative_error, sample
from safetensors.torch import save_file
from test_nodes import make_subject
from test_saved_subjects import output_folder, save_and_load  # noqa: F401
from tint_family import tint_registered, write_tint_file

PROMPT = "a dog in a forest"


class Setup:
    """The tiny base with an adapter of each family, on clones of one MODEL."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.base: Base = host.make_base()
        self.ours = host.make_adapter(self.base, folder)
        self.tint = host.registry.load_adapter(write_tint_file(folder / "tint.safetensors", 3.0))
        self.vision = host.tiny_clip_vision.TinyClipVision(host.tiny)
        self.noise = random_noise(self.base)
        self.subject = make_subject(host, box="0,0,0.5,0.5")

    def apply(self, adapter: Any, model: Any = None, **settings: Any) -> tuple[Any, Any]:
        apply = self.host.apply_node.apply_adapter
        return apply(model or self.base.model, self.base.clip, adapter, **settings)

    def encode(self, clip: Any, adapter: Any, *subjects: Any) -> tuple[Any, Any, Any]:
        node = self.host.encode_node.SubjectDiffusionEncode
        chosen = subjects or (self.subject,)
        return node.execute(clip, self.vision, adapter, chosen, PROMPT, "").args

    def run(self, adapter: Any, **settings: Any) -> torch.Tensor:
        """Two steps with the Guider."""
        model, clip = self.apply(adapter, **settings)
        return self.guided(model, self.encode(clip, adapter))

    def guided(self, model: Any, conditionings: tuple[Any, Any, Any]) -> torch.Tensor:
        node = self.host.guider_node.SubjectDiffusionGuider
        (guider,) = node.execute(model, *conditionings, 3.0, 1.5).args
        return sample(guider, self.noise, steps=2)


@pytest.fixture(scope="module")
def setup(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    with tint_registered(host), torch.inference_mode():
        yield Setup(host, tmp_path_factory.mktemp("families"))


def stock(setup: Setup) -> torch.Tensor:
    positive, negative = (setup.host.encode_text(setup.base.clip, text) for text in (PROMPT, ""))
    dual = comfy.samplers.CFGGuider(setup.base.model)
    dual.set_conds(positive, negative)
    dual.set_cfg(3.0)
    return sample(dual, setup.noise, steps=2)


def test_both_act_on_clones_of_one_model(setup: Setup) -> None:
    """Each gives what it gives alone, whatever was attached to another clone in between."""
    ours_before, tint_before = setup.run(setup.ours), setup.run(setup.tint)
    mine = setup.apply(setup.ours)
    theirs = setup.apply(setup.tint)
    tinted = setup.guided(theirs[0], setup.encode(theirs[1], setup.tint))
    fused = setup.guided(mine[0], setup.encode(mine[1], setup.ours))
    assert torch.equal(fused, ours_before) and torch.equal(tinted, tint_before)
    assert relative_error(tinted, stock(setup)) > 1e-3
    assert relative_error(tinted, fused) > 1e-3


def test_strength_zero_and_an_empty_range_are_stock(setup: Setup) -> None:
    for settings in ({"strength": 0.0}, {"start_percent": 0.5, "end_percent": 0.5}):
        model, clip = setup.apply(setup.tint, **settings)
        positive, _, negative = setup.encode(clip, setup.tint)
        guider = cfg_guider(model, positive, negative, 3.0)
        assert torch.equal(sample(guider, setup.noise, steps=2), stock(setup))


def test_start_and_end_limit_it(setup: Setup) -> None:
    whole = setup.run(setup.tint)
    first = setup.run(setup.tint, end_percent=0.3)
    later = setup.run(setup.tint, start_percent=0.3)
    assert len({float(latent.sum()) for latent in (whole, first, later)}) == 3


def test_one_family_takes_no_subjects_of_the_other(setup: Setup) -> None:
    model, _ = setup.apply(setup.ours)
    _, clip = setup.apply(setup.tint)
    with pytest.raises(ValueError, match="conditioning: expected subjects encoded with"):
        setup.guided(model, setup.encode(clip, setup.tint))
    with pytest.raises(ValueError, match=r"adapter: expected 'tint\.safetensors', which is on"):
        setup.encode(clip, setup.ours)
    with pytest.raises(ValueError, match="model: expected a MODEL without a Subject-Diffusion"):
        setup.apply(setup.tint, model=model)


def test_saved_subjects_keep_its_tensors(setup: Setup, output_folder: Path) -> None:  # noqa: F811
    host = setup.host
    node = host.encode_subjects_node.SubjectDiffusionEncodeSubjects
    subjects = (make_subject(host, box="0,0,0.5,0.5", strength=0.7),)
    (encoded,) = node.execute(subjects, setup.vision, setup.tint).args
    (loaded,) = save_and_load(host, encoded)
    assert list(loaded.embeds.tensors) == ["brightness"]
    assert torch.equal(loaded.embeds.tensors["brightness"], encoded[0].embeds.tensors["brightness"])
    model, clip = setup.apply(setup.tint)
    from_file = setup.guided(model, setup.encode(clip, setup.tint, loaded))
    assert torch.equal(from_file, setup.guided(model, setup.encode(clip, setup.tint, *subjects)))
    _, clip = setup.apply(setup.ours)
    with pytest.raises(ValueError, match="Subject 1's embeddings: expected patch_embeds and image"):
        setup.encode(clip, setup.ours, loaded)


def test_reference_view_and_maps(setup: Setup) -> None:
    host = setup.host
    subjects = (make_subject(host, box="0,0,0.5,0.5", views=2),)
    view = host.reference_view_node.SubjectDiffusionReferenceView
    assert view.execute(subjects, setup.tint).args[0].shape == (2, 96, 96, 3)
    model, clip = setup.apply(setup.tint)
    record = host.record_attention_node.SubjectDiffusionRecordAttention
    recorded, attention = record.execute(model, "0-1").args
    conditionings = setup.encode(clip, setup.tint, *subjects)
    latent = setup.guided(recorded, conditionings)
    assert torch.equal(latent, setup.guided(model, conditionings))
    maps = host.attention_maps_node.SubjectDiffusionAttentionMaps
    shown = maps.execute(attention, torch.rand(1, 64, 64, 3), "label", 0.5, 0.7).args
    assert shown[0].shape[0] == 1 and shown[3].startswith("picture 1: dog (label)")


def test_a_foreign_replacement_of_the_attention_keeps_the_term(setup: Setup) -> None:
    """Where another pack replaced the cross-attention, the term is added behind it."""
    model, clip = setup.apply(setup.tint)
    conditionings = setup.encode(clip, setup.tint)
    wanted = setup.guided(model, conditionings)
    replaced = model.clone()
    calls = []

    def attend(q: Any, k: Any, v: Any, options: dict[str, Any]) -> torch.Tensor:
        calls.append(q.shape)
        heads = options["n_heads"]
        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
        attended = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return attended.transpose(1, 2).flatten(2)

    for location in setup.host.unet_geometry.read_unet_geometry(model).blocks.values():
        kind, number, index = location.location
        replaced.set_model_attn2_replace(attend, kind, number, index)
    assert relative_error(setup.guided(replaced, conditionings), wanted) < 1e-5
    assert calls


def test_an_override_that_was_there_is_called(setup: Setup) -> None:
    model, clip = setup.apply(setup.tint)
    conditionings = setup.encode(clip, setup.tint)
    wanted = setup.guided(model, conditionings)
    calls = []

    def override(function: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(function)
        return function(*args, **kwargs)

    other = model.clone()
    options = other.model_options.setdefault("transformer_options", {})
    options["optimized_attention_override"] = override
    assert torch.equal(setup.guided(other, conditionings), wanted)
    assert len(calls) > 4


def test_a_method_that_nobody_knows(setup: Setup, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    entry = json.dumps({"format_version": 1, "method": "telepathy"})
    save_file({"x": torch.zeros(1)}, path, {"subject_diffusion": entry})
    with pytest.raises(ValueError, match=r"expected an adapter of the method .* 'telepathy'"):
        setup.host.registry.load_adapter(path)
