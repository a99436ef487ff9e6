import json
import os
import struct
from dataclasses import replace

import pytest
import torch
from adapter_factory import BLOCK, make_adapter, make_config
from safetensors.torch import save_file

from subject_diffusion_core import checkpoint
from subject_diffusion_core.errors import CheckpointError
from subject_diffusion_core.files.adapter import expected_shapes
from subject_diffusion_core.files.adapter_config import config_to_json
from subject_diffusion_core.files.header import read_header
from subject_diffusion_core.files.safetensors_file import read_safetensors, write_safetensors


@pytest.fixture
def path(tmp_path):
    return tmp_path / "adapter.safetensors"


def write(path, adapter, tensors=None, **fields):
    """A file that `checkpoint.save` would refuse to write."""
    config = {**json.loads(config_to_json(adapter.config)), **fields}
    save_file(
        adapter.tensors() if tensors is None else tensors,
        path,
        metadata={checkpoint.METADATA_KEY: json.dumps(config)},
    )


def test_round_trip_is_exact(adapter, path):
    checkpoint.save(path, adapter)
    loaded = checkpoint.load(path)
    assert loaded.config == adapter.config
    assert loaded.tensors().keys() == adapter.tensors().keys()
    for name, tensor in adapter.tensors().items():
        assert torch.equal(loaded.tensors()[name], tensor)


def test_tensor_names_follow_diffusers(adapter):
    assert {
        f"unet.{BLOCK}.fuser.alpha_attn",
        f"unet.{BLOCK}.fuser.attn.to_out.0.weight",
        f"unet.{BLOCK}.fuser.query_position.weight",
        f"unet.{BLOCK}.attn2.to_k.weight",
        "unet.conv_in.weight",
        "text_encoder.text_model.final_layer_norm.weight",
        "grounding.null_image_feature",
        "mlp.fc2.bias",
    } <= set(adapter.tensors())


def test_modules_are_rebuilt_with_their_weights(adapter, path):
    checkpoint.save(path, adapter)
    loaded = checkpoint.load(path)
    net, projector, adapters = (
        loaded.build_grounding_net(), loaded.build_projector(), loaded.build_adapters(),
    )  # fmt: skip
    assert torch.equal(net.null_image_feature, adapter.grounding["null_image_feature"])
    assert torch.equal(projector.fc1.weight, adapter.mlp["fc1.weight"])
    assert list(adapters) == [BLOCK]
    assert torch.equal(adapters[BLOCK].linear.weight, adapter.unet[f"{BLOCK}.fuser.linear.weight"])
    tokens = net(torch.randn(1, 3, 4, 10), torch.ones(1, 3).bool(), torch.rand(1, 3, 4))
    hidden = torch.randn(1, 5, 8)
    assert adapters[BLOCK](hidden, tokens, query_positions=torch.zeros(1, 5, 64)).shape == (1, 5, 8)


