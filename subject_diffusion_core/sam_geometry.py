# Shapes: G grid of the image encoder (patches a side), C its width.
"""The size of a segment-anything model, read from the keys and shapes of its checkpoint."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .errors import CheckpointError

StateDict = Mapping[str, torch.Tensor]
POSITIONS = "image_encoder.pos_embed"
NAMES = {768: "ViT-B", 1024: "ViT-L", 1280: "ViT-H"}
# The decoder's attention has 8 heads in every published model; no tensor shows their number.
DECODER_HEADS = 8

# Mean and standard deviation of the colours, 0..255, that all published models were trained with.
PIXEL_MEAN, PIXEL_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


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


def build_sam_of(modeling: Any, geometry: SamGeometry) -> nn.Module:
    """segment-anything's own classes (its module ``modeling``) at these sizes, untrained."""
    grid, image_size, width = geometry.grid, geometry.image_size, geometry.embed_dim
    sam: nn.Module = modeling.Sam(
        image_encoder=modeling.ImageEncoderViT(
            img_size=image_size,
            patch_size=geometry.patch_size,
            embed_dim=geometry.width,
            depth=geometry.depth,
            num_heads=geometry.num_heads,
            mlp_ratio=geometry.mlp_ratio,
            out_chans=width,
            norm_layer=functools.partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=geometry.window_size,
            global_attn_indexes=geometry.global_blocks,
        ),
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=width,
            image_embedding_size=(grid, grid),
            input_image_size=(image_size, image_size),
            mask_in_chans=geometry.mask_channels,
        ),
        mask_decoder=modeling.MaskDecoder(
            transformer_dim=width,
            transformer=modeling.TwoWayTransformer(
                depth=geometry.decoder_depth,
                embedding_dim=width,
                num_heads=DECODER_HEADS,
                mlp_dim=geometry.decoder_mlp_dim,
            ),
            num_multimask_outputs=geometry.num_masks,
            iou_head_depth=geometry.iou_depth,
            iou_head_hidden_dim=geometry.iou_hidden_dim,
        ),
        pixel_mean=list(PIXEL_MEAN),
        pixel_std=list(PIXEL_STD),
    )
    return sam


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
