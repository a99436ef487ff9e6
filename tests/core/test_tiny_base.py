import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from subject_diffusion_core.errors import CheckpointError
from subject_diffusion_core.tiny import tiny_base
from subject_diffusion_core.tiny.tiny_base import TOKEN_TABLE, TinyBase

VOCAB_SIZE, WIDTH = 200, 16
CONFIG = {
    "unet": {"in_channels": 16},
    "vae": {"latent_channels": 16},
    "text_encoder": {"vocab_size": VOCAB_SIZE, "hidden_size": WIDTH},
    "vision": {},
    "prediction_type": "v_prediction",
    "scheduler": {"beta_start": 0.00085},
    "scaling_factor": 1.0,
    "image_size": 128,
    "provenance": {"seed": 1},
}


@pytest.fixture
def base() -> TinyBase:
    torch.manual_seed(0)
    token_ids = torch.tensor([3, 7, 50, 199])
    table = torch.randn(1, WIDTH).repeat(VOCAB_SIZE, 1)  # unknown ids share one trained row
    table[token_ids] = torch.randn(4, WIDTH)
    return TinyBase(
        config=CONFIG,
        unet={"conv_in.weight": torch.randn(32, 16, 3, 3), "conv_in.bias": torch.randn(32)},
        vae={"encoder.layers.0.weight": torch.randn(64, 3, 3, 3)},
        text_encoder={TOKEN_TABLE: table},
        vision={"stem.weight": torch.randn(32, 3, 3, 3), "stem.bias": torch.randn(32)},
        token_ids=token_ids,
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tiny_base.safetensors"


def test_round_trip_without_quantisation_is_exact(base, path):
    tiny_base.save(path, base, int8=False)
    loaded = tiny_base.load(path)
    assert {key: loaded.config[key] for key in CONFIG} == CONFIG
    assert torch.equal(loaded.token_ids, base.token_ids)
    for part in tiny_base.PARTS:
        expected = getattr(base, part)
        assert expected.keys() == getattr(loaded, part).keys()
        for name, tensor in getattr(loaded, part).items():
            assert tensor.dtype == torch.float32 and torch.equal(tensor, expected[name])


def test_int8_error_is_half_a_step_per_channel(base, path):
    tiny_base.save(path, base)
    with safe_open(path, framework="pt") as file:
        assert file.get_tensor("unet.conv_in.weight").dtype == torch.int8
        assert file.get_tensor("unet.conv_in.weight.scale").shape == (32,)
    weight = base.unet["conv_in.weight"]
    step = weight.flatten(1).abs().amax(1)[:, None, None, None] / 127
    error = (tiny_base.load(path).unet["conv_in.weight"] - weight).abs()
    assert (error <= 0.5001 * step).all() and error.max() > 0


def test_biases_stay_exact(base, path):
    tiny_base.save(path, base)
    assert torch.equal(tiny_base.load(path).unet["conv_in.bias"], base.unet["conv_in.bias"])


def test_saving_a_loaded_base_again_changes_nothing(base, path, tmp_path):
    tiny_base.save(path, base)
    again = tmp_path / "again.safetensors"
    tiny_base.save(again, tiny_base.load(path))
    first, second = load_file(path), load_file(again)
    assert first.keys() == second.keys()
    assert all(torch.allclose(first[name], second[name]) for name in first)


def test_file_holds_only_used_token_rows(base, path):
    tiny_base.save(path, base, int8=False)
    assert load_file(path)[f"text_encoder.{TOKEN_TABLE}"].shape == (5, WIDTH)
    table = tiny_base.load(path).text_encoder[TOKEN_TABLE]
    assert table.shape == (VOCAB_SIZE, WIDTH)
    assert torch.equal(table, base.text_encoder[TOKEN_TABLE])


def test_mean_row_if_every_token_is_kept():
    table = torch.randn(4, 2)
    rows = tiny_base.compact_token_table(table, torch.arange(4))
    assert torch.allclose(rows[-1], table.mean(0))


def test_adapter_file_is_refused(path):
    save_file({"w": torch.zeros(1)}, path, metadata={"subject_diffusion": "{}"})
    with pytest.raises(CheckpointError, match="entry 'subject_diffusion_tiny_base', got subject_d"):
        tiny_base.load(path)


def test_unknown_version(base, path):
    config = json.dumps({**CONFIG, "format_version": 9})
    save_file({"w": torch.zeros(1)}, path, metadata={tiny_base.METADATA_KEY: config})
    with pytest.raises(CheckpointError, match="configuration of version 1, got version 9"):
        tiny_base.load(path)


def test_incomplete_configuration(path):
    save_file(
        {"w": torch.zeros(1)}, path, metadata={tiny_base.METADATA_KEY: '{"format_version": 1}'}
    )
    with pytest.raises(CheckpointError, match="got version 1 without unet, vae"):
        tiny_base.load(path)


def test_unknown_part(base, path):
    config = json.dumps({**CONFIG, "format_version": 1})
    save_file({"clip.w": torch.zeros(1)}, path, metadata={tiny_base.METADATA_KEY: config})
    with pytest.raises(CheckpointError, match=r"expected tensors of unet, vae, .* got 'clip\.w'"):
        tiny_base.load(path)


def test_missing_token_table(base, path):
    config = json.dumps({**CONFIG, "format_version": 1})
    save_file({"unet.w": torch.zeros(1)}, path, metadata={tiny_base.METADATA_KEY: config})
    with pytest.raises(CheckpointError, match="expected a token table and its ids"):
        tiny_base.load(path)


def test_truncated_file(base, path):
    tiny_base.save(path, base)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="got a damaged one"):
        tiny_base.load(path)


def test_int8_without_its_scale(base, path):
    tiny_base.save(path, base)
    tensors = load_file(path)
    del tensors["unet.conv_in.weight.scale"]
    config = json.dumps({**CONFIG, "format_version": 1})
    save_file(tensors, path, metadata={tiny_base.METADATA_KEY: config})
    with pytest.raises(CheckpointError, match=r"'unet\.conv_in\.weight\.scale' of shape \(32,\)"):
        tiny_base.load(path)
