"""Tiny Loader: the small model that comes with the pack."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io

from ...subject_diffusion_core.tiny import tiny_base
from ..adapters.registry import load_adapter
from ..host.comfy_types import AdapterType, Model
from ..host.picture_size import attach_size_check
from .tiny_clip_vision import TinyClipVision
from .tiny_model import build_clip, build_model, build_vae

WEIGHTS = Path(__file__).parents[2] / "weights"
BASE_FILE, ADAPTER_FILE = "tiny_base.safetensors", "tiny_adapter.safetensors"


class SubjectDiffusionTinyLoader(io.ComfyNode):
    """Everything needed to try the method on any computer, without a download."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionTinyLoader",
            display_name="Subject-Diffusion Tiny Loader",
            category="Subject-Diffusion",
            description=(
                "The small model that comes with this pack, for pictures of 128x128 in seconds on "
                "a CPU. Its knowledge is limited to the objects it was trained on."
            ),
            inputs=[],
            outputs=[
                io.Model.Output(display_name="MODEL", tooltip="The tiny UNet."),
                io.Clip.Output(display_name="CLIP", tooltip="The tiny text encoder."),
                io.Vae.Output(display_name="VAE", tooltip="The tiny autoencoder."),
                io.ClipVision.Output(
                    display_name="CLIP_VISION", tooltip="The tiny image encoder, for Encode."
                ),
                AdapterType.Output(
                    display_name="adapter", tooltip="The tiny adapter, for Apply and Encode."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls) -> tuple[tuple[int, int], ...]:
        """Load again when the files change."""
        stats = [(WEIGHTS / name).stat() for name in (BASE_FILE, ADAPTER_FILE)]
        return tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)

    @classmethod
    def execute(cls) -> io.NodeOutput:
        base = tiny_base.load(WEIGHTS / BASE_FILE)
        adapter = load_adapter(WEIGHTS / ADAPTER_FILE)
        model = build_model(base)
        attach_size_check(model)
        # from which ComfyUI makes a MODEL with switchable weights where its own has none
        model.cached_patcher_init = (load_model, (WEIGHTS / BASE_FILE,))
        return io.NodeOutput(
            model, build_clip(base), build_vae(base), TinyClipVision(base), adapter
        )


def load_model(path: Path, disable_dynamic: bool = False) -> Model:
    """The MODEL of a base file."""
    return build_model(tiny_base.load(path), disable_dynamic)
