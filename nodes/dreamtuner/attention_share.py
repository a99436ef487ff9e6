# Shapes: b samples of one conditioning, Q latent positions, h, w a layer's size.
"""How much of the picture's attention went to each subject's pictures: said after the run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import comfy.model_patcher
import torch

from ..host.comfy_types import Executor, Guider, Options
from ..host.node_warnings import show_text
from ..host.picture_attention import PicturedSubject
from .steps import step_of

REPORT_KEY = "subject_diffusion_attention_share"
# Looking takes longer than attending.
EVERY_STEPS = 4


class ShareReport:
    """The shares of one sampling run; safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[PicturedSubject, float] = {}
        self._count: dict[PicturedSubject, int] = {}

    def add(self, subject: PicturedSubject, shares: torch.Tensor) -> None:
        """Shares (b, Q) of one layer, in 0..1."""
        with self._lock:
            self._sums[subject] = self._sums.get(subject, 0.0) + float(shares.mean())
            self._count[subject] = self._count.get(subject, 0) + 1

    def shares(self) -> dict[PicturedSubject, float]:
        """The mean over layers and steps, in 0..1, in the order of the subjects."""
        with self._lock:
            return {
                subject: self._sums[subject] / self._count[subject]
                for subject in sorted(self._sums, key=lambda subject: subject.index)
            }

    def sentences(self) -> list[str]:
        return [
            f"{subject.label}: {share:.1%} of the picture's self-attention went to its pictures."
            for subject, share in self.shares().items()
        ]


def is_reported_step(timestep: torch.Tensor, options: Options) -> bool:
    """Every fourth step from the first one on; calls outside of a schedule are such steps."""
    return step_of(timestep, options.get("sample_sigmas")) % EVERY_STEPS == 0


def make_sampler_wrapper() -> Callable[..., torch.Tensor]:
    """A wrapper for SAMPLER_SAMPLE: a fresh report for the run, told on the node that samples."""

    def sampler_sample(
        executor: Executor,
        guider: Guider,
        sigmas: torch.Tensor,
        extra_args: Options,
        *args: object,
        **kwargs: object,
    ) -> torch.Tensor:
        report = ShareReport()
        options = comfy.model_patcher.create_model_options_clone(extra_args["model_options"])
        options.setdefault("transformer_options", {})[REPORT_KEY] = report
        samples = executor(
            guider, sigmas, {**extra_args, "model_options": options}, *args, **kwargs
        )
        sentences = report.sentences()
        for sentence in sentences:
            logging.info("%s", sentence)
        show_text(sentences)
        return samples

    return sampler_sample
