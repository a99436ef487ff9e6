"""Bad input as a user of the HTTP API meets it, with the weights of this repository."""

from __future__ import annotations

from pathlib import Path

import pytest
from bad_inputs import BAD_ADAPTERS, BAD_INPUTS, adapter_graph, write_adapter
from graphs import Graph, good_graph, make_pictures
from host_models import Host

from devtools.api_client import ComfyClient, PromptError
from devtools.server import ComfyServer


@pytest.fixture(scope="module", autouse=True)
def pictures(server: ComfyServer) -> None:
    make_pictures(server.base / "input")


def picture_bytes(client: ComfyClient, graph: Graph) -> bytes:
    """The one picture of the graph as the server sends it."""
    (image,) = client.run(graph)
    return client.fetch_image(image)


@pytest.fixture(scope="module")
def adapters(server: ComfyServer, host: Host) -> Path:
    """One file of each bad kind in the server's models folder."""
    folder = server.base / "models" / "subject_diffusion"
    folder.mkdir(parents=True, exist_ok=True)
    for kind in BAD_ADAPTERS:
        write_adapter(kind, folder / f"{kind}.safetensors", host)
    return folder


def refused(client: ComfyClient, graph: Graph, sentence: str) -> None:
    with pytest.raises(PromptError, match=sentence) as error:
        client.run(graph)
    assert "\n" not in str(error.value)


def without_label() -> Graph:
    graph = good_graph()
    del graph["subject1"]["inputs"]["label"]
    return graph


def seeded(seed: int) -> Graph:
    """The good graph with another seed: nothing of it is in the server's cache."""
    graph = good_graph()
    graph["noise"]["inputs"]["noise_seed"] = seed
    return graph


def test_every_kind_is_one_sentence_and_the_next_picture_is_the_same(
    client: ComfyClient, adapters: Path
) -> None:
    before = picture_bytes(client, seeded(1))
    for graph, sentence in BAD_INPUTS.values():
        refused(client, graph, sentence)
    for kind, sentence in BAD_ADAPTERS.items():
        refused(client, adapter_graph(f"{kind}.safetensors"), sentence)
    refused(client, adapter_graph("absent.safetensors"), r"absent\.safetensors")
    refused(client, without_label(), r"Required input is missing")
    picture_bytes(client, seeded(2))
    assert picture_bytes(client, seeded(1)) == before
