"""One wrong input after another, and what comes of each."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from devtools.api_client import ComfyClient, PromptError
from devtools.console import DevError
from devtools.patience import PATIENCE_SECONDS

from .good_files import KINDS, content_of, graph_with_file, make_files, make_pictures
from .good_graph import SAVED_BY, good_graph, needed_for
from .graphs import Attempt, wrong_graph
from .values import broken_file

LONGEST_SENTENCE = 1000
LONGEST_TRY = 20.0  # seconds
LOOK_EVERY = 25  # tries, at the good picture
# What ComfyUI itself says of a graph before any node runs.
HOSTS = re.compile(
    r"^(Value .* (bigger|smaller) than|Required input is missing|Failed to convert an input"
    r"|Return type mismatch|Bad linked input|Value not in list|Invalid image file|Prompt has no"
    r"|Cannot execute because|Exception when validating|Prompt outputs failed"
    r"|Custom validation failed for node: (image|file) )"
)
# What a sentence of the pack has.
OURS = re.compile(r"expected|has no (box|label|mask)|is in pixels|have no effect")
RAW = re.compile(r"Traceback|Error:|object has no attribute|NoneType|must match the size|tensor\(")


class TooLongError(Exception):
    """A number that is allowed asks for work of minutes, such as many steps."""


class Fuzzer:
    """Tries on one server.

    Attributes:
        faults: what fell short, one line each.
        counts: how many tries ended in which way.
    """

    def __init__(
        self,
        address: str,
        port: int,
        base: Path,
        is_running: Callable[[], bool],
        seed: int,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._until = float("inf")
        self._base = base
        self._is_running = is_running
        self._client = ComfyClient(address, port, self._is_alive)
        self._say = say
        self._chance = random.Random(seed)
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        make_pictures(base / "input")
        make_files(base / "models")
        for target in SAVED_BY:
            self._client.run(needed_for(good_graph(1), target))
        self._files = {kind: content_of(kind, base) for kind in KINDS}
        self._good = {seed: self._picture(seed) for seed in (1, 2)}

    def run(self, seconds: float, tries: int) -> None:
        end = time.monotonic() + seconds
        number = 0
        with self._client:
            while number < tries and time.monotonic() < end and self._is_running():
                number += 1
                attempt = (
                    self._wrong_file(number)
                    if self._chance.random() < 0.25
                    else wrong_graph(self._chance)
                )
                self._try(attempt)
                if number % LOOK_EVERY == 0:
                    self._look_at_the_good_picture(number)
                    self._say(f"{number} tries, {len(self.faults)} faults")
            if self._is_running():
                self._look_at_the_good_picture(number)
            else:
                self._fault("the server has ended")

    def report(self) -> str:
        lines = [f"{kind}: {count}" for kind, count in sorted(self.counts.items())]
        lines += [f"FAULT {fault}" for fault in self.faults]
        return "\n".join([*lines, f"{sum(self.counts.values())} tries, {len(self.faults)} faults"])

    def _is_alive(self) -> bool:
        """The server is there, and a try has not waited for ever: its queue may be dead."""
        return self._is_running() and time.monotonic() < self._until

    def _fault(self, line: str) -> None:
        self.faults.append(line)
        self._say(f"FAULT {line}")

    def _try(self, attempt: Attempt) -> None:
        end = time.monotonic() + LONGEST_TRY
        self._until = time.monotonic() + PATIENCE_SECONDS

        def stop_a_long_one(node: str, value: int, total: int) -> None:
            if time.monotonic() > end:
                raise TooLongError

        try:
            self._client.run(attempt.graph, stop_a_long_one)
            self.counts["runs"] += 1
        except TooLongError:
            self.counts["cancelled, as it is long"] += 1
        except PromptError as error:
            self._judge(attempt, str(error))
        except DevError as error:
            self.counts["no answer"] += 1
            self._fault(f"{attempt.what}: {str(error)[:300]}")
        self._until = float("inf")

    def _judge(self, attempt: Attempt, sentence: str) -> None:
        if HOSTS.search(sentence):
            self.counts["ComfyUI's own sentence"] += 1
            return
        is_fine = len(sentence) <= LONGEST_SENTENCE and OURS.search(sentence)
        if is_fine and not RAW.search(sentence):
            self.counts["one sentence"] += 1
            return
        self.counts["raw"] += 1
        self._fault(f"{attempt.what}: {sentence[:400]} ({len(sentence)} characters)")

    def _picture(self, seed: int) -> bytes:
        (image,) = self._client.run(needed_for(good_graph(seed), "save"))
        return self._client.fetch_image(image)

    def _look_at_the_good_picture(self, number: int) -> None:
        for seed in (2, 1):
            try:
                if self._picture(seed) != self._good[seed]:
                    self._fault(f"after {number} tries the good picture is another one")
            except DevError as error:
                self._fault(f"after {number} tries no good picture: {str(error)[:300]}")

    def _wrong_file(self, number: int) -> Attempt:
        """A broken file where the pack looks for one, and the graph that uses it; the broken file
        of the try before is gone then."""
        kind = self._chance.choice(KINDS)
        folder = self._base / "models" / kind.folder
        for file in folder.glob("broken*"):
            file.unlink()
        name = f"broken{number}{kind.extension}"
        (folder / name).write_bytes(broken_file(self._chance, self._files[kind]))
        return Attempt(what=f"{kind.folder}/{name}", graph=graph_with_file(kind, name))
