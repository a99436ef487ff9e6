"""Segment Loader: a segment-anything checkpoint from ComfyUI's model folders."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.comfy_types import SegmenterType
from ..host.model_folders import ModelFolder
from .sam_model import load_segmenter

SEGMENTERS = ModelFolder(
    name="sams",
    extensions=(".safetensors", ".pth", ".pt"),
    content="a checkpoint of segment-anything",
)


class SubjectDiffusionSegmentLoader(io.ComfyNode):
    """A checkpoint of segment-anything from models/sams."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionSegmentLoader",
            display_name="Subject-Diffusion Segment Loader",
            category="Subject-Diffusion",
            description="Loads segment-anything (ViT-B, ViT-L or ViT-H) from models/sams. Needs "
            "the Python package segment-anything.",
            inputs=[
                io.Combo.Input(
                    "segmenter_name",
                    options=SEGMENTERS.file_names(),
                    tooltip="A checkpoint in models/sams. Its content says which size it is.",
                )
            ],
            outputs=[SegmenterType.Output(display_name="segmenter", tooltip="For Segment.")],
        )

    @classmethod
    def fingerprint_inputs(cls, segmenter_name: str) -> tuple[int, int] | None:
        """Load again when the file changes."""
        return SEGMENTERS.stamp(segmenter_name)

    @classmethod
    def execute(cls, segmenter_name: str) -> io.NodeOutput:
        return io.NodeOutput(load_segmenter(SEGMENTERS.require(segmenter_name, "segmenter_name")))
