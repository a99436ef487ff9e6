# Shapes: B samples of a UNet call, Q latent positions, L text tokens, H heads, K width of a head.
"""Record Attention: what Attention Maps shows, collected while a MODEL samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import comfy.model_patcher
import comfy.patcher_extension
import torch
from comfy_api.latest import io

from ...subject_diffusion_core.attention_maps import token_column_probabilities
from ..adapters.family import ATTACHMENT_KEY, applied_adapter
from ..host.attention_terms import AttentionCall, attach_attention_term
from ..host.comfy_types import AttentionType, Control, Executor, Guider, Model, Options
from ..host.node_warnings import show_warnings
from ..host.picture_attention import SEEING_KEY, WATCH_KEY, PicturedSubject
from ..host.prompt_graph import fingerprint_of_running_node
from ..host.run_attachment import BranchCall
from ..host.sampling_run import Frame, WatchedText
from ..host.unet_geometry import latent_size_of_block, require_unet
from ..host.watched_words import WORDS_KEY, listen_to_words
from .attention_record import PICTURES, AttentionHandle, AttentionRecorder, Range, parse_ranges

NODE_NAME = "Subject-Diffusion Record Attention"
RECORD_KEY = "subject_diffusion_attention"
LAYERS_KEY = "subject_diffusion_attention_layers"
ONLY_WORDS = (
    "No adapter is on this MODEL: only a tuned embedding of Apply Embedding is recorded. For "
    "subjects connect the MODEL of Subject-Diffusion Apply, or of Self-Subject Attention."
)


class SubjectDiffusionRecordAttention(io.ComfyNode):
    """MODEL -> the same MODEL, which leaves its subjects' attention in `attention`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionRecordAttention",
            display_name=NODE_NAME,
            category="Subject-Diffusion",
            description="Looks at the model's attention while it samples, for Attention Maps. The "
            "picture stays the same, bit for bit.",
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The MODEL output of Subject-Diffusion Apply, or of Self-Subject "
                    "Attention with report_attention on; any MODEL for Apply Embedding.",
                ),
                io.String.Input(
                    "ranges",
                    default="0-1",
                    tooltip="Parts of the sampling, start-end in 0..1. Each gets maps of its own, "
                    "e.g. 0-0.33, 0.33-0.66, 0.66-1.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="MODEL", tooltip="For the sampler or the guider."),
                AttentionType.Output(
                    display_name="attention",
                    tooltip="For Attention Maps: the latest sampling with this MODEL.",
                ),
            ],
        )

    @classmethod
    def execute(cls, model: Model, ranges: str) -> io.NodeOutput:
        is_plain = model.get_attachment(SEEING_KEY) is None and applied_adapter(model) is None
        if is_plain:
            require_unet(model)
        if model.get_attachment(RECORD_KEY) is not None:
            raise ValueError(
                "model: expected a MODEL whose attention is not yet recorded, got one that "
                f"another {NODE_NAME} made. Use one per MODEL."
            )
        handle = AttentionHandle()
        model = model.clone()
        attach_recorder(model, handle, parse_ranges(ranges))
        if is_plain:
            listen_to_words(model)
            show_warnings([ONLY_WORDS])
        return io.NodeOutput(model, handle)


