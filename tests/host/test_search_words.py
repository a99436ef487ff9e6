"""What newer versions of ComfyUI let nodes say: words to be found by, inputs that may be hidden."""

from __future__ import annotations

import inspect

import pytest
from comfy_api.latest import io
from host_models import Host

WANTED = {
    "subject_node.SubjectDiffusionSubject": ("reference image", "personalise"),
    "encode_node.SubjectDiffusionEncode": ("ipadapter", "reference image", "personalise"),
    "apply_node.SubjectDiffusionApply": ("ipadapter", "reference image", "personalise"),
    "adapter_loader_node.SubjectDiffusionAdapterLoader": ("ipadapter", "personalise"),
}


@pytest.mark.parametrize("name", WANTED)
def test_nodes_are_found(host: Host, name: str) -> None:
    module, node = name.split(".")
    info = getattr(getattr(host, module), node).GET_NODE_INFO_V1()
    if "search_aliases" in inspect.signature(io.Schema).parameters:
        assert set(WANTED[name]) <= set(info["search_aliases"])
    else:
        assert host.search_words.search_words("ipadapter") == {}


def test_rarely_used_inputs_are_advanced(host: Host) -> None:
    node = host.guider_node.SubjectDiffusionGuider
    if "advanced" in inspect.signature(io.Input).parameters:
        inputs = {entry.id: entry.as_dict() for entry in node.GET_SCHEMA().inputs}
        assert inputs["start_percent"]["advanced"] and inputs["end_percent"]["advanced"]
        assert "advanced" not in inputs["text_guidance_scale"]
    else:
        assert host.advanced_inputs.advanced() == {}
