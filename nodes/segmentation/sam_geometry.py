# Shapes: G grid of the image encoder (patches a side), C its width.
"""The size of a segment-anything model, read from the keys and shapes of its checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ...subject_diffusion_core.errors import CheckpointError

StateDict = Mapping[str, torch.Tensor]
POSITIONS = "image_encoder.pos_embed"
NAMES = {768: "ViT-B", 1024: "ViT-L", 1280: "ViT-H"}
# The decoder's attention has 8 heads in every published model; no tensor shows their number.
DECODER_HEADS = 8


@dataclass(frozen=True, kw_only=True)
class SamGeometry:
    """All sizes that segment-anything's classes ask for.

    Attributes:
        grid, patch_size: the encoder sees grid * patch_size pixels a side.
        window_size: of blocks with local attention, 0 if there are none.
        global_blocks: numbers of the blocks with attention over the whole picture.
        width, depth, num_heads, mlp_ratio: of the image encoder.
        embed_dim: of prompts, decoder and the encoder's output.
        mask_channels: of the mask prompt's convolutions.
        num_masks: answers to an ambiguous prompt.
        decoder_depth, decoder_mlp_dim, iou_depth, iou_hidden_dim: of the mask decoder.
    """

    grid: int
    patch_size: int
    window_size: int
    global_blocks: tuple[int, ...]
    width: int
    depth: int
    num_heads: int
    mlp_ratio: float
    embed_dim: int
    mask_channels: int
    num_masks: int
    decoder_depth: int
    decoder_mlp_dim: int
    iou_depth: int
    iou_hidden_dim: int

    @property
    def image_size(self) -> int:
        return self.grid * self.patch_size

    @property
    def name(self) -> str:
        """What people call this size."""
        return NAMES.get(self.width, f"ViT of width {self.width}")


def read_sam_geometry(state: StateDict, source: str) -> SamGeometry:
    """Sizes of the model that these weights belong to.

    Args:
        state: (1, G, G, C) position embedding, and all the rest.
        source: the file's name, for messages.
    """
    try:
        return _read(state)
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(
            f"{source}: expected a checkpoint of segment-anything (ViT-B, ViT-L or ViT-H), got a "
            f"file that lacks or changes {error}. Choose another file from models/sams."
        ) from None


def _read(state: StateDict) -> SamGeometry:
    _, grid, _, width = state[POSITIONS].shape
    depth = _count(state, "image_encoder.blocks")
    positions = [state[f"image_encoder.blocks.{i}.attn.rel_pos_h"].shape for i in range(depth)]
    reach = [(length + 1) // 2 for length, _ in positions]
    layer, head = "mask_decoder.transformer.layers", "mask_decoder.iou_prediction_head.layers"
    return SamGeometry(
        grid=grid,
        patch_size=state["image_encoder.patch_embed.proj.weight"].shape[-1],
        window_size=min(reach) if min(reach) < grid else 0,
        global_blocks=tuple(i for i, cells in enumerate(reach) if cells == grid),
        width=width,
        depth=depth,
        num_heads=width // positions[0][1],
        mlp_ratio=state["image_encoder.blocks.0.mlp.lin1.weight"].shape[0] / width,
        embed_dim=state["prompt_encoder.point_embeddings.0.weight"].shape[1],
        mask_channels=state["prompt_encoder.mask_downscaling.3.weight"].shape[0],
        num_masks=state["mask_decoder.mask_tokens.weight"].shape[0] - 1,
        decoder_depth=_count(state, layer),
        decoder_mlp_dim=state[f"{layer}.0.mlp.lin1.weight"].shape[0],
        iou_depth=_count(state, head),
        iou_hidden_dim=state[f"{head}.0.weight"].shape[0],
    )


def _count(state: StateDict, prefix: str) -> int:
    """How many numbered children a module has."""
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    numbers = {int(found.group(1)) for name in state if (found := pattern.match(name))}
    if numbers != set(range(len(numbers))) or not numbers:
        raise KeyError(prefix)
    return len(numbers)
