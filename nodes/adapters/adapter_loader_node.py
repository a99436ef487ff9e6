"""Adapter Loader: an adapter file from ComfyUI's model folders."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.comfy_types import AdapterType
from ..host.model_folders import ModelFolder
from ..host.node_warnings import show_text
from ..host.search_words import search_words
from .registry import load_adapter

ADAPTERS = ModelFolder(
    name="subject_diffusion",
    extensions=(".safetensors", ".bin", ".pth", ".pt"),
    content="the adapter",
    others=("ipadapter",),
)


class SubjectDiffusionAdapterLoader(io.ComfyNode):
    """An adapter from models/subject_diffusion or models/ipadapter."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionAdapterLoader",
            display_name="Subject-Diffusion Adapter Loader",
            category="Subject-Diffusion",
            description="Loads an adapter from models/subject_diffusion or models/ipadapter: one "
            "trained with Subject-Diffusion, an IP-Adapter or MS-Diffusion. It is known by its "
            "content; the node says what it is.",
            **search_words("ipadapter", "personalise", "personalize", "load adapter"),
            inputs=[
                io.Combo.Input(
                    "adapter_name",
                    options=ADAPTERS.file_names(),
                    tooltip="A file in models/subject_diffusion or models/ipadapter. It says "
                    "itself which base model it needs.",
                )
            ],
            outputs=[AdapterType.Output(display_name="adapter", tooltip="For Apply and Encode.")],
        )

    @classmethod
    def fingerprint_inputs(cls, adapter_name: str) -> tuple[int, int] | None:
        """Load again when the file changes."""
        return ADAPTERS.stamp(adapter_name)

    @classmethod
    def validate_inputs(cls, adapter_name: str) -> bool | str:
        """ComfyUI would only say that the name is not in its list."""
        if not isinstance(adapter_name, str):  # linked: known when the node runs
            return True
        return ADAPTERS.find(adapter_name) is not None or ADAPTERS.missing(adapter_name)

    @classmethod
    def execute(cls, adapter_name: str) -> io.NodeOutput:
        adapter = load_adapter(ADAPTERS.require(adapter_name, "adapter_name"))
        if adapter.summary:
            show_text([adapter.summary])
        return io.NodeOutput(adapter)
