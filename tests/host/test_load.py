"""Many prompts: at once, cut short, and 200 in a row."""

from __future__ import annotations

import gc
import json
import shutil
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import comfy.model_management
import pytest
import torch
from graphs import Graph, GraphRunner, good_graph
from host_models import Host
from test_graphs import runner  # noqa: F401

from devtools.api_client import ComfyClient, PromptError
from devtools.patience import PATIENCE_SECONDS
from devtools.server import LOOPBACK, ComfyServer

ROOT = Path(__file__).resolve().parents[2]
PICTURES = sorted(path.name for path in (ROOT / "assets" / "subjects").glob("*.png"))
AT_ONCE, IN_A_ROW = 20, 60
# Everything of ours that lives as long as a prompt or a model; modules and node classes stay.
KINDS = ("AdapterModules", "LoadedAdapter", "AppliedAdapter", "BranchSubjects", "CallTables")
KINDS += ("Generation", "GatedSelfAttention", "GroundingNet", "SubjectCond", "ThreeBranchGuider")


def own_graph(number: int) -> Graph:
    """The good graph with pictures, boxes and a seed of its own; two steps at 64x64."""
    graph = good_graph()
    left = 0.02 * (number % 20)
    for offset, name in enumerate(("image1", "image2")):
        graph[name]["inputs"]["image"] = PICTURES[(number + 5 * offset) % len(PICTURES)]
    graph["subject1"]["inputs"]["box"] = f"{left:.2f},0.1,{left + 0.5:.2f},0.6"
    graph["subject2"]["inputs"]["box"] = "0.5,0.4,1,1"
    graph["noise"]["inputs"]["noise_seed"] = number
    graph["sigmas"]["inputs"]["steps"] = 2
    graph["latent"]["inputs"] |= {"width": 64, "height": 64}
    graph["layout"]["inputs"] |= {"width": 64, "height": 64}
    return graph


@pytest.fixture(scope="module", autouse=True)
def pictures(server: ComfyServer, base_folder: Path) -> None:
    for name in PICTURES:
        for folder in (server.base, base_folder):
            shutil.copy(ROOT / "assets" / "subjects" / name, folder / "input")


def connected(server: ComfyServer) -> ComfyClient:
    return ComfyClient(LOOPBACK, server.port, server.is_running)


def picture_of(server: ComfyServer, graph: Graph) -> bytes:
    with connected(server) as client:
        (image,) = client.run(graph)
        return client.fetch_image(image)


def test_twenty_prompts_at_once_do_not_mix(server: ComfyServer) -> None:
    """Every picture of a client equals its own single run, byte for byte."""
    graphs = [own_graph(number) for number in range(AT_ONCE)]
    alone = [picture_of(server, graph) for graph in graphs]
    assert len(set(alone)) == AT_ONCE
    with ThreadPoolExecutor(AT_ONCE) as clients:
        together = list(clients.map(lambda graph: picture_of(server, graph), reversed(graphs)))
    assert together[::-1] == alone


class CancelledByTheUser(Exception):
    pass


def test_cancel_in_the_middle(server: ComfyServer) -> None:
    """The running prompt stops, the waiting ones run, and the next picture is the same."""
    before, stopped = picture_of(server, own_graph(0)), interrupted(server)
    endless = own_graph(1)
    endless["sigmas"]["inputs"]["steps"] = 1000

    def cancel(node: str, value: int, total: int) -> None:
        if node == "sample" and value >= 3:
            raise CancelledByTheUser

    with connected(server) as client, ThreadPoolExecutor(1) as other:
        with pytest.raises(CancelledByTheUser):
            client.run(endless, cancel)
        waiting = other.submit(picture_of, server, own_graph(2))
        assert waiting.result(PATIENCE_SECONDS)
    assert interrupted(server) == stopped + 1
    assert picture_of(server, own_graph(0)) == before


def interrupted(server: ComfyServer) -> int:
    """How many prompts in the server's history were stopped before their end."""
    with urllib.request.urlopen(f"{server.url}/history") as response:
        history = json.load(response)
    kinds = [kind for entry in history.values() for kind, _ in entry["status"]["messages"]]
    return kinds.count("execution_interrupted")


def test_a_failing_prompt_between_others_fails_alone(server: ComfyServer) -> None:
    graphs = [own_graph(number) for number in range(3)]
    graphs[1]["subject1"]["inputs"]["box"] = "nonsense"
    with ThreadPoolExecutor(3) as clients:
        first, second, third = (clients.submit(picture_of, server, graph) for graph in graphs)
        assert first.result() and third.result()
        with pytest.raises(PromptError, match="Subject 1's box"):
            second.result()


def alive(host: Host) -> Counter[str]:
    """Living objects of ours by kind, and the bytes of all tensors in the process."""
    gc.collect()
    counts: Counter[str] = Counter()
    for thing in gc.get_objects():
        kind = type(thing)
        if kind.__name__ in KINDS and kind.__module__.startswith(host.pack.__name__):
            counts[kind.__name__] += 1
        elif issubclass(kind, torch.Tensor) and has_memory(thing):
            counts["tensor bytes"] += thing.nbytes
    counts["loaded models"] = len(comfy.model_management.current_loaded_models)
    return counts


def has_memory(tensor: torch.Tensor) -> bool:
    """Of the CPU; what torch.compile keeps of its tracing has sizes without numbers, and none."""
    return tensor.device.type == "cpu" and not tensor._has_symbolic_sizes_strides


def run_in_a_row(queue: GraphRunner, first: int, last: int) -> None:
    """Prompts as the server's worker runs them; every tenth has another strength of Apply."""
    for number in range(first, last):
        graph = own_graph(number)
        graph["sigmas"]["inputs"]["steps"] = 1
        graph["apply"]["inputs"]["strength"] = 1.0 - 0.001 * (number // 10)
        assert queue.execute(graph) is None


def test_sixty_prompts_in_a_row_leave_nothing_alive(
    host: Host,
    runner: GraphRunner,  # noqa: F811
) -> None:
    """ComfyUI keeps the last prompt's outputs; nothing is added to that. The two prompts that are
    compared have the same pictures, as these are among the outputs."""
    at_start = alive(host)
    compared = (IN_A_ROW - 1) % len(PICTURES) + len(PICTURES)
    run_in_a_row(runner, 0, compared + 1)
    early = alive(host)
    assert early["AdapterModules"] >= 1
    run_in_a_row(runner, compared + 1, IN_A_ROW)
    late = alive(host)
    slack = 2**18
    assert late["tensor bytes"] <= early["tensor bytes"] + slack
    for name in (*KINDS, "loaded models"):
        assert late[name] <= early[name], (name, early, late)
    runner.forget()
    comfy.model_management.unload_all_models()
    comfy.model_management.cleanup_models()
    at_end = alive(host)
    assert {name: at_end[name] for name in KINDS} == {name: at_start[name] for name in KINDS}