def built_tensors(adapter):
    """Every tensor of the adapter's modules, under its name in the file."""
    modules = {
        "grounding": adapter.build_grounding_net(),
        "mlp": adapter.build_projector(),
        **{f"unet.{name}.fuser": layer for name, layer in adapter.build_adapters().items()},
    }
    assert not any(module.training for module in modules.values())
    return {
        f"{prefix}.{name}": tensor
        for prefix, module in modules.items()
        for name, tensor in module.state_dict(keep_vars=True).items()
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_built_modules_hold_copies_of_the_weights_bit_for_bit(adapter, path, dtype):
    write(path, adapter, {name: t.to(dtype) for name, t in adapter.tensors().items()})
    loaded = checkpoint.load(path)
    built = built_tensors(loaded)
    assert built.keys() == {
        n for n in expected_shapes(loaded.config) if "conv" not in n and "attn2" not in n
    }
    for name, tensor in built.items():
        assert tensor.dtype == torch.float32 and tensor.requires_grad, name
        assert torch.equal(tensor, loaded.tensors()[name].float()), name
    before = loaded.fingerprint
    with torch.no_grad():
        for tensor in built.values():
            tensor += 1
    assert replace(loaded).fingerprint == before
    assert all(torch.equal(b + 1, built[name]) for name, b in built_tensors(loaded).items())


def test_building_draws_no_random_numbers(adapter):
    state = torch.get_rng_state()
    built_tensors(adapter)
    assert torch.equal(torch.get_rng_state(), state)


def test_half_precision_files_build_float32_modules(adapter, path):
    half = {name: tensor.half() for name, tensor in adapter.tensors().items()}
    write(path, adapter, half)
    assert checkpoint.load(path).build_projector().fc1.weight.dtype == torch.float32


def test_a_failed_save_leaves_the_old_file_and_no_rest(adapter, path):
    checkpoint.save(path, adapter)
    before = path.read_bytes()
    adapter.mlp["fc1.weight"][0, 0] = float("nan")
    with pytest.raises(CheckpointError, match=r"expected finite numbers, .* in 'mlp\.fc1\.weight'"):
        checkpoint.save(path, adapter)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_save_refuses_weights_of_another_configuration(adapter, path):
    del adapter.unet["conv_in.weight"]
    with pytest.raises(CheckpointError, match=r"without 'unet\.conv_in\.weight'"):
        checkpoint.save(path, adapter)
    assert not path.exists()


def test_missing_file(path):
    with pytest.raises(CheckpointError, match=r"expected a \.safetensors file, got nothing there"):
        checkpoint.load(path)


@pytest.mark.parametrize("share", [0.001, 0.02, 0.5, 0.999])
def test_truncated_file(adapter, path, share):
    checkpoint.save(path, adapter)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=r"(damaged one|something else).*again"):
        checkpoint.load(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_file_under_our_name_is_not_opened(adapter, path, legacy):
    torch.save(adapter.tensors(), path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="got a pickled PyTorch file"):
        checkpoint.load(path)


def test_other_content(path):
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(CheckpointError, match=r"got something else \(16 bytes\)"):
        checkpoint.load(path)


@pytest.mark.parametrize("protocol", [2, 4])
def test_header_length_that_looks_like_a_pickle_is_read(path, protocol):
    """A header of 0x280 or 0x480 bytes makes the file begin like a pickle of protocol 2 or 4."""
    for padding in range(0, 1200, 8):
        save_file({"w": torch.zeros(1)}, path, metadata={"padding": "x" * padding})
        if path.read_bytes().startswith(bytes([0x80, protocol])):
            break
    else:
        pytest.fail("no such header was made")
    assert read_safetensors(path)[0].keys() == {"w"}


def test_header_that_promises_too_much(path):
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(CheckpointError, match="got a damaged one"):
        checkpoint.load(path)


def test_file_of_another_project(adapter, path):
    save_file(adapter.tensors(), path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="the metadata entry 'subject_diffusion', got format"):
        checkpoint.load(path)


def test_unknown_version(adapter, path):
    write(path, adapter, format_version=2)
    with pytest.raises(CheckpointError, match=r"expected format version 1, got 2\. Update"):
        checkpoint.load(path)


def test_the_method_may_be_named(adapter, path):
    checkpoint.save(path, adapter)
    assert "method" not in json.loads(read_safetensors(path)[1][checkpoint.METADATA_KEY])
    assert checkpoint.method_of(read_header(path)) == "subject_diffusion"
    write(path, adapter, method="subject_diffusion")
    assert checkpoint.method_of(read_header(path)) == "subject_diffusion"
    assert checkpoint.load(path).config == adapter.config


def test_an_adapter_of_another_method(adapter, path):
    write(path, adapter, method="dreamtuner", format_version=7)
    assert checkpoint.method_of(read_header(path)) == "dreamtuner"
    sentence = "expected an adapter of the method 'subject_diffusion', got one of 'dreamtuner'. Use"
    with pytest.raises(CheckpointError, match=sentence):
        checkpoint.load(path)


def test_a_header_that_was_read_already(adapter, path):
    checkpoint.save(path, adapter)
    assert checkpoint.load(read_header(path)).fingerprint == adapter.fingerprint


def test_metadata_that_is_no_json(adapter, path):
    save_file(adapter.tensors(), path, metadata={checkpoint.METADATA_KEY: "{broken"})
    with pytest.raises(CheckpointError, match=r"expected a JSON configuration .* got '\{broken'"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("mask_polarity", "both"), ("num_patches", 0), ("adapter_blocks", []), ("surprise", 1)],
)
def test_invalid_configuration(adapter, path, field, value):
    write(path, adapter, **{field: value})
    with pytest.raises(CheckpointError, match=f"expected a valid configuration, .*{field}"):
        checkpoint.load(path)


