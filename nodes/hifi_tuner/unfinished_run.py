"""What a stopped tuning run leaves behind, so that the same run goes on from there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import folder_paths
import torch

from ...subject_diffusion_core.errors import CheckpointError
from ...subject_diffusion_core.files import tuned_embedding_file
from ...subject_diffusion_core.hifi_tuner import TunedEmbedding, TuningState
from ..host.comfy_types import Model
from ..host.node_warnings import show_text, show_warnings
from .tuned_files import EXTENSION, FOLDER
from .tuning_run import TuningTask

UPDATES_BETWEEN_FILES = 250


class UnfinishedRun:
    """The file of one run; it can be loaded as an embedding, too.

    Args:
        name: of the run, by all that it depends on.
    """

    def __init__(
        self, name: str, model: Model, task: TuningTask, label: str, provenance: dict[str, Any]
    ) -> None:
        self._name = name
        self._label = label
        self._provenance = provenance
        sampling = model.get_model_object("model_sampling")
        self._timesteps = tuple(float(sampling.timestep(sigma)) for sigma in task.step_sigmas)
        folder = os.path.join(folder_paths.get_output_directory(), FOLDER)
        self._path = os.path.join(folder, f"unfinished_{name[:12]}{EXTENSION}")
        self._state: TuningState | None = None

    def read(self) -> TuningState | None:
        """Where the run was stopped, None if it was not."""
        if not os.path.exists(self._path):
            return None
        try:
            state = tuned_embedding_file.load_unfinished(self._path, self._name)
        except CheckpointError:
            show_warnings(
                [f"The file of the stopped run is damaged, so the run begins again: {self._path}"]
            )
            return None
        show_text([f"Going on after {state.update} steps."])
        return state

    def note(self, state: TuningState) -> None:
        """Every update; now and then it is written, as no error says that a computer was turned
        off."""
        self._state = state
        if state.update % UPDATES_BETWEEN_FILES == 0:
            self._write()

    @contextlib.contextmanager
    def kept_on_error(self) -> Iterator[None]:
        """Write the file where the run is cancelled or fails."""
        try:
            yield
        except BaseException:
            self._write()
            if self._state is not None:
                show_text(
                    [f"Stopped after {self._state.update} steps; the same run goes on there."]
                )
            raise

    def remove(self) -> None:
        """The run has come to its end."""
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._path)

    def embedding_of(self, state: TuningState) -> TunedEmbedding:
        """What there is by now; sets for single steps only once all of them are done."""
        whole = state.vectors if state.whole is None else state.whole
        is_stepwise = len(state.sets) == len(self._timesteps)
        return TunedEmbedding(
            vectors=whole.float().cpu(),
            step_vectors=torch.stack(state.sets).float().cpu() if is_stepwise else None,
            step_timesteps=self._timesteps if is_stepwise else (),
            label=self._label,
            provenance={**self._provenance, "updates": state.update},
        )

    def _write(self) -> None:
        if self._state is None:
            return
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        embedding = self.embedding_of(self._state)
        tuned_embedding_file.save_unfinished(self._path, embedding, self._state, self._name)
