"""The parts of ComfyUI's objects that this pack relies on, for the type checker, and the pack's own
socket types."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypedDict, TypeVar, overload

import torch
from comfy_api.latest import io
from torch import nn

AdapterType = io.Custom("SUBJECT_DIFFUSION_ADAPTER")
SubjectsType = io.Custom("SUBJECTS")
AttentionType = io.Custom("SUBJECT_DIFFUSION_ATTENTION")
SegmenterType = io.Custom("SUBJECT_DIFFUSION_SEGMENTER")
TunedEmbeddingType = io.Custom("SUBJECT_DIFFUSION_TUNED_EMBEDDING")

# Dictionaries in which ComfyUI and every pack leave what they like: `transformer_options`, and a
# conditioning as a sampling run has it.
Options = dict[str, Any]
Entry = dict[str, Any]
# Lists of two, a text (1, L, D) and its options.
Conditioning = list[list[Any]]
Control = dict[str, list[torch.Tensor | None]]
Patches = dict[str, tuple[str, tuple[torch.Tensor]]]
# Strength, patch, strength of the model, offset, function.
PatchEntry = tuple[float, object, float, object, object]
# An id, or an embedding (D,) in its place.
TokenValue = int | torch.Tensor
Token = tuple[TokenValue, float]
Tokens = dict[str, list[list[Token]]]
WordTokens = dict[str, list[list[tuple[TokenValue, float, int]]]]
Held = TypeVar("Held")


class Sampling(Protocol):
    """`model_sampling`: the schedule of a model."""

    def percent_to_sigma(self, percent: float) -> float: ...
    def timestep(self, sigma: torch.Tensor) -> torch.Tensor: ...


class BaseModel(Protocol):
    """What a MODEL holds: a UNet and its schedule."""

    model_sampling: Sampling


class Attention(Protocol):
    """A CrossAttention layer."""

    heads: int
    to_q: Callable[[torch.Tensor], torch.Tensor]
    to_k: Callable[[torch.Tensor], torch.Tensor]
    to_v: Callable[[torch.Tensor], torch.Tensor]
    to_out: Callable[[torch.Tensor], torch.Tensor]


class TransformerBlock(Protocol):
    """One block of a SpatialTransformer."""

    attn1: Attention
    attn2: Attention


class Unet(Protocol):
    """A UNetModel; its blocks are sequences of layers, some of them a SpatialTransformer."""

    input_blocks: Sequence[Iterable[object]]
    middle_block: Iterable[object]
    output_blocks: Sequence[Iterable[object]]


class Keyframes(Protocol):
    """A HookKeyframeGroup."""

    def add(self, keyframe: object) -> None: ...
    def clone(self) -> Keyframes: ...


class Hook(Protocol):
    """A WeightHook."""

    hook_ref: object
    hook_keyframe: Keyframes
    need_weight_init: bool
    weights: Patches | None

    def clone(self) -> Hook: ...


class HookGroup(Protocol):
    """What an entry has under "hooks"."""

    hooks: list[Hook]

    def add(self, hook: Hook) -> None: ...


class LatentFormat(Protocol):
    """What a MODEL's latents are."""

    latent_channels: int


class Patcher(Protocol):
    """A ModelPatcher: what a MODEL is, and what a CLIP or a VAE holds."""

    load_device: torch.device
    offload_device: torch.device
    patches: dict[str, list[PatchEntry]]
    patches_uuid: uuid.UUID
    # unpatched weights, while patches or hooks are on the model
    backup: Mapping[str, Any]
    hook_backup: Mapping[str, Any]
    # what loads the same weights again, and its arguments
    cached_patcher_init: tuple[Callable[..., object], tuple[object, ...]]

    @property
    def model(self) -> object: ...
    def clone(self) -> Patcher: ...
    def model_dtype(self) -> torch.dtype: ...
    def model_state_dict(self) -> Mapping[str, torch.Tensor]: ...
    def get_key_patches(self) -> Mapping[str, object]: ...

    @overload
    def get_model_object(self, name: Literal["model_sampling"]) -> Sampling: ...
    @overload
    def get_model_object(self, name: Literal["diffusion_model"]) -> Unet: ...
    @overload
    def get_model_object(self, name: Literal["latent_format"]) -> LatentFormat: ...
    @overload
    def get_model_object(self, name: Literal["manual_cast_dtype"]) -> torch.dtype | None: ...
    # whatever a pack has attached
    def get_attachment(self, key: str) -> Any: ...
    def set_attachments(self, key: str, attachment: object) -> None: ...
    def set_additional_models(self, key: str, models: list[Patcher]) -> None: ...
    def add_patches(self, patches: Patches, strength_patch: float = 1.0) -> list[str]: ...
    def add_hook_patches(
        self, hook: Hook, patches: Patches, strength_patch: float
    ) -> list[str]: ...
    def get_wrappers(self, kind: str, key: str) -> Sequence[object]: ...
    def add_wrapper_with_key(self, kind: str, key: str, wrapper: Callable[..., object]) -> None: ...
    def remove_wrappers_with_key(self, kind: str, key: str) -> None: ...
    def add_callback_with_key(self, kind: str, key: str, callback: Callable[..., None]) -> None: ...
    def set_model_patch(self, patch: Callable[..., object], name: str) -> None: ...
    def set_model_input_block_patch(self, patch: Callable[..., object]) -> None: ...


