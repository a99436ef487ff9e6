"""Users of other packs search for what they know; newer versions of ComfyUI let nodes say it."""

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
