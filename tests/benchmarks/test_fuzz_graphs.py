"""What `python -m benchmarks.fuzz_inputs` makes wrong is every input of every node."""

from __future__ import annotations

import json
import random
from pathlib import Path

from benchmarks.fuzz_inputs.good_graph import LEFT_OUT, TARGETS, good_graph, needed_for
from benchmarks.fuzz_inputs.graphs import wrong_graph

ROOT = Path(__file__).resolve().parents[2]


def test_every_input_of_every_node_is_in_it() -> None:
    wanted = json.loads((ROOT / "tests/host/frozen_inputs.json").read_text(encoding="utf-8"))
    graph = good_graph(1)
    there = {
        (one["class_type"], entry)
        for name, one in graph.items()
        for entry in (*one["inputs"], *(entry for owner, entry in LEFT_OUT if owner == name))
    }
    missing = {(kind, entry) for kind, inputs in wanted.items() for entry in inputs} - there
    assert missing == set()
    assert {one["class_type"] for one in graph.values()} >= set(wanted)


def test_every_node_leads_to_a_target() -> None:
    graph = good_graph(1)
    assert set().union(*(needed_for(graph, target) for target in TARGETS)) == set(graph)


def test_a_seed_decides_what_is_tried() -> None:
    tries = [[wrong_graph(random.Random(seed)) for _ in range(3)] for seed in (1, 1, 2)]
    assert ascii(tries[0]) == ascii(tries[1]) != ascii(tries[2])
