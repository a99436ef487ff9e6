"""``export`` and ``import-reference`` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from subject_diffusion_core import checkpoint
from subject_diffusion_core.grounding import GroundingNet
from subject_diffusion_core.text_fusion import ImageEmbedProjector
from training.__main__ import main
from training.bases.architectures import TINY_WIDTH
from training.bases.loading import random_base
from training.bases.vision import vision_shape
from training.methods.subject_diffusion.assembly import (
    adapter_config,
    adapter_from_model,
    build_model,
    placeholder_embedding,
)
from training.methods.subject_diffusion.model import build_unet
from training.recipes import recipe_named, with_settings

WIDTH = 1024  # the importer tells SD2 by it


def reference_files(folder: Path) -> list[str]:
    """The four files of the authors' code, from the real classes, as options that name them."""
    unet = {**TINY_WIDTH.unet, "cross_attention_dim": WIDTH, "block_out_channels": (64,) * 4}
    text = {**TINY_WIDTH.text, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1}
    states = {
        "unet": build_unet({**unet, "attention_head_dim": 1}, 4).state_dict(),
        "text-encoder": CLIPTextModel(CLIPTextConfig(**text)).state_dict(),
        "mlp": ImageEmbedProjector(6, 8, WIDTH).state_dict(),
        "proj": GroundingNet(10, WIDTH, 12, 16).state_dict(),
    }
    arguments = []
    for name, state in states.items():
        path = folder / f"{name}.safetensors"
        save_file({k: v.contiguous() for k, v in state.items()}, path)
        arguments += [f"--{name}", str(path)]
    return arguments


def test_four_files_become_an_adapter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made" / "adapter.safetensors"
    arguments = reference_files(tmp_path)
    main(["import-reference", *arguments, "--num-subjects", "3", "--out", str(out)])
    assert "sd2, 3 subjects" in capsys.readouterr().out
    config = checkpoint.load(out).config
    assert config.mask_polarity == "outside" and config.num_subjects == 3
    arguments[1] = str(tmp_path / "nowhere.bin")
    with pytest.raises(SystemExit, match=r"--unet: expected a file, got .*nowhere"):
        main(["import-reference", *arguments, "--out", str(out)])


def test_export_of_nothing_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"error: --run: expected a checkpoint in .* got none"):
        main(["export", "--run", str(tmp_path), "--out", str(tmp_path / "a.safetensors")])


def test_without_cls_the_projector_gives_the_placeholders_own_embedding() -> None:
    recipe = with_settings(recipe_named("debug_cpu"), ["image_cls=false"])
    base = random_base(recipe)
    vision = vision_shape(recipe, base)
    model = build_model(base, recipe, vision)
    config = adapter_config(model, base, recipe, vision, {})
    projector = adapter_from_model(model, config, recipe).build_projector()
    pictures = torch.randn(3, vision.image_embed_dim)
    expected = placeholder_embedding(model, recipe).half().float().expand(3, -1)
    assert torch.equal(projector(pictures), expected)


def test_without_the_adapter_layer_the_gates_of_the_first_adapter_are_closed(
    tmp_path: Path,
) -> None:
    full = recipe_named("debug_cpu")
    base = random_base(full)
    vision = vision_shape(full, base)
    model = build_model(base, full, vision)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".alpha_" in name:
                parameter.fill_(0.7)
    init = tmp_path / "first.safetensors"
    first = adapter_from_model(model, adapter_config(model, base, full, vision, {}), full)
    checkpoint.save(init, first)
    recipe = with_settings(full, ["adapter=false"])
    model = build_model(base, recipe, vision, init)
    config = adapter_config(model, base, recipe, vision, {})
    gates = {
        n: t for n, t in adapter_from_model(model, config, recipe).unet.items() if ".alpha_" in n
    }
    assert gates and all(gate == 0 for gate in gates.values())
    assert all(first.unet[name] != 0 for name in gates)
