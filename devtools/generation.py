"""Runs generation jobs on a server and puts their images where they belong."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .api_client import ComfyClient, PromptError
from .console import DevError, Progress
from .jobs import Job
from .server import LOOPBACK, ComfyServer
from .workflows import PACK_NODES, SAMPLE_NODE, generation_graph

MODEL_FOLDER = "models/subject_diffusion"
SECONDS_BETWEEN_STEP_LINES = 2.0


@dataclass(frozen=True)
class FailedJob:
    """A job of which no image came; `name` is how the user knows it."""

    name: str
    reason: str


class Generator:
    """A client of a running server that makes one image after another; use it in a `with` block."""

    def __init__(self, server: ComfyServer, progress: Progress) -> None:
        self._server = server
        self._progress = progress
        self._client = ComfyClient(LOOPBACK, server.port, server.is_running)
        self._last_step_line = 0.0
        self._said: set[str] = set()

    def __enter__(self) -> Generator:
        try:
            self._require_pack()
        except BaseException:
            self._client.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def generate(self, job: Job) -> Path:
        """Make one image; its absolute path. The file appears whole or not at all."""
        started = time.monotonic()
        self._said.clear()
        adapter_name = None
        if job.settings.uses_adapter_file:
            adapter_name = offer_file(
                Path(str(job.settings.adapter)), self._server.base / MODEL_FOLDER
            )
        graph = generation_graph(job, self._client.upload_image, adapter_name)
        images = self._client.run(graph, self._show_step, self._show_sentence)
        if not images:
            raise PromptError("ComfyUI finished the prompt but saved no image.")
        write_atomically(job.out, self._client.fetch_image(images[0]))
        path = job.out.resolve()
        self._progress.say(f"{path} (seed {job.seed}, {time.monotonic() - started:.1f} s)")
        return path

    def generate_all(self, jobs: Sequence[Job]) -> list[FailedJob]:
        """Make all images; a job that fails is reported and the others go on."""
        failed = []
        for number, job in enumerate(jobs, start=1):
            if len(jobs) > 1:
                self._progress.say(f"Image {number} of {len(jobs)}: {job.out.name}")
            try:
                self.generate(job)
            except PromptError as error:
                self._progress.say(f"error: {error}")
                failed.append(FailedJob(str(job.out), str(error)))
        return failed

    def _show_step(self, node: str, value: int, total: int) -> None:
        is_due = time.monotonic() - self._last_step_line > SECONDS_BETWEEN_STEP_LINES
        if node == SAMPLE_NODE and (is_due or value == total):
            self._progress.say(f"  step {value} of {total}")
            self._last_step_line = time.monotonic()

    def _show_sentence(self, sentence: str) -> None:
        """Once a picture: two nodes may warn of the same."""
        if sentence not in self._said:
            self._said.add(sentence)
            self._progress.say(f"warning: {sentence}")

    def _require_pack(self) -> None:
        missing = [name for name in PACK_NODES if not self._client.node_exists(name)]
        if missing:
            raise DevError(
                f"ComfyUI runs without the pack's nodes {', '.join(missing)}; its last lines:\n"
                f"{self._server.log_tail(25)}"
            )


def offer_file(file: Path, folder: Path) -> str:
    """Make a model's file visible to the server under its own name, by a link or else a copy."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / file.name
    if not target.exists():
        try:
            os.symlink(file.resolve(), target)
        except OSError:
            shutil.copyfile(file, target)
    return file.name


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is never seen half-written; if it fails, nothing is left behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
