"""The bundled model with a subject, sampled beside other nodes by KSampler or by our Guider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from host_models import ROOT, Host
from PIL import Image

PROMPT = "a photo of a toy on a green lawn"
BOX = (0.5, 0.25, 1.0, 1.0)
SIZE = 16  # of the latent
SAMPLERS = ("KSampler", "Guider")
# Rows of docs/compatibility's table that have a test of their own, and what comes of each.
ROWS: dict[str, str] = {}
Test = TypeVar("Test", bound=Callable[..., None])


def row(name: str, outcome: str = "works") -> Callable[[Test], Test]:
    """The test of a row, with both samplers."""

    def mark(test: Test) -> Test:
        ROWS[name] = outcome
        marked: Test = pytest.mark.parametrize("sampler", SAMPLERS)(test)
        return marked

    return mark


@dataclass(frozen=True, kw_only=True, eq=False)
class Applied:
    """MODEL of Apply with the three branches of Encode."""

    model: Any
    branches: tuple[Any, Any, Any]


class Setup:
    """Two subjects of one label, each alone in the same box."""

    def __init__(self, host: Host, comfy_nodes: Any) -> None:
        self.host = host
        self.nodes = comfy_nodes
        loaded = host.tiny_loader_node.SubjectDiffusionTinyLoader.execute().args
        self.model, self.clip, self.vae, self.vision, self.adapter = loaded
        self.crab, self.owl, self.off = (
            self.apply("crab"),
            self.apply("owl"),
            self.apply("crab", strength=0.0),
        )
        texts = [host.encode_text(self.clip, text) for text in (PROMPT, "")]
        self.stock = Applied(model=self.model, branches=(texts[0], texts[1], texts[1]))

    def apply(self, picture: str, model: Any = None, **settings: Any) -> Applied:
        apply = self.host.apply_node.apply_adapter
        model, clip = apply(model or self.model, self.clip, self.adapter, **settings)
        with Image.open(ROOT / "assets" / "subjects" / f"{picture}.png") as opened:
            pixels = torch.from_numpy(np.asarray(opened.convert("RGBA"), np.float32) / 255)
        node = self.host.subject_node.SubjectDiffusionSubject
        box = ",".join(map(str, BOX))
        image, mask = pixels[None, ..., :3], pixels[None, ..., 3]
        (subjects,) = node.execute(image, "toy", box, 1.0, mask=mask).args
        encode = self.host.encode_node.SubjectDiffusionEncode.execute
        branches = encode(clip, self.vision, self.adapter, subjects, PROMPT, "").args
        return Applied(model=model, branches=branches)

    def call(self, name: str, **inputs: Any) -> Any:
        """The first output of a node of ComfyUI, old or new style."""
        node_class = self.nodes.NODE_CLASS_MAPPINGS[name]
        result = getattr(node_class(), node_class.FUNCTION)(**inputs)
        return getattr(result, "args", result)[0]

    def latent(self, batch: int = 1) -> dict[str, Any]:
        return {"samples": torch.zeros(batch, 24, SIZE, SIZE)}

    def sample(
        self,
        sampler: str,
        model: Any,
        branches: tuple[Any, Any, Any],
        latent: dict[str, Any] | None = None,
        scales: tuple[float, float] = (4.0, 3.0),
        steps: int = 4,
    ) -> torch.Tensor:
        """The latent (B, C, h, w)."""
        latent = self.latent() if latent is None else latent
        if sampler == "KSampler":
            return self.call(
                "KSampler",
                model=model,
                seed=3,
                steps=steps,
                cfg=scales[0],
                sampler_name="euler",
                scheduler="normal",
                positive=branches[0],
                negative=branches[2],
                latent_image=latent,
                denoise=1.0,
            )["samples"]
        guider = self.three_branches(model, branches, scales)
        return self.guided(model, guider, latent, steps)["samples"]

    def three_branches(
        self, model: Any, branches: tuple[Any, Any, Any], scales: tuple[float, float] = (4.0, 3.0)
    ) -> Any:
        guider = self.host.guider_node.ThreeBranchGuider(model)
        guider.set_branches(*branches)
        guider.set_scales(*scales)
        return guider

    def guided(
        self,
        model: Any,
        guider: Any,
        latent: dict[str, Any],
        steps: int = 4,
        first: int = 0,
        last: int | None = None,
    ) -> dict[str, Any]:
        """The latent of Sampler Custom Advanced, over the steps `first` to `last`."""
        scheduled = self.call(
            "BasicScheduler", model=model, scheduler="normal", steps=steps, denoise=1.0
        )
        noise = self.call("RandomNoise", noise_seed=3) if first == 0 else self.call("DisableNoise")
        return self.call(
            "SamplerCustomAdvanced",
            noise=noise,
            guider=guider,
            sampler=self.call("KSamplerSelect", sampler_name="euler"),
            sigmas=scheduled[first : None if last is None else last + 1],
            latent_image=latent,
        )

    def windows(self, model: Any, length: int, overlap: int, dim: int) -> Any:
        """MODEL of Context Windows."""
        return self.call(
            "ContextWindowsManual",
            model=model,
            context_length=length,
            context_overlap=overlap,
            context_schedule="standard_static",
            context_stride=1,
            closed_loop=False,
            fuse_method="pyramid",
            dim=dim,
        )


def inside_and_outside(change: torch.Tensor) -> tuple[float, float]:
    """Mean absolute change (B, C, h, w) in the box and beside it."""
    x1, y1, x2, y2 = (round(edge * SIZE) for edge in BOX)
    inside = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    inside[y1:y2, x1:x2] = True
    size = change.abs().mean(dim=(0, 1))
    return float(size[inside].mean()), float(size[~inside].mean())
