"""What is recorded of the examples, and when two recordings are the same."""

from __future__ import annotations

import pytest
import torch

from benchmarks.golden_latents.comparing import compare, same_bits
from benchmarks.golden_latents.editing import keep_outputs
from benchmarks.golden_latents.graphs import example_graphs, full_size_graph, further_graphs
from devtools.api_client import Graph

GRAPHS = {**example_graphs(), **further_graphs(), **full_size_graph()}
INFOS = {
    "LoadImage": {"output": ["IMAGE", "MASK"]},
    "SubjectDiffusionLayout": {"output": ["SD_SUBJECTS", "IMAGE"]},
    "VAEDecode": {"output": ["IMAGE"]},
}


@pytest.mark.parametrize("name", GRAPHS)
def test_every_link_leads_to_a_node(name: str) -> None:
    graph = GRAPHS[name]
    links = [value for node in graph.values() for value in node["inputs"].values()]
    sources = [link[0] for link in links if isinstance(link, list)]
    assert sources and set(sources) <= set(graph)
    kinds = [node["class_type"] for node in graph.values()]
    assert kinds.count("SaveImage") == 1 and "VAEDecode" in kinds


def test_every_further_graph_is_one_of_its_own() -> None:
    graphs = list(further_graphs().values())
    assert all(graphs.count(graph) == 1 for graph in graphs)


def test_every_output_with_tensors_is_kept_but_those_of_sources() -> None:
    graph: Graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "crab.png"}},
        "2": {"class_type": "SubjectDiffusionLayout", "inputs": {"subjects": ["1", 0]}},
        "3": {"class_type": "VAEDecode", "inputs": {"samples": ["2", 0]}},
    }
    kept = keep_outputs(graph, INFOS, "here")
    added = [node["inputs"] for name, node in kept.items() if name not in graph]
    wanted = [(["2", 1], "here/2.1"), (["3", 0], "here/3.0")]
    assert [(inputs["value"], inputs["name"]) for inputs in added] == wanted


def test_bits_not_values_are_compared() -> None:
    nan, zero = torch.tensor([float("nan")]), torch.zeros(1)
    assert same_bits(nan, nan.clone()) and same_bits(torch.tensor(1.0), torch.tensor(1.0))
    assert not same_bits(zero, -zero)
    assert not same_bits(zero, zero.double()) and not same_bits(zero, torch.zeros(2))


def test_a_difference_is_named_and_measured() -> None:
    before = {"a": torch.zeros(2), "b": torch.zeros(2), "c": torch.zeros(1)}
    after = {"a": torch.zeros(2), "b": torch.tensor([0.0, 0.25]), "d": torch.zeros(1)}
    assert compare(before, after) == ["c is missing", "d is new", "b max abs difference 0.25"]
    assert compare(before, before) == []
