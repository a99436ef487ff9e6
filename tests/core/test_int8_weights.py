import pytest
import torch

from subject_diffusion_core.errors import CheckpointError
from subject_diffusion_core.files.int8_weights import dequantize, quantize

SHAPE = (8, 16, 3, 3)


def test_the_error_is_half_a_step_per_channel():
    weight = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    step = weight.flatten(1).abs().amax(dim=1).reshape(-1, 1, 1, 1) / 127
    error = (dequantize(quantize({"w": weight}), "file")["w"] - weight).abs()
    assert (error <= 0.5001 * step).all() and error.max() > 0


def test_a_second_time_changes_nothing():
    first = quantize({"w": torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))})
    second = quantize(dequantize(first, "file"))
    assert torch.equal(first["w"], second["w"])
    assert torch.allclose(first["w.scale"], second["w.scale"])


def test_a_channel_of_zeros_stays_zero():
    weight = torch.zeros(2, 1024)
    weight[1] = 3
    assert torch.allclose(dequantize(quantize({"w": weight}), "file")["w"], weight)


def test_small_tensors_and_vectors_stay_as_they_are():
    tensors = {"bias": torch.randn(2048), "small": torch.randn(4, 4).half()}
    stored = quantize(tensors)
    assert stored.keys() == tensors.keys()
    restored = dequantize(stored, "file")
    assert all(torch.equal(restored[name], tensor) for name, tensor in tensors.items())
    assert restored["small"].dtype == torch.float16


def test_a_weight_called_scale_is_no_scale():
    tensors = {"w": torch.ones(2, 2), "w.scale": torch.ones(2)}
    assert dequantize(tensors, "file").keys() == tensors.keys()


@pytest.mark.parametrize(("scale", "got"), [(None, "none"), (torch.ones(3), r"shape \(3,\)")])
def test_a_missing_or_wrong_scale(scale, got):
    tensors = {"w": torch.ones(2, 1024, dtype=torch.int8)}
    if scale is not None:
        tensors["w.scale"] = scale
    with pytest.raises(CheckpointError, match=rf"file: expected 'w\.scale' .*got {got}"):
        dequantize(tensors, "file")
