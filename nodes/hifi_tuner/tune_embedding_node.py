"""Tune Embedding: a subject's pictures to vectors that stand for it in any prompt."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import latent_preview
import torch
from comfy_api.latest import io

from ...subject_diffusion_core.hifi_tuner import EmbeddingTuner, TuningSettings, TuningUpdate
from ..host.comfy_types import Clip, Model, SubjectsType, TunedEmbeddingType
from ..host.node_warnings import show_text, show_warnings
from ..host.picture_size import native_side, size_warning
from ..host.search_words import search_words
from ..subjects.reference_picture import LABEL
from ..subjects.subject import Subjects
from ..subjects.subject_warnings import preview_warnings
from .tuning_run import run_tuning
from .tuning_task import caption_for, make_task, one_subject, provenance_of, run_name
from .unfinished_run import UnfinishedRun

NODE_NAME = "Subject-Diffusion Tune Embedding"
REPORTS = 100  # of a run, with preview and time left


class SubjectDiffusionTuneEmbedding(io.ComfyNode):
    """MODEL and pictures of one subject -> its tuned embedding; the MODEL stays as it is."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionTuneEmbedding",
            display_name=NODE_NAME,
            category="Subject-Diffusion",
            description=(
                "HiFi Tuner: learns a handful of vectors that stand for one subject, from a few "
                "pictures of it. The model stays as it is. Minutes on a GPU; save the result with "
                "Save Embedding."
            ),
            inputs=[
                io.Model.Input("model", tooltip="Any Stable Diffusion 1.x, 2.x or XL, with LoRAs."),
                io.Clip.Input("clip", tooltip="Its text encoder."),
                io.Vae.Input("vae", tooltip="Its VAE, for the pictures."),
                SubjectsType.Input(
                    "subjects",
                    tooltip="From Subject nodes: all pictures of one subject, with its masks.",
                ),
                *_tuning_inputs(),
                *_picture_inputs(),
            ],
            outputs=[
                TunedEmbeddingType.Output(
                    display_name="embedding", tooltip="For Apply Embedding and Save Embedding."
                )
            ],
            **search_words("HiFi Tuner", "textual inversion", "train embedding"),
        )

    @classmethod
    def execute(
        cls,
        model: Model,
        clip: Clip,
        vae: Any,
        subjects: Subjects,
        steps: int,
        steps_per_set: int,
        num_sets: int,
        learning_rate: float,
        regularization: float,
        num_vectors: int,
        batch_size: int,
        seed: int,
        caption: str,
        use_mask: bool,
        picture_size: int,
        resume: bool,
    ) -> io.NodeOutput:
        settings = TuningSettings(
            num_vectors=num_vectors,
            steps=steps,
            steps_per_set=steps_per_set,
            learning_rate=learning_rate,
            regularization=regularization,
            batch_size=batch_size,
            seed=seed,
        )
        subjects, label = one_subject(subjects)
        show_warnings(preview_warnings(subjects))
        if steps == 0 and steps_per_set == 0:
            show_warnings(
                ["steps, steps_per_set: both are 0, so nothing is learned. Raise one of them."]
            )
        text = caption_for(label, caption)
        task = make_task(
            model,
            clip,
            vae,
            subjects,
            text,
            settings,
            num_step_sets=num_sets,
            use_mask=use_mask,
            picture_size=picture_size,
        )
        show_warnings(_size_warnings(model, task.latents, picture_size))
        provenance = provenance_of(model, task, text, label)
        unfinished = UnfinishedRun(
            run_name(model, task, provenance), model, task, label, provenance
        )
        state = unfinished.read() if resume else None
        report = ProgressReport(model)

        def on_update(tuner: EmbeddingTuner, update: TuningUpdate) -> None:
            unfinished.note(tuner.state)
            report.show(tuner, update)

        with unfinished.kept_on_error():
            state = run_tuning(model, task, state, on_update)
        unfinished.remove()
        return io.NodeOutput(unfinished.embedding_of(state))


