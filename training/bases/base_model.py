"""What a base model is to training, whatever form it was read from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from subject_diffusion_core.tiny.block_autoencoder import BlockAutoencoder
from subject_diffusion_core.tiny.tiny_vision import VisionGeometry

from ..networks.text import END_TOKEN, CompactVocabulary
from .architectures import TINY_WIDTH

Autoencoder = AutoencoderKL | BlockAutoencoder
StateDict = dict[str, Tensor]
Network = TypeVar("Network", bound=nn.Module)
PAD_TOKEN_IDS = {"sd2": 0, "sd15": END_TOKEN, "tiny": END_TOKEN}
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A text-to-image model in parts.

    Attributes:
        unet_arguments: diffusers' constructor arguments, without channels and attention type.
        latent_channels: of the base; the trained UNet takes one more.
        unet, text: state dicts; the text encoder's names as this transformers version has them.
        text_config: of the text encoder.
        load_vae: builds the autoencoder when it is needed.
        prediction_type: epsilon or v_prediction.
        family: sd2, sd15 or tiny. pad_token_id: what fills a prompt up to 77 tokens.
        vision, vision_geometry: the image encoder that comes with the base (tiny), or None.
        vocabulary: of a text encoder over few words, whose ids are compact; None for all of CLIP's.
        untrained: no weights yet: unet and text are empty, training begins from random ones.
    """

    family: str
    unet_arguments: dict[str, Any]
    latent_channels: int
    unet: StateDict
    text_config: CLIPTextConfig
    text: StateDict
    load_vae: Callable[[], Autoencoder]
    prediction_type: str
    vision: StateDict | None = None
    vision_geometry: VisionGeometry | None = None
    vocabulary: CompactVocabulary | None = None
    untrained: bool = False

    @property
    def pad_token_id(self) -> int:
        """The padding of this family's prompts."""
        return PAD_TOKEN_IDS[self.family]


def frozen(network: Network) -> Network:
    """The network as it is used, not trained."""
    network.eval().requires_grad_(False)
    return network


def read_state(path: Path) -> StateDict:
    """A file of weights: safetensors, or a pickle read as plain tensors."""
    if path.suffix == ".safetensors":
        return load_file(path)
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    return dict(loaded.get("state_dict", loaded))


def resolve_prediction(wanted: str, stated: str | None) -> str:
    """The prediction type: the base's own, unless it does not say or the recipe disagrees."""
    if wanted not in ("auto", stated) and stated is not None:
        raise ValueError(
            f"prediction_type: expected the base's own, {stated}, got {wanted}. "
            "Leave it at auto, or choose another base."
        )
    return stated or ("epsilon" if wanted == "auto" else wanted)


def own_text_names(state: StateDict) -> StateDict:
    """Text encoder's weights under the names of the installed transformers version."""
    with torch.device("meta"):
        tiny = CLIPTextModel(CLIPTextConfig(**TINY_WIDTH.text))
    prefixed = any(name.startswith("text_model.") for name in tiny.state_dict())
    plain = {
        name.removeprefix("text_model."): tensor
        for name, tensor in state.items()
        if not name.endswith("position_ids") and not name.startswith("text_projection")
    }
    return {f"text_model.{k}": v for k, v in plain.items()} if prefixed else plain
