"""`dev.py tune`: a subject's embedding from the command line, through the real node."""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .api_client import ComfyClient, Graph
from .console import DevError, Progress
from .generation import offer_file, write_atomically
from .patience import PATIENCE_SECONDS
from .server import LOOPBACK, ComfyServer
from .workflows import Upload, node, png_has_alpha

FOLDER = "subject_diffusion_tuned"
UNFINISHED = "unfinished_*.safetensors"
TUNE_NODE = "tune"
SECONDS_BETWEEN_LINES = 5.0
STEPS_DONE = re.compile(r"\d+ of \d+ steps, ")


@dataclass(frozen=True, kw_only=True)
class TuningJob:
    """One embedding to tune and the file to put it in.

    Attributes:
        images: pictures of one subject; a PNG's alpha is its mask.
        masks: as many as pictures, white where the subject is, or none.
        checkpoint: a Stable Diffusion file; None = the model that comes with the pack.
        options: inputs of the node that are not its defaults.
    """

    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    label: str
    out: Path
    checkpoint: Path | None
    options: dict[str, Any]

    def __post_init__(self) -> None:
        for path in (*self.images, *self.masks, *filter(None, [self.checkpoint])):
            if not path.is_file():
                raise DevError(f"tune: expected a file, got {path}, which does not exist.")
        if not self.images or len(self.masks) not in (0, len(self.images)):
            raise DevError(
                "tune: expected one --image or more, and as many --mask or none, got "
                f"{len(self.images)} and {len(self.masks)}."
            )
        if self.out.suffix != ".safetensors":
            raise DevError(f"--out: expected a name that ends in .safetensors, got {self.out}.")


def tuning_graph(job: TuningJob, upload: Upload) -> Graph:
    """Pictures to embedding, saved on the server."""
    loader = (
        node("SubjectDiffusionTinyLoader")
        if job.checkpoint is None
        else node("CheckpointLoaderSimple", ckpt_name=job.checkpoint.name)
    )
    graph: Graph = {"loader": loader}
    for number, image in enumerate(job.images, start=1):
        graph |= _subject(job, number, image, upload)
    graph[TUNE_NODE] = node(
        "SubjectDiffusionTuneEmbedding",
        model=["loader", 0],
        clip=["loader", 1],
        vae=["loader", 2],
        subjects=[f"subject_{len(job.images)}", 0],
        **{**DEFAULTS, **job.options},
    )
    graph["save"] = node(
        "SubjectDiffusionSaveEmbedding",
        embedding=[TUNE_NODE, 0],
        filename_prefix=f"{FOLDER}/embedding",
    )
    return graph


# The node's own, as an API graph leaves no input out.
DEFAULTS: dict[str, Any] = {
    "steps": 1000,
    "steps_per_set": 10,
    "num_sets": 50,
    "learning_rate": 0.005,
    "regularization": 0.001,
    "num_vectors": 5,
    "batch_size": 1,
    "seed": 0,
    "caption": "a photo of a <label>",
    "use_mask": True,
    "picture_size": 512,
    "resume": True,
}


def _subject(job: TuningJob, number: int, image: Path, upload: Upload) -> Graph:
    graph = {f"image_{number}": node("LoadImage", image=upload(image))}
    inputs: dict[str, Any] = {
        "image": [f"image_{number}", 0],
        "label": job.label,
        "box": "",
        "strength": 1.0,
    }
    mask = f"mask_{number}"
    if job.masks:
        graph[mask] = node("LoadImageMask", image=upload(job.masks[number - 1]), channel="red")
    elif png_has_alpha(image.read_bytes()):
        # LoadImage's mask is 1 where the picture is transparent
        graph[mask] = node("InvertMask", mask=[f"image_{number}", 1])
    if mask in graph:
        inputs["mask"] = [mask, 0]
    if number > 1:
        inputs["previous"] = [f"subject_{number - 1}", 0]
    graph[f"subject_{number}"] = node("SubjectDiffusionSubject", **inputs)
    return graph


class TuningCommand:
    """Runs one job on a server; what a stopped run leaves goes beside the output and back again."""

    def __init__(self, server: ComfyServer, progress: Progress) -> None:
        self._server = server
        self._progress = progress
        self._folder = server.base / "output" / FOLDER
        self._last_line = 0.0
        self._said: set[str] = set()

    def tune(self, job: TuningJob) -> Path:
        """The written file."""
        started = time.monotonic()
        if job.checkpoint is not None:
            offer_file(job.checkpoint, self._server.base / "models" / "checkpoints")
        self._folder.mkdir(parents=True, exist_ok=True)
        job.out.parent.mkdir(parents=True, exist_ok=True)
        for file in job.out.parent.glob(UNFINISHED):
            shutil.copyfile(file, self._folder / file.name)
        try:
            with ComfyClient(LOOPBACK, self._server.port, self._server.is_running) as client:
                self._run(client, tuning_graph(job, client.upload_image))
        except BaseException:
            for file in self._folder.glob(UNFINISHED):
                shutil.copyfile(file, job.out.parent / file.name)
                self._progress.say(f"What was done is kept in {job.out.parent / file.name}")
            raise
        for file in job.out.parent.glob(UNFINISHED):
            if not (self._folder / file.name).exists():  # the run that it belongs to is done
                file.unlink()
        (saved,) = self._folder.glob("embedding_*.safetensors")
        write_atomically(job.out, saved.read_bytes())
        saved.unlink()
        seconds = time.monotonic() - started
        self._progress.say(f"{job.out.resolve()} ({seconds:.0f} s)")
        return job.out.resolve()

    def _run(self, client: ComfyClient, graph: Graph) -> None:
        try:
            client.run(graph, self._show, self._show_sentence)
        except KeyboardInterrupt:
            # the server stops between two updates, and then writes what it has
            deadline = time.monotonic() + PATIENCE_SECONDS
            while client.is_busy() and time.monotonic() < deadline:
                time.sleep(0.05)
            raise

    def _show(self, name: str, value: int, total: int) -> None:
        now = time.monotonic()
        is_due = now - self._last_line > SECONDS_BETWEEN_LINES
        if name == TUNE_NODE and (is_due or value == total):
            self._progress.say(f"  step {value} of {total}")
            self._last_line = now

    def _show_sentence(self, sentence: str) -> None:
        """What the nodes say, such as warnings, once; not their own lines of progress."""
        if sentence not in self._said and not STEPS_DONE.match(sentence):
            self._said.add(sentence)
            self._progress.say(f"  {sentence}")
