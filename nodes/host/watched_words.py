"""Words to look at in a conditioning, on a MODEL that no method is attached to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.patcher_extension
import torch

from .comfy_types import Conditioning, Entry, Executor, Guider, Model
from .run_attachment import BranchCond, attach_run
from .sampling_run import RunSettings, WatchedText

# Of an entry of a conditioning, and of its calls in `transformer_options`.
WORDS_KEY = "subject_diffusion_words"
READER_KEY = "subject_diffusion_words_reader"


@dataclass(frozen=True, kw_only=True, eq=False)
class NothingSaid:
    """A `BranchValue` of a branch whose words are looked at only."""

    acts: bool = False
    memory_shape: Sequence[int] = ()


NOTHING = NothingSaid()


def with_words(conditioning: Conditioning, watched: WatchedText) -> Conditioning:
    """The same conditioning, which says where its words are. It changes no picture, and nothing
    reads it but a MODEL that listens."""
    return [[text, {**values, WORDS_KEY: watched}] for text, values in conditioning]


def listen_to_words(model: Model) -> None:
    """Let the sampling runs of this MODEL know the words of their conditionings."""
    wrapper = comfy.patcher_extension.WrappersMP.OUTER_SAMPLE
    model.add_wrapper_with_key(wrapper, READER_KEY, read_words)
    attach_run(model, RunSettings(key=WORDS_KEY, null=NOTHING))


def read_words(executor: Executor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """A wrapper for OUTER_SAMPLE, around that of `attach_run`."""
    guider: Guider = executor.class_obj
    guider.conds = {
        branch: [_heard(entry) for entry in entries] for branch, entries in guider.conds.items()
    }
    return executor(*args, **kwargs)


def _heard(entry: Entry) -> Entry:
    watched = entry.get(WORDS_KEY)
    if watched is None:
        return entry
    cond = BranchCond(value=NOTHING, text=watched)
    return {**entry, "model_conds": {**entry["model_conds"], WORDS_KEY: cond}}
