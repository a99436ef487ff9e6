"""Models with references in their self-attention, put together without the node: so that tests
choose latents, masks and captions themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import comfy.latent_formats
import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.supported_models
import torch
from factories import randomize
from host_models import Base, Host

WRAPPERS = comfy.patcher_extension.WrappersMP


@dataclass(kw_only=True)
class ReferenceBench:
    """One base, and what is attached to clones of it.

    Attributes:
        pooled: what the conditionings carry besides their context.
    """

    host: Host
    model: Any
    channels: int
    context_dim: int
    pooled: torch.Tensor | None = None
    passes: list[float] = field(default_factory=list)

    def text(self, seed: int = 3, length: int = 77) -> Any:
        generator = torch.Generator().manual_seed(seed)
        context = torch.randn(1, length, self.context_dim, generator=generator)
        return [[context, {"pooled_output": self.pooled}]]

    def noise(self, batch: int = 1, size: tuple[int, int] = (16, 16), seed: int = 7) -> Any:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(batch, self.channels, *size, generator=generator)

    def reference(self, size: tuple[int, int] = (16, 16), seed: int = 0, **changes: Any) -> Any:
        latent = self.noise(size=size, seed=100 + seed)
        fields = {"latent": latent, "mask": None, "caption": self.text(11), **changes}
        return self.host.references.Reference(**fields)

    def subject(self, *pictures: Any, omega: float = 3.0, **changes: Any) -> Any:
        fields = {
            "omega": omega,
            "pictures": pictures or (self.reference(),),
            "box_xyxy": None,
            "region": None,
            "start_percent": 0.0,
            "end_percent": 1.0,
            **changes,
        }
        return self.host.references.ReferencedSubject(**fields)

    def seeing(self, conditioning: Any, *subjects: Any, time_bias: int = 0) -> Any:
        references = self.host.references.BranchReferences(subjects=subjects, time_bias=time_bias)
        return self.host.references.with_references(conditioning, references)

    def attached(
        self,
        model: Any = None,
        layers: str = "all",
        noise: str = "fixed",
        start: float = 0.0,
        end: float = 1.0,
        tells: bool = False,
        max_bytes: int | None = None,
    ) -> Any:
        """A clone that sees references, and notes the sigma of every pass in `passes`."""
        attached = (model or self.model).clone()
        locations = self.host.unet_geometry.transformer_block_locations(attached)
        chosen = self.host.block_selection.select_blocks(layers, list(locations), "layers")
        settings = self.host.reference_pass.PassSettings(
            locations=frozenset(locations[name] for name in chosen),
            noise=noise,
            noise_seed=5,
            store=None if max_bytes is None else self.host.key_store.KeyStore(max_bytes),
        )
        attach = self.host.subject_attention.attach_self_subject_attention
        attach(attached, settings, start, end, tells=tells)
        attached.add_wrapper_with_key(WRAPPERS.APPLY_MODEL, "count", self._count)
        return attached

    def _count(self, executor: Any, x: Any, t: Any, *args: Any, **kwargs: Any) -> Any:
        options = args[3]
        if self.host.reference_pass.WRITE_KEY in options:
            assert x.shape[0] == 1 and len(options["uuids"]) == 1
            assert options["cond_or_uncond"] == [0]
            self.passes.append(float(t[0]))
        return executor(x, t, *args, **kwargs)


def bench_of(host: Host, family: str = "tiny", **options: Any) -> ReferenceBench:
    """A random model: "tiny", "sd15", "sd2" of the other tests, "sdxl", or "inpainting", which
    sees mask and masked picture beside the latent."""
    if family == "sdxl":
        return _sdxl_bench(host)
    if family == "inpainting":
        return _inpainting_bench(host)
    base: Base = host.make_base(family, **options)
    return ReferenceBench(
        host=host,
        model=base.model,
        channels=base.config["in_channels"],
        context_dim=base.config["cross_attention_dim"],
    )


def _sdxl_bench(host: Host) -> ReferenceBench:
    """Stable Diffusion XL's class and block structure at small width."""
    unet_config = {
        **comfy.supported_models.SDXL.unet_config,
        "image_size": 32,
        "legacy": False,
        "num_classes": "sequential",
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 32,
        "channel_mult": [1, 2, 2],
        "num_res_blocks": [2, 2, 2],
        "transformer_depth": [0, 0, 2, 2, 3, 3],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 3, 3, 3],
        "transformer_depth_middle": 3,
        "context_dim": 96,
        "adm_in_channels": 64 + 6 * 256,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": True,
        "use_temporal_attention": False,
        "use_temporal_resblock": False,
        "num_heads": -1,
        "num_head_channels": 32,
    }
    model = _random_model(comfy.supported_models.SDXL(unet_config))
    pooled = torch.randn(1, 64, generator=torch.Generator().manual_seed(1))
    return ReferenceBench(host=host, model=model, channels=4, context_dim=96, pooled=pooled)


def _inpainting_bench(host: Host) -> ReferenceBench:
    """Stable Diffusion 1's inpainting class at small width."""
    unet_config = {
        **comfy.supported_models.SD15.unet_config,
        "image_size": 32,
        "legacy": False,
        "in_channels": 9,
        "out_channels": 4,
        "model_channels": 32,
        "channel_mult": [1, 2],
        "num_res_blocks": [1, 1],
        "transformer_depth": [1, 1],
        "transformer_depth_output": [1, 1, 1, 1],
        "transformer_depth_middle": 1,
        "context_dim": 48,
        "use_spatial_transformer": True,
        "num_heads": 4,
        "num_head_channels": -1,
    }
    model = _random_model(comfy.supported_models.SD15(unet_config))
    model.model.set_inpaint()
    return ReferenceBench(host=host, model=model, channels=4, context_dim=48)


def _random_model(config: Any) -> Any:
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, device=torch.device("cpu"))
    randomize(model.diffusion_model, 0)
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=device)
