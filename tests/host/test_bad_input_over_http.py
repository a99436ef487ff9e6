"""Bad and odd input as a user of the HTTP API meets it, with the weights of this repository.

After every group the same good graph must give the same file, byte for byte.
"""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from bad_adapters import BAD_ADAPTERS, adapter_graph, mixed_graph, rewrite, write_adapter
from bad_inputs import BAD_INPUTS, GROUPS
from graphs import Graph, changed, good_graph, make_pictures, node
from host_models import Host
from odd_inputs import ODD_INPUTS, make_huge_picture
from PIL import Image
from safetensors.torch import save_file

from devtools.api_client import ComfyClient, PromptError
from devtools.server import ComfyServer

LONGEST_SENTENCE = 600


@pytest.fixture(scope="module", autouse=True)
def pictures(server: ComfyServer) -> None:
    make_pictures(server.base / "input")
    make_huge_picture(server.base / "input")


def seeded(seed: int) -> Graph:
    """The good graph with another seed: nothing of its sampling is in the server's cache."""
    graph = good_graph()
    graph["noise"]["inputs"]["noise_seed"] = seed
    return graph


def picture_bytes(client: ComfyClient, graph: Graph) -> bytes:
    """The one picture of the graph as the server sends it."""
    (image,) = client.run(graph)
    return client.fetch_image(image)


@pytest.fixture(scope="module")
def good_picture(server: ComfyServer, pictures: None) -> bytes:
    with ComfyClient("127.0.0.1", server.port, server.is_running) as client:
        return picture_bytes(client, seeded(1))


@pytest.fixture
def unharmed(client: ComfyClient, good_picture: bytes) -> ComfyClient:
    """The client; whatever was sent, the good picture stays what it was."""
    yield client
    assert picture_bytes(client, seeded(2)) != good_picture
    assert picture_bytes(client, seeded(1)) == good_picture


def refused(client: ComfyClient, graph: Graph, sentence: str) -> None:
    with pytest.raises(PromptError, match=sentence) as error:
        client.run(graph)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < LONGEST_SENTENCE


def test_there_are_many_kinds() -> None:
    assert len(BAD_INPUTS) + len(BAD_ADAPTERS) >= 40


@pytest.mark.parametrize("group", GROUPS)
def test_bad_graphs(unharmed: ComfyClient, group: str) -> None:
    for kind, (graph, sentence) in GROUPS[group].items():
        print(f"{group}: {kind}")
        refused(unharmed, graph, sentence)


def test_bad_adapter_files(unharmed: ComfyClient, server: ComfyServer, host: Host) -> None:
    folder = server.base / "models" / "subject_diffusion"
    for kind, sentence in BAD_ADAPTERS.items():
        print(kind)
        write_adapter(kind, folder / f"{kind}.safetensors", host)
        refused(unharmed, adapter_graph(f"{kind}.safetensors"), sentence)


def test_a_missing_adapter_names_the_folders(unharmed: ComfyClient, server: ComfyServer) -> None:
    folder = server.base / "models" / "subject_diffusion"
    sentence = rf"expected a file in \S*{folder.name}, got 'absent\.safetensors'\. There is .*"
    refused(unharmed, adapter_graph("absent.safetensors"), sentence)


def test_mixed_adapters(unharmed: ComfyClient, server: ComfyServer) -> None:
    """The pack's own file under another name is the same adapter; another's weights are not."""
    own = Path(__file__).resolve().parents[2] / "weights" / "tiny_adapter.safetensors"
    copied = server.base / "models" / "subject_diffusion" / "other.safetensors"
    copied.write_bytes(own.read_bytes())
    assert picture_bytes(unharmed, mixed_graph("other.safetensors"))
    rewrite(copied, lambda tensors, _: tensors["mlp.fc1.bias"].add_(1.0))
    sentence = r"adapter: expected 'other\.safetensors', which is on the CLIP, got 'tiny_adapter"
    refused(unharmed, mixed_graph("other.safetensors"), sentence)
    graph = adapter_graph("other.safetensors")
    graph["apply2"] = changed("apply")["apply"]
    graph["guider"]["inputs"]["model"] = ["apply2", 0]
    refused(unharmed, graph, r"conditioning: expected subjects encoded with the adapter 'tiny_ada")


def test_another_vision_encoder(unharmed: ComfyClient, server: ComfyServer) -> None:
    """ViT-L in place of the right one; ComfyUI takes a few of its tensors for a whole file."""
    folder = server.base / "models" / "clip_vision"
    folder.mkdir(parents=True)
    prefix = "vision_model.encoder.layers"
    tensors = {f"{prefix}.{layer}.layer_norm1.weight": torch.ones(1024) for layer in (0, 22)} | {
        "vision_model.embeddings.position_embedding.weight": torch.zeros(257, 1024)
    }
    save_file(tensors, folder / "vit_l.safetensors")
    graph = changed("encode", clip_vision=["vision", 0])
    graph["vision"] = node("CLIPVisionLoader", clip_name="vit_l.safetensors")
    sentence = r"clip_vision: expected an encoder with 144 patches of width \d+ .* got 256 .* 1024"
    refused(unharmed, graph, sentence)


@pytest.mark.parametrize("kind", ODD_INPUTS)
def test_odd_input_works(client: ComfyClient, server: ComfyServer, kind: str) -> None:
    graph, size, warning = ODD_INPUTS[kind]
    content = picture_bytes(client, graph)
    assert Image.open(io.BytesIO(content)).size == size
    assert warning in server.log_tail(40)


def test_odd_input_leaves_no_trace(unharmed: ComfyClient) -> None:
    graph, _, _ = ODD_INPUTS["six subjects"]
    assert picture_bytes(unharmed, graph)
