"""Attention Maps shows the maps of the sampling that made its picture, or says that it cannot."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from graphs import Graph, good_graph, make_pictures, node
from host_models import Host
from PIL import Image

from devtools.api_client import ComfyClient, PromptError
from devtools.server import ComfyServer


@pytest.fixture(scope="module", autouse=True)
def pictures(server: ComfyServer) -> None:
    make_pictures(server.base / "input")


def watched(*seeds: int, threshold: float = 0.5, model: str = "record") -> Graph:
    """The good graph, sampled once for each seed with one recorded MODEL, each picture with its
    maps."""
    graph = good_graph()
    graph["record"] = node("SubjectDiffusionRecordAttention", model=["apply", 0], ranges="0-1")
    graph["guider"]["inputs"]["model"] = [model, 0]
    sampling = {name: graph.pop(name) for name in ("noise", "sample", "decode", "save")}
    for seed in seeds:
        for name, one in sampling.items():
            inputs = {
                key: [f"{value[0]}{seed}", value[1]]
                if isinstance(value, list) and value[0] in sampling
                else value
                for key, value in one["inputs"].items()
            }
            graph[f"{name}{seed}"] = node(one["class_type"], **inputs)
        graph[f"noise{seed}"]["inputs"]["noise_seed"] = seed
        graph[f"maps{seed}"] = node(
            "SubjectDiffusionAttentionMaps",
            attention=["record", 1],
            image=[f"decode{seed}", 0],
            tokens="average",
            threshold=threshold,
            opacity=0.7,
        )
        graph[f"save{seed}"]["inputs"] |= {"images": [f"maps{seed}", 0]}
        graph[f"save{seed}"]["inputs"] |= {"filename_prefix": f"maps{seed}"}
    return graph


def maps_by_seed(client: ComfyClient, graph: Graph) -> dict[str, list[bytes]]:
    """The pixels of the saved maps, by the name that their seed gives them."""
    found: dict[str, list[bytes]] = {}
    for image in client.run(graph):
        name = image.filename.partition("_")[0]
        with Image.open(io.BytesIO(client.fetch_image(image))) as picture:
            found.setdefault(name, []).append(picture.tobytes())
    return found


def test_each_picture_has_its_own_maps(client: ComfyClient) -> None:
    """Two samplings with one MODEL in one graph, and pictures that come out of the cache."""
    first, second = maps_by_seed(client, watched(11)), maps_by_seed(client, watched(12))
    assert first["maps11"] != second["maps12"]
    both = maps_by_seed(client, watched(11, 12))
    assert both == {**first, **second}
    again = maps_by_seed(client, watched(11, 12, threshold=0.6))  # samplers are cached
    for name, pictures in again.items():
        alone = maps_by_seed(client, watched(int(name[4:]), threshold=0.6))
        assert pictures == alone[name]


def test_a_sampler_that_is_not_on_the_recorded_model(client: ComfyClient) -> None:
    assert maps_by_seed(client, watched(21))
    with pytest.raises(PromptError, match=r"attention: expected the maps of the sampling that mad"):
        client.run(watched(21, model="apply", threshold=0.4))


def test_the_earlier_runs_are_kept_for_cached_pictures(host: Host) -> None:
    module = host.attention_record
    handle = module.AttentionHandle()
    maps = torch.zeros(1, 1, 1, 2, 4, 4)
    records = [
        module.AttentionRecord(
            ranges=((0.0, 1.0),),
            subjects=(),
            kinds=module.WORDS,
            maps=maps,
            present=torch.ones(1, 1, dtype=torch.bool),
        )
        for _ in range(module.MOST_RUNS + 2)
    ]
    assert handle.records_of({"run 1"}) == ()
    for number, record in enumerate(records):
        handle.begin(f"run {number}")
        assert handle.record is None
        handle.keep((record, None), f"run {number}")
    assert handle.records_of({"run 5", "a node before it"}) == (records[5],)
    assert handle.records_of({"run 0"}) == ()  # too long ago
    assert handle.records_of(set()) == (handle.record,) == (records[-1],)
    handle.begin("run 5")  # sampled again, and cancelled
    assert handle.records_of({"run 5"}) == ()


def test_what_a_node_depends_on(host: Host) -> None:
    module = host.prompt_graph

    def before(graph: Any, node_id: str = "maps11") -> set[str]:
        return module.fingerprints_before(graph, node_id, "image")

    graph = watched(11, 12)
    found = module.fingerprints(graph)
    assert len(set(found.values())) == len(graph)
    assert found["sample11"] in before(graph) and found["sample12"] not in before(graph)
    assert found["sample11"] == module.fingerprints(watched(11))["sample11"]
    changed = watched(11, 12)
    changed["subject1"]["inputs"]["strength"] = 0.9
    assert module.fingerprints(changed)["sample11"] != found["sample11"]
    assert before(graph, "absent") == before(None) == set()
