"""What an adapter file says about itself: everything needed to rebuild its modules."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..adapter_options import AdapterOptions
from ..errors import CheckpointError, reason_of, shown
from ..schema import MODULE_WIDTH, MOST_BLOCKS, NUM_SUBJECTS, NumberRange

FORMAT_VERSION = 1
_SWITCHES = (
    "box_coordinates", "patch_positions", "query_positions", "token_positions", "location_control",
)  # fmt: skip
TOKEN_ID = NumberRange(low=0, high=10**6, is_whole=True)
TEMPERATURE = NumberRange(low=1e-6, high=1e9)
LONGEST_WORD = 100  # characters
_CORRECT = "Correct the configuration"
METHOD = "subject_diffusion"  # what a configuration without "method" is of; ours have none
TRAINED_PARTS = (
    "adapters", "grounding", "mlp", "text_encoder", "conv_in", "cross_attention_kv",
)  # fmt: skip
_CHOICES: dict[str, tuple[Any, ...]] = {
    "base_family": ("sd2", "sd15", "tiny"),
    "mask_polarity": ("inside", "outside"),
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

    def __post_init__(self) -> None:
        for name in ("query_dim", "num_heads", "head_dim"):
            MODULE_WIDTH.require(f"adapter_blocks: {name}", getattr(self, name), _CORRECT)


@dataclass(frozen=True, kw_only=True)
class AdapterConfig(AdapterOptions):
    """Configuration of an adapter, stored as JSON in its file: its options and what else it takes
    to rebuild its modules.

    Attributes:
        base_family: which base model it was trained on.
        latent_channels: of the base; the trained conv_in has one more input channel, the location
            mask.
        cross_attention_dim: width of the text encoder's output.
        patch_dim, image_embed_dim, num_patches: of the vision encoder (1280, 1024 and 256 for
            ViT-H/14).
        grounding_out_dim: width of a grounding token, the adapters' context width.
        projector_out_dim: width of a token embedding.
        adapter_blocks: every block that has an adapter, in any order.
        placeholder, placeholder_token_id: the word whose token embedding is replaced, and its id.
        mask_polarity: how the location mask was drawn in training, see `unite_subjects`.
        null_rule: what the unconditional branch uses as null tokens, see
            `GroundingNet.null_tokens`.
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
    grounding_out_dim: int
    projector_out_dim: int
    adapter_blocks: tuple[AdapterBlock, ...]
    placeholder: str = "sks"
    placeholder_token_id: int = 48136
    mask_polarity: Literal["inside", "outside"] = "inside"
    null_rule: Literal["learned", "zeros"] = "learned"
    reference_size: int = 224
    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"
    trained_parts: tuple[str, ...] = TRAINED_PARTS
    provenance: Mapping[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        object.__setattr__(self, "adapter_blocks", tuple(map(_as_block, self.adapter_blocks)))
        object.__setattr__(self, "trained_parts", tuple(self.trained_parts))
        super().__post_init__()
        for name, choices in _CHOICES.items():
            self._require_choice(name, choices)
        for name in _POSITIVE:
            value = getattr(self, name)
            whole = isinstance(value, int) and value >= 1
            self._require(name, whole, "a whole number of 1 or more")
            limits = NUM_SUBJECTS if name == "num_subjects" else MODULE_WIDTH
            limits.require(name, value, _CORRECT)
        for name in _SWITCHES:
            self._require(name, isinstance(getattr(self, name), bool), "True or False")
        TOKEN_ID.require("placeholder_token_id", self.placeholder_token_id, _CORRECT)
        TEMPERATURE.require("temperature", self.temperature, _CORRECT)
        is_word = isinstance(self.placeholder, str) and 0 < len(self.placeholder) <= LONGEST_WORD
        self._require("placeholder", is_word, "a word")
        self._require("adapter_blocks", bool(self.adapter_blocks), "at least one block")
        few = len(self.adapter_blocks) <= MOST_BLOCKS
        self._require("adapter_blocks", few, f"at most {MOST_BLOCKS} blocks")
        known = set(self.trained_parts) <= set(TRAINED_PARTS)
        self._require("trained_parts", known, f"some of {', '.join(TRAINED_PARTS)}")
        square = math.isqrt(self.num_patches) ** 2 == self.num_patches
        self._require(
            "num_patches",
            square or not self.patches_have_positions,
            "a square number where patches have positions",
        )
        self._require(
            "location_control",
            "conv_in" in self.trained_parts or not self.location_control,
            "False where conv_in was not trained",
        )


def _as_block(block: AdapterBlock | Mapping[str, Any]) -> AdapterBlock:
    return block if isinstance(block, AdapterBlock) else AdapterBlock(**block)


def config_to_json(config: AdapterConfig) -> str:
    """The configuration as one JSON object."""
    return json.dumps(dataclasses.asdict(config))


def method_in_json(text: str) -> str:
    """The method that a configuration names; of one that cannot be read, ours, whose reader says
    what is wrong with it."""
    try:
        return str(json.loads(text).get("method", METHOD))
    except (ValueError, AttributeError, RecursionError):
        return METHOD


_REQUIRED = {
    field.name
    for field in dataclasses.fields(AdapterConfig)
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
}


def config_from_json(text: str, source: str) -> AdapterConfig:
    """Read a configuration.

    Args:
        text: what `config_to_json` wrote.
        source: the file's name, for messages.
    """
    method = method_in_json(text)
    if method != METHOD:
        raise CheckpointError(
            f"{source}: expected an adapter of the method '{METHOD}', got one of '{shown(method)}'"
            ". Use it where that method's adapters go, or choose another file."
        )
    try:
        fields = json.loads(text)
        fields.pop("method", None)
        version = fields["format_version"]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{source}: expected a JSON configuration with a format_version, got {text[:40]!r}. "
            "Download or export the adapter again."
        ) from error
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{source}: expected format version {FORMAT_VERSION}, got {shown(repr(version))}. "
            "Update this node pack, or export the adapter with a matching version."
        )
    missing = sorted(_REQUIRED - set(fields))
    if missing:
        raise CheckpointError(
            f"{source}: expected a valid configuration, got one without {', '.join(missing)}. "
            "Export the adapter again, or choose another file."
        )
    unknown = sorted(set(fields) - {field.name for field in dataclasses.fields(AdapterConfig)})
    if unknown:
        raise CheckpointError(
            f"{source}: expected a valid configuration, got one with {shown(', '.join(unknown))}, "
            "which this version does not know. Update this node pack, or export the adapter again."
        )
    try:
        return AdapterConfig(**fields)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{source}: expected a valid configuration, got one that fails ({reason_of(error)}) "
            "Export the adapter again."
        ) from error