class ProgressReport:
    """Progress, loss and time left on the node, and ComfyUI's preview of what the model sees."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._callback: Any = None
        self._began = (0, 0.0)
        self._losses: list[float] = []

    def show(self, tuner: EmbeddingTuner, update: TuningUpdate) -> None:
        number, total = update.number, tuner.total
        if self._callback is None:
            self._callback = latent_preview.prepare_callback(self._model, total)
            self._began = (number - 1, time.monotonic())
        self._losses.append(update.loss)
        if number % max(1, total // REPORTS) and number != total:
            return
        self._callback(number - 1, update.denoised, update.denoised, total)
        first, start = self._began
        left = (time.monotonic() - start) / (number - first) * (total - number)
        mean = sum(self._losses) / len(self._losses)
        self._losses.clear()
        show_text([f"{number} of {total} steps, loss {mean:.4f}, {spoken_time(left)} left"])


def _size_warnings(model: Model, latents: Sequence[torch.Tensor], picture_size: int) -> list[str]:
    """One sentence a size that is too large for the model; small pictures cost nothing."""
    side = native_side(model.model)
    remedy = f"Set picture_size to {side} (it is {picture_size})."
    found = [size_warning(model.model, latent, remedy, is_small_fine=True) for latent in latents]
    return list(dict.fromkeys(sentence for sentence in found if sentence))


def spoken_time(seconds: float) -> str:
    """A time as people say it.

    >>> [spoken_time(seconds) for seconds in (4.2, 100.0, 4000.0)]
    ['4 s', '1 min 40 s', '1 h 7 min']
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _tuning_inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "steps",
            default=1000,
            min=0,
            max=100000,
            tooltip="Steps for the vectors that are used as a whole.",
        ),
        io.Int.Input(
            "steps_per_set",
            default=10,
            min=0,
            max=1000,
            tooltip="Afterwards, steps for each of the sets that belong to one part of the "
            "sampling; 0 = no such sets.",
        ),
        io.Int.Input(
            "num_sets",
            default=50,
            min=1,
            max=250,
            tooltip="Into how many parts the sampling is divided. Other numbers of sampling steps "
            "work as well.",
        ),
        io.Float.Input(
            "learning_rate",
            default=0.005,
            min=0.00001,
            max=1.0,
            step=0.0001,
            round=0.00001,
            tooltip="By how much a step changes the vectors.",
        ),
        io.Float.Input(
            "regularization",
            default=0.001,
            min=0.0,
            max=100.0,
            step=0.001,
            round=0.0001,
            tooltip="How strongly the vectors are held at those of the empty text: more keeps the "
            "prompt's scene, less keeps the subject.",
        ),
        io.Int.Input(
            "num_vectors",
            default=5,
            min=1,
            max=32,
            tooltip="How many vectors stand for the subject; prompts get shorter by as many "
            "tokens.",
        ),
        io.Int.Input(
            "batch_size",
            default=1,
            min=1,
            max=64,
            tooltip="How many noisy copies of a picture a step looks at.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2147483647,
            control_after_generate=False,
            tooltip="Decides which noise and which pictures the steps see.",
        ),
    ]


def _picture_inputs() -> list[io.Input]:
    return [
        io.String.Input(
            "caption",
            default=f"a photo of a {LABEL}",
            tooltip=f"What the pictures show; {LABEL} is the subject's label.",
        ),
        io.Boolean.Input(
            "use_mask",
            default=True,
            tooltip="Learn the subject only, not what is around it in its pictures.",
        ),
        io.Int.Input(
            "picture_size",
            default=512,
            min=0,
            max=4096,
            step=8,
            tooltip="Longest side of the pictures in pixels: 512 for Stable Diffusion 1, 768 for "
            "2.1, 1024 for XL, 128 for the tiny model. Larger ones are reduced; 0 = their own "
            "size.",
        ),
        io.Boolean.Input(
            "resume",
            default=True,
            tooltip="Go on where a run with the same inputs was stopped.",
        ),
    ]
