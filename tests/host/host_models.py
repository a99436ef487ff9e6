"""Random models as ComfyUI objects, and single model calls through ComfyUI's own sampling path."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.samplers
import comfy.supported_models
import comfy.utils
import factories
import torch
from diffusers import UNet2DConditionModel

from subject_diffusion_core import checkpoint

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = {
    "tiny": factories.TINY_UNET,
    "sd2": factories.SD2_LIKE_UNET,
    "sd15": factories.SD15_LIKE_UNET,
}
BOXES = ((0.1, 0.2, 0.55, 0.9), (0.5, 0.05, 0.95, 0.6), (0.0, 0.5, 0.4, 1.0), (0.3, 0.3, 0.6, 0.7))


@dataclass(frozen=True, kw_only=True, eq=False)
class Base:
    """One base model on both sides: diffusers' UNet and ComfyUI's MODEL with the same weights."""

    config: dict[str, Any]
    unet: UNet2DConditionModel
    model: Any
    clip: Any


class Host:
    """The pack as ComfyUI loaded it; `host.apply_node` is the module of this name in `nodes/`, in
    whatever room it stands, outside of the families' own folders if there are several."""

    def __init__(self, pack: ModuleType) -> None:
        self.pack = pack
        self.tiny = factories.make_tiny_base()

    def __getattr__(self, name: str) -> ModuleType:
        found = [path.relative_to(ROOT) for path in (ROOT / "nodes").rglob(f"{name}.py")]
        if not found:
            raise AttributeError(f"{name}: expected a module in nodes/, got none of this name")
        path = ".".join(min(found, key=lambda file: len(file.parts)).with_suffix("").parts)
        return importlib.import_module(f"{self.pack.__name__}.{path}")

    def core(self, name: str) -> ModuleType:
        return importlib.import_module(f"{self.pack.__name__}.subject_diffusion_core.{name}")

    def make_base(
        self,
        family: str = "tiny",
        dtype: torch.dtype = torch.float32,
        manual_cast_dtype: torch.dtype | None = None,
    ) -> Base:
        """A fresh base; its CLIP is the tiny one.

        Args:
            dtype, manual_cast_dtype: what a UNet of ComfyUI's stock classes stores and, if it is
                another, computes in.
        """
        config = FAMILIES[family]
        unet = factories.make_unet(config)
        model = self.tiny_model.build_model(self.tiny)
        if family != "tiny":
            unet_config = self.tiny_model.comfy_unet_config(unet.config)
            model = _stock_model(family, unet, unet_config, dtype, manual_cast_dtype)
        return Base(
            config=config, unet=unet, model=model, clip=self.tiny_model.build_clip(self.tiny)
        )

    def make_adapter(self, base: Base, folder: Path, seed: int = 10, **options: Any) -> Any:
        """Write a random adapter to a file and load it as the nodes do."""
        adapter = make_adapter_for(base, seed, **options)
        path = folder / f"adapter_{seed}.safetensors"
        checkpoint.save(path, adapter)
        return self.registry.load_adapter(path)

    def encode_text(self, clip: Any, text: str) -> Any:
        """The stock encoding of a text."""
        return self.texts.TextEncoder(clip).encode(text)

    def subject_tokens(self, clip: Any, prompt: Any, embeds: Any, placeholder_token_id: int) -> Any:
        """Tokens of prompt and suffixes, with the subjects' positions."""
        texts = self.texts.TextEncoder(clip)
        return self.fused_text.SubjectTokenizer(texts, placeholder_token_id).tokenize(
            prompt, embeds
        )

    def branch(self, loaded: Any, count: int, seed: int = 0, strength: float = 1.0) -> Any:
        """Random subjects in fixed boxes, padded to the adapter's slots."""
        config = loaded.config
        slots = max(count, config.num_subjects) if count else 0
        generator = torch.Generator().manual_seed(seed)
        boxes, valid = torch.zeros(slots, 4), torch.zeros(slots, dtype=torch.bool)
        for index in range(count):
            boxes[index], valid[index] = torch.tensor(BOXES[index]), True
        return self.branches.BranchSubjects(
            adapter=loaded.adapter,
            patch_embeds=torch.randn(
                slots, config.num_patches, config.patch_dim, generator=generator
            ),
            subject_boxes_xyxy=boxes,
            subject_valid=valid,
            token_strengths=torch.full((slots,), strength),
        )

    def conditioning(self, context: torch.Tensor, branch: Any | None, **values: Any) -> Any:
        """A CONDITIONING of one entry."""
        if branch is not None:
            values["model_conds"] = {
                self.family.ATTACHMENT_KEY: self.run_attachment.BranchCond(value=branch)
            }
        return [[context, {"pooled_output": None, **values}]]


def make_adapter_for(base: Base, seed: int = 10, **options: Any) -> checkpoint.Adapter:
    """An adapter for a base; only the tiny CLIP's width fits the text encoder's part."""
    tiny = base.config is factories.TINY_UNET
    if not tiny:
        parts = ("adapters", "grounding", "mlp", "conv_in", "cross_attention_kv")
        options = {"prediction_type": "epsilon", "trained_parts": parts, **options}
    return factories.make_adapter(base.unet, seed, **options)


def _stock_model(
    family: str,
    unet: UNet2DConditionModel,
    unet_config: dict[str, Any],
    dtype: torch.dtype,
    manual_cast_dtype: torch.dtype | None,
) -> Any:
    """A MODEL of ComfyUI's own class for the family, at the UNet's small width."""
    classes = {"sd2": comfy.supported_models.SD20, "sd15": comfy.supported_models.SD15}
    model_config = classes[family](unet_config)
    model_config.set_inference_dtype(dtype, manual_cast_dtype)
    model = model_config.get_model({}, device=torch.device("cpu"))
    names = comfy.utils.unet_to_diffusers(model_config.unet_config)
    state = {names[name]: tensor for name, tensor in unet.state_dict().items()}
    model.diffusion_model.load_state_dict(state)
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=device)


def single_call_sampler() -> Any:
    """A sampler that calls the model once, at the first sigma, and returns what it says."""

    def sample(model: Any, x: torch.Tensor, sigmas: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return model(x, sigmas[0] * x.new_ones(x.shape[0]), **kwargs["extra_args"])

    return comfy.samplers.KSAMPLER(sample)


def denoise_once(guider: Any, noise: torch.Tensor, timestep: int) -> torch.Tensor:
    """One model call of a guider at a timestep of 0..999; returns its denoised latent."""
    sigma = guider.model_patcher.get_model_object("model_sampling").sigmas[timestep]
    sigmas = torch.stack((sigma, torch.zeros(())))
    latent = torch.zeros_like(noise)
    return guider.sample(noise, latent, single_call_sampler(), sigmas, seed=0, disable_pbar=True)


def sample(guider: Any, noise: torch.Tensor, steps: int = 3, sampler: str = "euler") -> Any:
    """A whole sampling run."""
    sampling = guider.model_patcher.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", steps)
    return guider.sample(
        noise,
        torch.zeros_like(noise),
        comfy.samplers.sampler_object(sampler),
        sigmas,
        seed=0,
        disable_pbar=True,
    )


def cfg_guider(model: Any, positive: Any, negative: Any, cfg: float = 1.0) -> Any:
    """ComfyUI's own guider with two branches; cfg 1 computes the positive one only."""
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider


def random_noise(base: Base, batch: int = 1, size: Sequence[int] = (16, 16)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(batch, base.config["in_channels"], *size, generator=generator)


def random_context(base: Base, seed: int = 3, length: int = 77) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, length, base.config["cross_attention_dim"], generator=generator)


def relative_error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm())