def attach_recorder(model: Model, handle: AttentionHandle, ranges: Sequence[Range]) -> None:
    """Wrappers, and a term of the cross-attention that adds nothing; all that a run collects hangs
    on that run's own options."""
    wrappers = comfy.patcher_extension.WrappersMP
    model.set_attachments(RECORD_KEY, handle)
    model.add_wrapper_with_key(
        wrappers.SAMPLER_SAMPLE, RECORD_KEY, make_sampler_wrapper(handle, ranges)
    )
    model.add_wrapper_with_key(wrappers.DIFFUSION_MODEL, RECORD_KEY, watch_model_call)
    attach_attention_term(model, LAYERS_KEY, "attn2", record_cross_attention)


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedRun:
    """A sampling run: its recorders, of words and of pictures, and start and end sigma of every
    range."""

    recorder: AttentionRecorder
    pictures: AttentionRecorder
    sigma_ranges: tuple[Range, ...]

    def ranges_at(self, sigma: float) -> tuple[int, ...]:
        """Indices of the ranges that a step belongs to: start >= sigma > end."""
        return tuple(
            index for index, (start, end) in enumerate(self.sigma_ranges) if start >= sigma > end
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedCall:
    """One UNet call of a run, and the ranges that it counts for; a `PictureWatch`."""

    recorder: AttentionRecorder
    ranges: tuple[int, ...]

    def add(self, subject: PicturedSubject, frame: Frame, maps: torch.Tensor) -> None:
        self.recorder.add(self.ranges, subject, frame, maps)


def make_sampler_wrapper(
    handle: AttentionHandle, ranges: Sequence[Range]
) -> Callable[..., torch.Tensor]:
    """A wrapper for SAMPLER_SAMPLE: a fresh recorder for the run, its means for the handle."""

    def sampler_sample(
        executor: Executor,
        guider: Guider,
        sigmas: torch.Tensor,
        extra_args: Options,
        callback: Callable[..., object] | None,
        noise: torch.Tensor,
        *args: object,
        **kwargs: object,
    ) -> torch.Tensor:
        sampling = guider.model_patcher.get_model_object("model_sampling")
        recorder, pictures = AttentionRecorder(ranges), AttentionRecorder(ranges, PICTURES)
        run = RecordedRun(
            recorder=recorder,
            pictures=pictures,
            sigma_ranges=tuple(
                (sampling.percent_to_sigma(start), sampling.percent_to_sigma(end))
                for start, end in ranges
            ),
        )
        options = comfy.model_patcher.create_model_options_clone(extra_args["model_options"])
        options.setdefault("transformer_options", {})[RECORD_KEY] = run
        node = fingerprint_of_running_node()
        handle.begin(node)
        samples = executor(
            guider,
            sigmas,
            {**extra_args, "model_options": options},
            callback,
            noise,
            *args,
            **kwargs,
        )
        size = (noise.shape[-2], noise.shape[-1])
        handle.keep((recorder.finish(*size), pictures.finish(*size)), node)
        return samples

    return sampler_sample


def watch_model_call(
    executor: Executor,
    x: torch.Tensor,
    timesteps: torch.Tensor | None = None,
    context: torch.Tensor | None = None,
    y: torch.Tensor | None = None,
    control: Control | None = None,
    transformer_options: Options | None = None,
    **kwargs: object,
) -> torch.Tensor:
    """A wrapper for DIFFUSION_MODEL: decides once per call whether its layers are recorded."""
    options = dict(transformer_options or {})
    run: RecordedRun | None = options.pop(RECORD_KEY, None)
    sigmas = options.get("sigmas")
    if run is not None and sigmas is not None:
        ranges = run.ranges_at(float(sigmas.flatten()[0]))
        if ranges:
            options[RECORD_KEY] = RecordedCall(recorder=run.recorder, ranges=ranges)
            options[WATCH_KEY] = RecordedCall(recorder=run.pictures, ranges=ranges)
    return executor(x, timesteps, context, y, control, options, **kwargs)


def record_cross_attention(attention: AttentionCall) -> None:
    """An attention term that only looks."""
    recorded: RecordedCall | None = attention.options.get(RECORD_KEY)
    options = attention.options
    call: BranchCall | None = options.get(ATTACHMENT_KEY) or options.get(WORDS_KEY)
    if recorded is None or call is None:
        return
    size = latent_size_of_block(attention.options, attention.query.shape[1])
    query, key = (attention.split_heads(x) for x in (attention.query, attention.key))
    start = 0
    for part in call.parts:
        rows = slice(start, start + part.batch_size)
        start += part.batch_size
        if part.text is None:
            continue
        maps = [
            token_maps(of_sample[None], keys[None], part.text, size)
            for of_sample, keys in zip(query[rows], key[rows], strict=True)
        ]
        for subject, of_subject in zip(part.text.subjects, torch.stack(maps, dim=1), strict=True):
            recorded.recorder.add(recorded.ranges, subject, part.frame, of_subject)


def token_maps(
    query: torch.Tensor, key: torch.Tensor, text: WatchedText, size: tuple[int, int]
) -> torch.Tensor:
    """How much every position looks at every subject's words, mean over heads.

    Args:
        query: (1, H, Q, K) of one sample.
        key: (1, H, L, K) of its text. ComfyUI repeats a text as often as it takes to fit beside
            longer ones, and every repetition has its share.
        size: h, w with h * w = Q.

    Returns:
        (S, 2, h, w): of each subject's label and of its placeholders together.
    """
    positions = [position for subject in text.subjects for position in subject.positions]
    index = torch.tensor(positions, device=query.device).reshape(1, -1)
    columns = token_column_probabilities(query, key, index)[0].mean(dim=0)  # (Q, positions)
    maps = []
    for of_subject in columns.T.split([len(s.positions) for s in text.subjects]):
        maps.append(torch.stack((of_subject[0], of_subject[1:].sum(dim=0))))
    repetitions = key.shape[2] // text.num_tokens
    return (repetitions * torch.stack(maps)).reshape(len(maps), 2, *size)