def test_a_configuration_that_lacks_entries_names_them(adapter, path):
    """As of a file that says no more of itself than that it is an adapter."""
    save_file(adapter.tensors(), path, {checkpoint.METADATA_KEY: '{"format_version": 1}'})
    with pytest.raises(CheckpointError, match=r"got one without adapter_blocks, base_family, .*\."):
        checkpoint.load(path)


def test_not_a_number(adapter, path):
    tensors = adapter.tensors()
    tensors["grounding.null_image_feature"][..., 0] = float("inf")
    write(path, adapter, tensors)
    with pytest.raises(
        CheckpointError, match=r"NaN or infinity in 'grounding\.null_image_feature'"
    ):
        checkpoint.load(path)


def test_missing_keys_are_counted(adapter, path):
    tensors = {k: v for k, v in adapter.tensors().items() if not k.startswith("mlp.")}
    write(path, adapter, tensors)
    with pytest.raises(CheckpointError, match=r"without 'mlp\.fc1\.bias', .* and 3 more"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "name", ["lora.up.weight", "text_encoder.text_model.position_ids", "unet.conv_out.weight"]
)
def test_extra_keys(adapter, path, name):
    write(path, adapter, {**adapter.tensors(), name: torch.zeros(1)})
    with pytest.raises(CheckpointError, match=f"with unknown '{name}'"):
        checkpoint.load(path)


def test_wrong_shape_names_both(adapter, path):
    tensors = adapter.tensors()
    tensors["unet.conv_in.weight"] = torch.zeros(8, 16, 3, 3)
    write(path, adapter, tensors)
    with pytest.raises(
        CheckpointError,
        match=r"'unet\.conv_in\.weight' of shape \(any, 17, 3, 3\), got \(8, 16, 3, 3\)",
    ):
        checkpoint.load(path)


def test_trained_parts_decide_which_tensors_are_needed(path):
    parts = ("adapters", "grounding", "mlp")
    adapter = make_adapter(trained_parts=parts, location_control=False)
    with pytest.raises(CheckpointError, match="with unknown 'text_encoder"):
        checkpoint.save(path, adapter)
    adapter.text_encoder.clear()
    for name in [name for name in adapter.unet if ".fuser." not in name]:
        del adapter.unet[name]
    checkpoint.save(path, adapter)
    assert checkpoint.load(path).config.trained_parts == parts


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_family": "sdxl"}, "base_family: expected one of sd2, sd15, tiny, got 'sdxl'"),
        ({"null_rule": "ones"}, "null_rule: expected one of learned, zeros"),
        ({"num_subjects": 0}, "num_subjects: expected a whole number of 1 or more, got 0"),
        ({"trained_parts": ("vae",)}, "trained_parts: expected some of"),
        ({"num_patches": 6}, "num_patches: expected a square number"),
        ({"trained_parts": ("mlp",)}, "location_control: expected False"),
    ],
)
def test_configuration_is_validated(changes, message):
    with pytest.raises(ValueError, match=message):
        make_config(**changes)


@pytest.mark.skipif(os.name == "nt", reason="no file modes")
def test_files_can_be_read_by_others_as_the_umask_says(tmp_path):
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    write_safetensors(tmp_path / "a.safetensors", {"x": torch.zeros(1)}, {})
    assert (tmp_path / "a.safetensors").stat().st_mode == plain.stat().st_mode


def test_large_weights_in_eight_bits(adapter, path):
    checkpoint.save(path, adapter, int8=True)
    stored, _ = read_safetensors(path)
    large = {n for n, t in adapter.tensors().items() if t.ndim > 1 and t.numel() >= 1024}
    assert large == {name for name, tensor in stored.items() if tensor.dtype == torch.int8}
    assert large
    loaded = checkpoint.load(path)
    assert loaded.config == adapter.config
    for name, tensor in adapter.tensors().items():
        got = loaded.tensors()[name]
        assert (got - tensor).abs().max() <= tensor.abs().max() / 127, name


def test_another_provenance_leaves_the_stored_weights(adapter, path):
    checkpoint.save(path, adapter, int8=True)
    before, _ = read_safetensors(path)
    checkpoint.save_provenance(path, {"recipe": "another"})
    after, _ = read_safetensors(path)
    assert checkpoint.load(path).config.provenance == {"recipe": "another"}
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