class PatcherOf(Patcher, Protocol[Held]):
    """A ModelPatcher of which it is known what is inside."""

    model: Held
    model_options: Options
    object_patches: dict[str, object]
    wrappers: Options

    def clone(self) -> PatcherOf[Held]: ...


# What flows along MODEL links.
Model = PatcherOf[BaseModel]


class TokenEmbedding(Protocol):
    """The table of a text encoder's token embeddings."""

    weight: torch.Tensor

    def __call__(self, ids: torch.Tensor, out_dtype: torch.dtype) -> torch.Tensor: ...


class TextModel(Protocol):
    """An SD1ClipModel; `clip` is the name of its attribute that holds the encoder."""

    clip: str


class Clip(Protocol):
    """A CLIP: text encoder and tokenizer."""

    patcher: Patcher
    cond_stage_model: TextModel

    def clone(self) -> Clip: ...
    def load_model(self) -> Patcher: ...
    def load_sd(self, sd: Mapping[str, torch.Tensor]) -> tuple[list[str], list[str]]: ...
    @overload
    def tokenize(self, text: str, return_word_ids: Literal[False] = False) -> Tokens: ...
    @overload
    def tokenize(self, text: str, return_word_ids: Literal[True]) -> WordTokens: ...
    def encode_from_tokens_scheduled(self, tokens: Tokens) -> Conditioning: ...
    def add_patches(self, patches: Patches, strength_patch: float = 1.0) -> list[str]: ...


class VisionOutput(Protocol):
    """What an image encoder says of B pictures: (B, 1 + P, C) and (B, E)."""

    last_hidden_state: torch.Tensor
    penultimate_hidden_states: torch.Tensor
    image_embeds: torch.Tensor


class ClipVision(Protocol):
    """A CLIP_VISION: image encoder."""

    model: Any
    patcher: Patcher
    image_size: int

    def encode_image(self, image: torch.Tensor, crop: bool = True) -> VisionOutput: ...
    def get_sd(self) -> Mapping[str, torch.Tensor]: ...


class Vae(Protocol):
    """A VAE: autoencoder."""

    patcher: Patcher
    first_stage_model: nn.Module
    device: torch.device
    vae_dtype: torch.dtype
    latent_channels: int
    size: int | None

    def encode(self, pixel_samples: torch.Tensor) -> torch.Tensor: ...
    def decode(self, samples_in: torch.Tensor) -> torch.Tensor: ...


class _Samples(TypedDict):
    samples: torch.Tensor


class Latent(_Samples, total=False):
    """A LATENT."""

    noise_mask: torch.Tensor
    batch_index: Sequence[int]


class Noise(Protocol):
    """A NOISE."""

    seed: int

    def generate_noise(self, input_latent: Latent) -> torch.Tensor: ...


class Sampler(Protocol):
    """A SAMPLER, which is only handed on."""


class Guider(Protocol):
    """A GUIDER; it has `conds`, the entries of every branch, while it samples."""

    model_patcher: Model
    model_options: Options
    conds: dict[str, list[Entry]]

    def sample(
        self,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        sampler: Sampler,
        sigmas: torch.Tensor,
        *,
        callback: Callable[..., object],
        disable_pbar: bool,
        seed: int,
    ) -> torch.Tensor: ...


class Executor(Protocol):
    """What a wrapper gets in place of the function that it wraps: `class_obj` is that function's
    object, a Guider or a Unet, and takes what it takes."""

    class_obj: Any

    def __call__(self, *args: object, **kwargs: object) -> torch.Tensor: ...
