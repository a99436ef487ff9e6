import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from subject_diffusion_core import checkpoint
from subject_diffusion_core.errors import CheckpointError
from subject_diffusion_core.grounding import GroundingNet
from subject_diffusion_core.text_fusion import ImageEmbedProjector

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
WIDTH = 1024  # the importer tells SD2 by it


def make_unet(in_channels: int = 5, attention_type: str = "gated", width: int = WIDTH):
    return diffusers.UNet2DConditionModel(
        in_channels=in_channels,
        attention_type=attention_type,
        block_out_channels=(64, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=width,
        attention_head_dim=(1, 1),
        norm_num_groups=8,
        use_linear_projection=True,
    )


@pytest.fixture(scope="module")
def weights() -> dict[str, dict[str, torch.Tensor]]:
    """State dicts under the reference's names, from the real classes."""
    torch.manual_seed(0)
    text_config = transformers.CLIPTextConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    text_encoder = transformers.CLIPTextModel(text_config).state_dict()
    return {
        "unet": dict(make_unet().state_dict()),
        "text_encoder": {
            "text_model." + name.removeprefix("text_model."): tensor
            for name, tensor in text_encoder.items()
        },
        "mlp": dict(ImageEmbedProjector(6, 8, WIDTH).state_dict()),
        "proj": dict(GroundingNet(10, WIDTH, 12, 16).state_dict()),
    }


def save_all(folder: Path, weights, suffix: str) -> dict[str, Path]:
    paths = {name: folder / f"{name}{suffix}" for name in weights}
    for name, path in paths.items():
        if suffix == ".safetensors":
            save_file(weights[name], path)
        else:
            torch.save(weights[name], path)
    return paths


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".pt"])
def test_four_files_become_one_adapter(tmp_path, weights, suffix):
    adapter = checkpoint.import_reference(**save_all(tmp_path, weights, suffix))
    checkpoint.save(tmp_path / "adapter.safetensors", adapter)
    loaded = checkpoint.load(tmp_path / "adapter.safetensors")
    assert torch.equal(loaded.unet["conv_in.weight"], weights["unet"]["conv_in.weight"])
    assert torch.equal(
        loaded.grounding["null_image_feature"], weights["proj"]["null_image_feature"]
    )
    assert not any("position_net" in name or ".attn1." in name for name in loaded.unet)


def test_configuration_follows_the_references_rules(weights):
    config = checkpoint.import_reference(**weights, num_subjects=3).config
    assert (config.base_family, config.mask_polarity, config.null_rule) == (
        "sd2", "outside", "zeros",
    )  # fmt: skip
    assert (config.mask_kind, config.placeholder, config.placeholder_token_id) == (
        "box", "sks", 48136,
    )  # fmt: skip
    assert (config.num_patches, config.patch_dim, config.num_subjects) == (16, 10, 3)
    assert config.box_coordinates and not config.patch_positions and not config.query_positions
    assert {(b.query_dim, b.num_heads, b.head_dim) for b in config.adapter_blocks} == {(64, 1, 64)}
    assert len(config.adapter_blocks) == 4  # one down, one middle, two up


def test_adapters_compute_what_the_references_fusers_compute(weights):
    unet = make_unet()
    state_dict = {
        name: torch.full_like(tensor, 0.5) if "alpha" in name else tensor
        for name, tensor in weights["unet"].items()
    }
    unet.load_state_dict(state_dict)
    adapter = checkpoint.import_reference(**{**weights, "unet": state_dict})
    name = "down_blocks.0.attentions.0.transformer_blocks.0"
    hidden_states, tokens = torch.randn(1, 9, 64), torch.randn(1, 5, WIDTH)
    theirs = unet.get_submodule(name).fuser(hidden_states, tokens)
    ours = adapter.build_adapters()[name](hidden_states, tokens)
    assert (ours - theirs).abs().max() < 1e-6 * theirs.abs().max()


def test_text_encoder_names_of_newer_transformers(weights):
    bare = {k.removeprefix("text_model."): v for k, v in weights["text_encoder"].items()}
    bare["embeddings.position_ids"] = torch.arange(77)[None]
    adapter = checkpoint.import_reference(**{**weights, "text_encoder": bare})
    assert set(adapter.text_encoder) == set(weights["text_encoder"])


class Harmful:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


def test_code_in_a_pickle_is_not_run(tmp_path, weights, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"fc1.weight": Harmful()}, tmp_path / "mlp.bin")
    with pytest.raises(CheckpointError, match="mlp: expected a file of plain tensors"):
        checkpoint.import_reference(**{**weights, "mlp": tmp_path / "mlp.bin"})
    assert not (tmp_path / "executed").exists()


def test_truncated_pickle(tmp_path, weights):
    path = tmp_path / "mlp.bin"
    torch.save(weights["mlp"], path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="mlp: expected a file of plain tensors"):
        checkpoint.import_reference(**{**weights, "mlp": path})


def test_missing_file(tmp_path, weights):
    with pytest.raises(
        CheckpointError, match=r"proj: expected a file of plain tensors, .*none\.pt"
    ):
        checkpoint.import_reference(**{**weights, "proj": tmp_path / "none.pt"})


def test_file_that_is_no_state_dict(tmp_path, weights):
    torch.save({"epoch": 3}, tmp_path / "mlp.pt")
    with pytest.raises(CheckpointError, match="mlp: expected a state dict of tensors, got dict"):
        checkpoint.import_reference(**{**weights, "mlp": tmp_path / "mlp.pt"})


def test_files_in_the_wrong_order(weights):
    swapped = {**weights, "mlp": weights["proj"], "proj": weights["mlp"]}
    with pytest.raises(CheckpointError, match="Pass the files in the order unet, text encoder"):
        checkpoint.import_reference(**swapped)


def test_unet_without_adapters(weights):
    plain = make_unet(attention_type="default").state_dict()
    with pytest.raises(CheckpointError, match="unet: expected adapters"):
        checkpoint.import_reference(**{**weights, "unet": plain})


def test_unet_without_mask_channel(weights):
    four = make_unet(in_channels=4).state_dict()
    with pytest.raises(CheckpointError, match="conv_in with 5 input channels, got 4"):
        checkpoint.import_reference(**{**weights, "unet": four})


def test_unknown_base(weights):
    other = make_unet(width=32).state_dict()
    with pytest.raises(CheckpointError, match=r"1024 \(SD2\) or 768 \(SD1\.5\), got 32"):
        checkpoint.import_reference(**{**weights, "unet": other})


def test_sd15_has_eight_heads(weights):
    unet = make_unet(width=768).state_dict()
    proj = GroundingNet(10, 768, 12, 16).state_dict()
    mlp = ImageEmbedProjector(6, 8, 768).state_dict()
    config = checkpoint.import_reference(
        unet=unet, text_encoder=weights["text_encoder"], mlp=mlp, proj=proj
    ).config
    assert config.base_family == "sd15"
    assert {(b.num_heads, b.head_dim) for b in config.adapter_blocks} == {(8, 8)}


def test_incomplete_adapter(weights):
    unet = dict(weights["unet"])
    name = next(n for n in unet if n.endswith("fuser.attn.to_q.weight"))
    del unet[name]
    with pytest.raises(CheckpointError, match=f"without 'unet.{name}'"):
        checkpoint.import_reference(**{**weights, "unet": unet})


def test_diverged_weights(weights):
    mlp = {**weights["mlp"], "fc1.bias": torch.full((8,), float("nan"))}
    with pytest.raises(CheckpointError, match=r"NaN or infinity in 'mlp\.fc1\.bias'"):
        checkpoint.import_reference(**{**weights, "mlp": mlp})
