"""A second, trivial family of adapters: it adds one number, times each subject's brightness, to
the cross-attention inside the subject's box.

Nothing of the pack knows it but the registry that a test puts it into.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from host_models import Host
from safetensors.torch import save_file

METHOD = "tint"
TERM_KEY = "tint_attention"


def write_tint_file(path: Path, amount: float) -> Path:
    metadata = {"subject_diffusion": json.dumps({"format_version": 1, "method": METHOD})}
    save_file({"amount": torch.tensor([amount])}, path, metadata)
    return path


@dataclass(frozen=True, kw_only=True, eq=False)
class TintBranch:
    """Boxes (N, 4) in 0..1 and brightness (N,) of the subjects of one branch."""

    fingerprint: str
    boxes_xyxy: torch.Tensor
    brightness: torch.Tensor

    @property
    def acts(self) -> bool:
        return len(self.brightness) > 0

    @property
    def memory_shape(self) -> tuple[int]:
        return (len(self.brightness),)


@contextmanager
def tint_registered(host: Host) -> Iterator[None]:
    family = make_tint_family(host)
    host.registry.FAMILIES.append(family)
    try:
        yield
    finally:
        host.registry.FAMILIES.remove(family)


def make_tint_family(host: Host) -> Any:
    """The family on top of the pack's own contract, as ComfyUI loaded it."""
    read_tensors = host.core("files.safetensors_file").read_tensors

    class TintAdapter(host.family.LoadedAdapter):
        num_subjects = 4
        needs_boxes = False

        def __init__(self, header: Any) -> None:
            self.name = header.path.name
            self.pictures = make_reader(host)
            self.amount = float(read_tensors(header)["amount"])

        @property
        def fingerprint(self) -> str:
            return f"tint {self.amount}"

        def block_names(self, model: Any) -> list[str]:
            return ["mid_block.attentions.0.transformer_blocks.0"]

        def require_base(self, model: Any) -> None:
            host.unet_geometry.read_unet_geometry(model)

        def text_patches(self, clip: Any) -> dict[str, Any]:
            return {}

        def branch_encoder(self, texts: Any, request: Any) -> Callable[..., Any]:
            def carry(text: str, subjects: list[Any], watched: Any = None) -> Any:
                cond = host.run_attachment.BranchCond(value=tints(self, subjects), text=watched)
                conds = {"model_conds": {host.family.ATTACHMENT_KEY: cond}}
                return [[tensor, {**values, **conds}] for tensor, values in texts.encode(text)]

            negative = carry(request.negative_prompt, [])

            def encode(present: Any) -> Any:
                subjects = [subject for _, subject in present]
                return (
                    carry(request.prompt, subjects, watch(host, present)),
                    carry(request.negative_prompt, subjects),
                    negative,
                )

            return encode

        def attach(self, model: Any, applied: Any) -> None:
            host.run_attachment.attach_run(
                model,
                host.sampling_run.RunSettings(
                    key=host.family.ATTACHMENT_KEY,
                    null=tints(self, []),
                    start_percent=applied.start_percent,
                    end_percent=applied.end_percent,
                ),
            )
            term = make_term(host, self.amount * applied.strength)
            host.attention_terms.attach_attention_term(model, TERM_KEY, "attn2", term)

    return host.family.AdapterFamily(
        method=METHOD,
        recognises=lambda header: host.core("checkpoint").method_of(header) == METHOD,
        load=TintAdapter,
    )


def make_reader(host: Host) -> Any:
    """What the family reads of a picture: its brightness, which needs no encoder."""

    class BrightnessReader(host.family.PictureReader):
        reference_size = 96
        encoder_to_connect = "any image encoder"

        def encode(self, clip_vision: Any, picture: torch.Tensor) -> Any:
            return {"brightness": picture.mean(dim=(1, 2, 3))}

        def require(self, argument: str, embeds: Any) -> None:
            if set(embeds) != {"brightness"}:
                raise ValueError(f"{argument}: expected brightness, got {', '.join(embeds)}.")

    return BrightnessReader()


def tints(adapter: Any, subjects: list[Any]) -> TintBranch:
    boxes = [subject.box.edges if subject.box else (0.0, 0.0, 1.0, 1.0) for subject in subjects]
    levels = [
        subject.embeds.tensors["brightness"].mean() * subject.strength for subject in subjects
    ]
    return TintBranch(
        fingerprint=adapter.fingerprint,
        boxes_xyxy=torch.tensor(boxes).reshape(-1, 4),
        brightness=torch.stack(levels) if levels else torch.zeros(0),
    )


def watch(host: Host, present: Any) -> Any:
    """The prompt's second word stands for every subject."""
    run = host.sampling_run
    return run.WatchedText(
        subjects=tuple(
            run.WatchedSubject(
                index=index,
                name=subject.name,
                label=subject.label,
                box_xyxy=subject.box.edges,
                label_position=2,
                placeholder_position=2,
            )
            for index, subject in present
        ),
        num_tokens=77,
    )


def make_term(host: Host, amount: float) -> Callable[[Any], torch.Tensor | None]:
    box_coverage = host.core("location_mask").box_coverage

    def term(attention: Any) -> torch.Tensor | None:
        call = attention.options.get(host.family.ATTACHMENT_KEY)
        if call is None:
            return None
        size = host.unet_geometry.latent_size_of_block(attention.options, attention.query.shape[1])
        added = []
        for part in call.parts:
            coverage = box_coverage(part.value.boxes_xyxy[None], *size)[0].flatten(1)  # (N, Q)
            tint = amount * (part.value.brightness[:, None] * coverage).sum(dim=0)
            added += [tint] * part.batch_size
        tints = torch.stack(added)[..., None].to(attention.query)
        return tints.expand_as(attention.query)

    return term
