"""The parts of ComfyUI's objects that this pack relies on, for the type checker, and the pack's own
socket types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from comfy_api.latest import io

AdapterType = io.Custom("SUBJECT_DIFFUSION_ADAPTER")
SubjectsType = io.Custom("SUBJECTS")
AttentionType = io.Custom("SUBJECT_DIFFUSION_ATTENTION")
SegmenterType = io.Custom("SUBJECT_DIFFUSION_SEGMENTER")

Options = dict[str, Any]
Conditioning = list[list[Any]]
Entry = dict[str, Any]
Patches = dict[str, tuple[str, tuple[torch.Tensor]]]
Tokens = dict[str, list[list[tuple[Any, float]]]]


class Model(Protocol):
    """A ModelPatcher: what flows along MODEL links, and what a CLIP or a VAE holds."""

    model: Any
    load_device: torch.device
    offload_device: torch.device
    patches: dict[str, list[Any]]
    patches_uuid: Any

    def clone(self) -> Model: ...
    def model_dtype(self) -> torch.dtype: ...
    def model_state_dict(self) -> Mapping[str, torch.Tensor]: ...
    def get_key_patches(self) -> Mapping[str, list[Any]]: ...
    def get_model_object(self, name: str) -> Any: ...
    def get_attachment(self, key: str) -> Any: ...
    def set_attachments(self, key: str, attachment: Any) -> None: ...
    def set_additional_models(self, key: str, models: list[Model]) -> None: ...
    def add_patches(self, patches: Patches, strength_patch: float = 1.0) -> Any: ...
    def add_hook_patches(self, hook: Any, patches: Patches, strength_patch: float) -> Any: ...
    def add_wrapper_with_key(self, kind: str, key: str, wrapper: Callable[..., Any]) -> None: ...
    def set_model_patch(self, patch: Callable[..., Any], name: str) -> None: ...
    def set_model_input_block_patch(self, patch: Callable[..., Any]) -> None: ...


class Clip(Protocol):
    """A CLIP: text encoder and tokenizer."""

    patcher: Model
    cond_stage_model: Any

    def clone(self) -> Clip: ...
    def load_model(self) -> Any: ...
    def tokenize(self, text: str, return_word_ids: bool = False) -> Tokens: ...
    def encode_from_tokens_scheduled(self, tokens: Tokens) -> Conditioning: ...
    def add_patches(self, patches: Patches, strength_patch: float = 1.0) -> Any: ...


class ClipVision(Protocol):
    """A CLIP_VISION: image encoder."""

    model: Any
    patcher: Model
    image_size: int

    def encode_image(self, image: torch.Tensor, crop: bool = True) -> Any: ...
    def get_sd(self) -> Mapping[str, torch.Tensor]: ...


class Executor(Protocol):
    """What a wrapper gets in place of the function that it wraps."""

    class_obj: Any

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
