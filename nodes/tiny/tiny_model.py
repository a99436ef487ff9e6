"""The tiny base model out of ComfyUI's own classes: MODEL, CLIP, VAE."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import comfy.latent_formats
import comfy.ldm.models.autoencoder
import comfy.model_base
import comfy.model_management
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.utils
import folder_paths
import torch

from ...subject_diffusion_core.errors import CheckpointError
from ...subject_diffusion_core.tiny.block_autoencoder import BlockAutoencoder
from ...subject_diffusion_core.tiny.tiny_base import TinyBase
from ..host.comfy_types import Clip, Model, Vae
from ..host.patchers import wrap_in_patcher

# diffusers' and ComfyUI's arguments, as JSON has them.
Config = dict[str, Any]

# The smallest autoencoder that ComfyUI builds from a configuration, without guessing.
PLACEHOLDER_AUTOENCODER: Config = {
    "embed_dim": 4,
    "ddconfig": {
        "double_z": True,
        "z_channels": 4,
        "resolution": 32,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1],
        "num_res_blocks": 1,
        "attn_resolutions": [],
    },
}


class TinyLatentFormat(comfy.latent_formats.LatentFormat):
    """Latents whose scale is folded into the autoencoder."""

    def __init__(self, latent_channels: int = 4) -> None:
        self.latent_channels = latent_channels


class TinyModelConfig(comfy.supported_models.SD20):
    """A small UNet of Stable Diffusion 2's kind, with any number of latent channels.

    Attributes:
        picture_side: of the pictures that it was trained on, in pixels; None where the file does
            not say.
    """

    unet_config: ClassVar[Config] = {}
    unet_extra_config: ClassVar[Config] = {}
    latent_format = TinyLatentFormat

    def __init__(self, unet_config: Config, prediction_type: str, picture_side: int | None) -> None:
        super().__init__(unet_config)
        self.picture_side = picture_side
        self.prediction_type = prediction_type
        self.latent_format = TinyLatentFormat(unet_config["in_channels"])

    def model_type(self, state_dict: object, prefix: str = "") -> comfy.model_base.ModelType:
        types = comfy.model_base.ModelType
        return types.V_PREDICTION if self.prediction_type == "v_prediction" else types.EPS

    def inpaint_model(self) -> bool:
        """ComfyUI takes more than 4 input channels for an inpainting model."""
        return False


def build_model(tiny_base: TinyBase, disable_dynamic: bool = False) -> Model:
    """The UNet as a MODEL.

    Args:
        disable_dynamic: a MODEL whose weights can be switched in mid-run, also where ComfyUI moves
            them by itself ("dynamic VRAM").
    """
    unet_config = comfy_unet_config(tiny_base.config["unet"])
    parameters = sum(tensor.numel() for tensor in tiny_base.unet.values())
    config = tiny_base.config
    model_config = TinyModelConfig(unet_config, config["prediction_type"], config.get("image_size"))
    load_device = comfy.model_management.get_torch_device()
    dtypes = list(model_config.supported_inference_dtypes)
    dtype = comfy.model_management.unet_dtype(model_params=parameters, supported_dtypes=dtypes)
    manual_cast = comfy.model_management.unet_manual_cast(dtype, load_device, dtypes)
    model_config.set_inference_dtype(dtype, manual_cast)
    model = model_config.get_model({}, device=comfy.model_management.unet_offload_device())
    names = comfy.utils.unet_to_diffusers(unet_config)
    unknown = [name for name in tiny_base.unet if name not in names]
    weights = {names[k]: tensor for k, tensor in tiny_base.unet.items() if k in names}
    load = functools.partial(model.diffusion_model.load_state_dict, strict=False)
    _load_weights("unet", load, weights, unknown)
    offload_device = comfy.model_management.unet_offload_device()
    return wrap_in_patcher(model, load_device, offload_device, disable_dynamic)


def comfy_unet_config(config: Mapping[str, Any]) -> Config:
    """diffusers' arguments of a UNet2DConditionModel -> those of ComfyUI's UNetModel."""
    channels = list(config["block_out_channels"])
    levels, layers = len(channels), config["layers_per_block"]
    heads = config["attention_head_dim"]
    heads = [heads] * levels if isinstance(heads, int) else list(heads)
    down = [int("CrossAttn" in kind) for kind in config["down_block_types"]]
    up = [int("CrossAttn" in kind) for kind in reversed(config["up_block_types"])]
    head_widths = {width // number for width, number in zip(channels, heads, strict=True)}
    if len(head_widths) == 1:
        attention_heads = {"num_heads": -1, "num_head_channels": head_widths.pop()}
    elif len(set(heads)) == 1:
        attention_heads = {"num_heads": heads[0], "num_head_channels": -1}
    else:
        raise CheckpointError(
            "unet: expected the same number of heads or the same head width at every level, got "
            f"heads {heads} for widths {channels}. Export the tiny base with another configuration."
        )
    return {
        "image_size": 32,
        "use_checkpoint": False,
        "legacy": False,
        "num_classes": None,
        "adm_in_channels": None,
        "use_spatial_transformer": True,
        "use_temporal_attention": False,
        "use_temporal_resblock": False,
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "model_channels": channels[0],
        "channel_mult": [width // channels[0] for width in channels],
        "num_res_blocks": [layers] * levels,
        "transformer_depth": [depth for depth in down for _ in range(layers)],
        "transformer_depth_output": [depth for depth in up for _ in range(layers + 1)],
        "transformer_depth_middle": 1,
        "context_dim": config["cross_attention_dim"],
        "use_linear_in_transformer": config.get("use_linear_projection", False),
        **attention_heads,
    }


def build_clip(tiny_base: TinyBase) -> Clip:
    """The text encoder as a CLIP; it is so small that it always runs in float32."""
    config = dict(tiny_base.config["text_encoder"])
    config.setdefault("eos_token_id", 49407)
    config.setdefault("max_position_embeddings", 77)
    width = config["hidden_size"]
    encoder = functools.partial(
        comfy.sd1_clip.SDClipModel, textmodel_json_config=config, return_projected_pooled=False
    )
    target = comfy.supported_models_base.ClipTarget(
        functools.partial(
            comfy.sd1_clip.SD1Tokenizer,
            tokenizer=functools.partial(comfy.sd1_clip.SDTokenizer, embedding_size=width),
        ),
        functools.partial(comfy.sd1_clip.SD1ClipModel, clip_model=encoder),
    )
    parameters = sum(tensor.numel() for tensor in tiny_base.text_encoder.values())
    clip: Clip = comfy.sd.CLIP(
        target,
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        parameters=parameters,
        model_options={"dtype": torch.float32},
    )
    # ComfyUI's text model has a projection that this one never uses
    projection = {"text_projection.weight": torch.eye(width)}
    weights = {k: v for k, v in tiny_base.text_encoder.items() if not k.endswith("position_ids")}
    _load_weights("text_encoder", clip.load_sd, {**weights, **projection})
    return clip


def build_vae(tiny_base: TinyBase) -> Vae:
    """The autoencoder as a VAE."""
    autoencoder = BlockAutoencoder.from_config(tiny_base.config["vae"]).eval().requires_grad_(False)
    load = functools.partial(autoencoder.load_state_dict, strict=False)
    _load_weights("vae", load, tiny_base.vae)
    # ComfyUI makes a VAE only around networks it knows: one of them lends ours its place
    known = comfy.ldm.models.autoencoder.AutoencoderKL(**PLACEHOLDER_AUTOENCODER)
    vae: Vae = comfy.sd.VAE(sd=known.state_dict(), config={"params": PLACEHOLDER_AUTOENCODER})
    vae.latent_channels = autoencoder.latent_channels
    vae.size = comfy.model_management.module_size(autoencoder)
    vae.first_stage_model = autoencoder.to(vae.vae_dtype)
    vae.patcher = wrap_in_patcher(autoencoder, vae.device, vae.patcher.offload_device)
    return vae


def _load_weights(
    part: str,
    load: Callable[[Mapping[str, torch.Tensor]], tuple[list[str], list[str]]],
    weights: Mapping[str, torch.Tensor],
    unknown: Sequence[str] = (),
) -> None:
    """Load all weights of a part, or say in one sentence that they are not its own."""
    try:
        missing, unexpected = load(weights)
        problems = [name for name in missing if name != "logit_scale"] + unexpected
    except RuntimeError as error:
        problems = [str(error).splitlines()[1].strip()]
    problems += unknown
    if problems:
        raise CheckpointError(
            f"{part}: expected the weights of its configuration, got {len(problems)} that do not "
            f"fit ({problems[0]}). Export the tiny base again."
        )
