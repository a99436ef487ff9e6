"""Many prompts to one server, some of them cancelled: every picture is right, and nothing grows.

    python -m benchmarks.many_prompts --prompts 500 --cancels 100 --seed 0

with the environment's Python and COMFYUI_PATH=... . Prompts of all methods of the pack, each with a
seed of its own, go to a real server. Further ones are cancelled: while they wait, somewhere before
they sample, and in the middle of the steps. After every 25 prompts one good picture of each method
must be the same, bit for bit. Exit status 1 if something fell short.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from devtools.api_client import ComfyClient, Graph, ImageReference, PromptError
from devtools.console import DevError, Progress
from devtools.server import LOOPBACK, ComfyServer, temporary_base

from .comfyui import ROOT, find_comfyui
from .fuzz_inputs.good_files import make_files, make_pictures
from .fuzz_inputs.good_graph import good_graph, needed_for

# Three branches, DreamTuner, HiFi Tuner's two halves, interpolation.
METHODS = ("save", "show_dream", "show_tuned", "show_guided", "show_strip")
WAYS = ("while it waits", "before it samples", "in the middle of its steps")
CANCELLED = "The generation was cancelled."
LOOK_EVERY = 25
LONG = 200  # steps of a prompt that is cancelled; one method inverts as many before the first
# What a server may take more at the end than after a first part of the prompts, in MB: PyTorch
# and Python keep some of what they were given.
MOST_GROWTH = 200.0


class CancelledError(Exception):
    """Raised by the client's own callback, which cancels the prompt."""


class Load:
    """Prompts to one server.

    Attributes:
        faults: what fell short, one line each.
        counts: how many prompts ended in which way.
    """

    def __init__(self, server: ComfyServer, seed: int, progress: Progress) -> None:
        self._server = server
        self._progress = progress
        self._chance = random.Random(seed)
        self._client = ComfyClient(LOOPBACK, server.port, server.is_running)
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        make_pictures(server.base / "input")
        make_files(server.base / "models")
        self._good = self._pictures_of_all()

    def run(self, prompts: int, cancels: int) -> None:
        cancelled = set(self._chance.sample(range(prompts), min(cancels, prompts)))
        early = self.megabytes()
        for number in range(prompts):
            self._prompt(number)
            if number in cancelled:
                self._cancel(number)
            if number % LOOK_EVERY == LOOK_EVERY - 1:
                self._look(number + 1)
            if number == prompts // 4:
                early = self.megabytes()
        self._look(prompts)
        growth = self.megabytes() - early
        self._progress.say(f"{early:.0f} MB after a quarter, {growth:+.0f} MB at the end")
        if growth > MOST_GROWTH:
            self._fault(f"the server takes {growth:.0f} MB more at the end than after a quarter")

    def report(self) -> str:
        lines = [f"{kind}: {count}" for kind, count in sorted(self.counts.items())]
        return "\n".join([*lines, *(f"FAULT {one}" for one in self.faults)])

    def megabytes(self) -> float:
        """What the server holds in memory."""
        process_id = self._server.process_id
        return float(psutil.Process(process_id).memory_info().rss) / 1e6

    def _prompt(self, number: int) -> None:
        """One that runs to its end."""
        method = METHODS[number % len(METHODS)]
        try:
            self._images_of(self._graph(method, number))
            self.counts["pictures"] += 1
        except DevError as error:
            self._fault(f"prompt {number}, {method}: {error}")

    def _graph(self, method: str, number: int) -> Graph:
        graph = needed_for(good_graph(seed=1000 + number), method)
        if "tune" in graph:
            graph["tune"]["inputs"]["seed"] = number % 7
        return graph

    def _cancel(self, number: int) -> None:
        """A long one that is stopped in one of the ways."""
        way = self._chance.choice(WAYS)
        graph = self._graph(self._chance.choice(METHODS), 10_000 + number)
        if "sigmas" in graph:
            graph["sigmas"]["inputs"]["steps"] = LONG
        if way == WAYS[2]:
            self._cancel_at_a_step(graph, self._chance.randint(1, 4), way)
            return
        prompt_ids = [self._client.queue(graph)]
        if way == WAYS[0]:  # behind the long one
            prompt_ids.append(self._client.queue(self._graph(METHODS[0], 20_000 + number)))
        time.sleep(self._chance.uniform(0.0, 0.3))
        self._cancel_until_idle(prompt_ids)
        self.counts[f"cancelled {way}"] += 1

    def _cancel_at_a_step(self, graph: Graph, step: int, way: str) -> None:
        seen = 0

        def stop(node: str, value: int, total: int) -> None:
            nonlocal seen
            seen += 1
            if seen >= step:
                raise CancelledError

        try:
            self._client.run(graph, stop)
            self._fault(f"a prompt of {LONG} steps ended before it was cancelled")
        except CancelledError:
            self.counts[f"cancelled {way}"] += 1
        self._cancel_until_idle([])

    def _cancel_until_idle(self, prompt_ids: list[str]) -> None:
        """Until nothing runs; a cancel that comes between the queue and the start of a prompt is
        not heard, and is said again."""
        while self._server.is_running():
            for prompt_id in reversed(prompt_ids):
                self._client.cancel(prompt_id)
            if not self._client.is_busy():
                return
            time.sleep(0.1)

    def _images_of(self, graph: Graph) -> list[ImageReference]:
        return self._client.run(graph)

    def _pictures_of_all(self) -> dict[str, list[bytes]]:
        graphs = {method: needed_for(good_graph(seed=1), method) for method in METHODS}
        return {
            method: [self._client.fetch_image(image) for image in self._images_of(graph)]
            for method, graph in graphs.items()
        }

    def _look(self, number: int) -> None:
        """One prompt in between, so that nothing comes out of ComfyUI's cache."""
        try:
            self._images_of(needed_for(good_graph(seed=500 + number), METHODS[0]))
            again = self._pictures_of_all()
        except PromptError as error:
            self._fault(f"after {number} prompts no good picture: {error}")
            return
        for method in METHODS:
            if again[method] != self._good[method]:
                self._fault(f"after {number} prompts the good picture of {method} is another one")
        self._progress.say(
            f"{number} prompts, {len(self.faults)} faults, {self.megabytes():.0f} MB"
        )

    def _fault(self, line: str) -> None:
        self.faults.append(line)
        self._progress.say(f"FAULT {line}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_prompts")
    parser.add_argument("--prompts", type=int, default=500, help="that run to their end; 500")
    parser.add_argument("--cancels", type=int, default=100, help="between them; 100")
    parser.add_argument("--seed", type=int, default=0, help="decides which and when")
    options, progress = parser.parse_args(), Progress()
    with (
        tempfile.TemporaryDirectory() as folder,
        temporary_base(Path(folder) / "runs", ROOT) as base,
        ComfyServer(
            host=find_comfyui(),
            python=Path(sys.executable),
            base=base,
            log=Path(folder) / "server.log",
            progress=progress,
        ) as server,
    ):
        load = Load(server, options.seed, progress)
        load.run(options.prompts, options.cancels)
        print(load.report())
    return 1 if load.faults else 0


if __name__ == "__main__":
    sys.exit(main())
