"""Watched columns equal those of the whole map, with their gradients, and fused equals plain."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor

from training.bases.architectures import TINY_WIDTH
from training.networks.fused_attention import WatchedColumns, use_fused_attention

POSITIONS = torch.tensor([[0, 3, 3], [4, 1, 0]])


def whole_map_columns(query: torch.Tensor, key: torch.Tensor, scale: float) -> torch.Tensor:
    probs = (query @ key.transpose(-2, -1) * scale).softmax(-1)
    index = POSITIONS[:, None, None, :].expand(*probs.shape[:3], -1)
    return probs.gather(-1, index)


def random_query_key() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 3, 4, 6, generator=generator, dtype=torch.float64)
    key = torch.randn(2, 3, 5, 6, generator=generator, dtype=torch.float64)
    return query.requires_grad_(True), key.requires_grad_(True)


def test_columns_equal_those_of_the_whole_map() -> None:
    query, key = random_query_key()
    got = WatchedColumns.apply(query, key, POSITIONS, 0.3)
    torch.testing.assert_close(got, whole_map_columns(query, key, 0.3))
    assert torch.equal(got[0, ..., 1], got[0, ..., 2])


def test_gradients() -> None:
    query, key = random_query_key()
    assert torch.autograd.gradcheck(
        lambda q, k: WatchedColumns.apply(q, k, POSITIONS, 0.3), (query, key)
    )


def small_unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(**TINY_WIDTH.unet)


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, 4, 8, 8), torch.tensor([3, 700]), torch.randn(2, 77, 32)


def test_fused_attention_equals_diffusers() -> None:
    unet = small_unet()
    with torch.no_grad():
        unet.set_attn_processor(AttnProcessor())
        expected = unet(*inputs()).sample
        use_fused_attention(unet)
        got = unet(*inputs()).sample
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def map_gradients(checkpointing: bool) -> tuple[list[torch.Size], dict[str, torch.Tensor]]:
    """Shapes of the recorded columns, and gradients of their sum."""
    unet = small_unet().train()
    watched = use_fused_attention(unet)
    if checkpointing:
        unet.enable_gradient_checkpointing()
    with watched.recording(POSITIONS, max_queries=16) as columns:
        output = unet(*inputs()).sample
    shapes = [layer.shape for layer in columns]
    (output.mean() + sum(layer.sum() for layer in columns)).backward()
    assert len(columns) == len(shapes), "the backward pass must not record again"
    gradients = {n: p.grad for n, p in unet.named_parameters() if p.grad is not None}
    return shapes, gradients


def test_only_half_size_and_below_is_watched() -> None:
    shapes, _ = map_gradients(checkpointing=False)
    assert shapes and {shape[2] for shape in shapes} == {16, 4, 1}
    assert all(shape[-1] == POSITIONS.shape[1] for shape in shapes)


def test_gradient_checkpointing_changes_nothing() -> None:
    plain_shapes, plain = map_gradients(checkpointing=False)
    shapes, gradients = map_gradients(checkpointing=True)
    assert shapes == plain_shapes and gradients.keys() == plain.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, plain[name], atol=1e-6, rtol=1e-4)
