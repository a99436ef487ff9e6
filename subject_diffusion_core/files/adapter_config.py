"""What an adapter file says about itself: everything needed to rebuild its modules."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import CheckpointError

FORMAT_VERSION = 1
TRAINED_PARTS = (
    "adapters", "grounding", "mlp", "text_encoder", "conv_in", "cross_attention_kv",
)  # fmt: skip
_CHOICES: dict[str, tuple[Any, ...]] = {
    "base_family": ("sd2", "sd15", "tiny"),
    "mask_polarity": ("inside", "outside"),
    "mask_kind": ("box", "segmentation"),
    "null_rule": ("learned", "zeros"),
    "prediction_type": ("epsilon", "v_prediction"),
    "reference_size": (96, 128, 224),
}
_POSITIVE = (
    "latent_channels", "cross_attention_dim", "patch_dim", "image_embed_dim", "num_patches",
    "num_subjects", "grounding_hidden_dim", "grounding_out_dim", "projector_hidden_dim",
    "projector_out_dim", "num_freqs",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AdapterBlock:
    """One transformer block with an adapter.

    Attributes:
        name: diffusers' path, for example "down_blocks.0.attentions.0.transformer_blocks.0".
        query_dim: width of the block.
        num_heads, head_dim: of the adapter's attention.
    """

    name: str
    query_dim: int
    num_heads: int
    head_dim: int


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Configuration of an adapter, stored as JSON in its file.

    Attributes:
        base_family: which base model it was trained on.
        latent_channels: of the base; the trained conv_in has one more input channel, the location
            mask.
        cross_attention_dim: width of the text encoder's output.
        patch_dim, image_embed_dim, num_patches: of the vision encoder (1280, 1024 and 256 for
            ViT-H/14).
        num_subjects: N, the slots of training; fewer subjects are padded with null tokens to N.
        grounding_hidden_dim, grounding_out_dim: of the grounding net; out_dim is the adapters'
            context width.
        projector_hidden_dim, projector_out_dim: of the image embedding's projector.
        num_freqs, temperature: of the box's Fourier features.
        adapter_blocks: every block that has an adapter, in any order.
        box_coordinates, patch_positions: see `GroundingNet`.
        query_positions: whether the adapters' queries carry the position of their latent cell.
        token_positions: whether the grounding tokens' keys carry, in the same way, the position of
            their own patch; only with query_positions.
        placeholder, placeholder_token_id: the word whose token embedding is replaced, and its id.
        mask_polarity, mask_kind: how the location mask was drawn in training.
        null_rule: what the unconditional branch uses as null tokens, see
            `GroundingNet.null_tokens`.
        location_control: False if the mask was always zero in training.
        reference_size: side of the reference image in pixels.
        prediction_type: of the base.
        trained_parts: which parts differ from the base; decides which tensors the file must hold.
        provenance: recipe, seed, data versions, scores; free.
        format_version: of the file.
    """

    base_family: Literal["sd2", "sd15", "tiny"]
    latent_channels: int
    cross_attention_dim: int
    patch_dim: int
    image_embed_dim: int
    num_patches: int
    num_subjects: int
    grounding_hidden_dim: int
    grounding_out_dim: int
    projector_hidden_dim: int
    projector_out_dim: int
    adapter_blocks: tuple[AdapterBlock, ...]
    num_freqs: int = 8
    temperature: float = 100.0
    box_coordinates: bool = True
    patch_positions: bool = False
    query_positions: bool = False
    token_positions: bool = False
    placeholder: str = "sks"
    placeholder_token_id: int = 48136
    mask_polarity: Literal["inside", "outside"] = "inside"
    mask_kind: Literal["box", "segmentation"] = "box"
    null_rule: Literal["learned", "zeros"] = "learned"
    location_control: bool = True
    reference_size: int = 224
    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"
    trained_parts: tuple[str, ...] = TRAINED_PARTS
    provenance: Mapping[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        object.__setattr__(self, "adapter_blocks", tuple(map(_as_block, self.adapter_blocks)))
        object.__setattr__(self, "trained_parts", tuple(self.trained_parts))
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                self._refuse(name, f"one of {', '.join(map(str, choices))}")
        for name in _POSITIVE:
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                self._refuse(name, "a whole number of 1 or more")
        if not self.adapter_blocks:
            self._refuse("adapter_blocks", "at least one block")
        if not set(self.trained_parts) <= set(TRAINED_PARTS):
            self._refuse("trained_parts", f"some of {', '.join(TRAINED_PARTS)}")
        if self.token_positions and not self.query_positions:
            self._refuse("token_positions", "False where query_positions is off")
        positioned = self.patch_positions or self.token_positions
        if positioned and math.isqrt(self.num_patches) ** 2 != self.num_patches:
            self._refuse("num_patches", "a square number where patches have positions")
        if self.location_control and "conv_in" not in self.trained_parts:
            self._refuse("location_control", "False where conv_in was not trained")

    @property
    def query_position_dim(self) -> int:
        """Width of the position features that the adapters' queries take, 0 for none."""
        return 8 * self.num_freqs if self.query_positions else 0

    def _refuse(self, name: str, expected: str) -> None:
        raise ValueError(
            f"{name}: expected {expected}, got {getattr(self, name)!r}. Correct the configuration."
        )


def _as_block(block: AdapterBlock | Mapping[str, Any]) -> AdapterBlock:
    return block if isinstance(block, AdapterBlock) else AdapterBlock(**block)


def config_to_json(config: AdapterConfig) -> str:
    """The configuration as one JSON object."""
    return json.dumps(dataclasses.asdict(config))


def config_from_json(text: str, source: str) -> AdapterConfig:
    """Read a configuration.

    Args:
        text: what `config_to_json` wrote.
        source: the file's name, for messages.
    """
    try:
        fields = json.loads(text)
        version = fields["format_version"]
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{source}: expected a JSON configuration with a format_version, got {text[:40]!r}. "
            "Download or export the adapter again."
        ) from error
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{source}: expected format version {FORMAT_VERSION}, got {version!r}. "
            "Update this node pack, or export the adapter with a matching version."
        )
    try:
        return AdapterConfig(**fields)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{source}: expected a valid configuration, got one that fails ({error}) "
            "Export the adapter again."
        ) from error
