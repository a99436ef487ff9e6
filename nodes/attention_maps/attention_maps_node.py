# Shapes: R ranges, S subjects, B pictures, P panels, H, W size of a picture, h, w of the latent.
"""Attention Maps: where the model looked for each subject's words, or at its pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from comfy_api.latest import io

from ...subject_diffusion_core.attention_maps import map_box_iou, normalize_maps, resize_maps
from ..host.comfy_types import AttentionType
from ..host.prompt_graph import fingerprints_before
from ..host.sampling_run import WHOLE_PICTURE
from .attention_record import WORDS, AttentionHandle, AttentionRecord, MappedSubject, Range
from .heat_overlay import draw_heat

TOKENS = ("average", "label", "placeholder", "separate")


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """One heat map to show.

    Attributes:
        picture: index in the batch.
        tokens: "label", "placeholder", "average" or "pictures".
        heat: (h, w) mean probability.
    """

    picture: int
    range: Range
    slot: int
    subject: MappedSubject
    tokens: str
    heat: torch.Tensor


class SubjectDiffusionAttentionMaps(io.ComfyNode):
    """A recorded sampling and its pictures -> heat maps, and how well they fit the boxes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionAttentionMaps",
            display_name="Subject-Diffusion Attention Maps",
            category="Subject-Diffusion",
            description="Shows where the model looked for each subject's words, or at its "
            "pictures, while it sampled, and how well that fits the subject's box.",
            inputs=[
                AttentionType.Input(
                    "attention", tooltip="From Record Attention, whose MODEL made the picture."
                ),
                io.Image.Input("image", tooltip="The decoded pictures of that sampling."),
                io.Combo.Input(
                    "tokens",
                    options=list(TOKENS),
                    default=TOKENS[0],
                    tooltip="Which words: the label and the placeholder that stands for the "
                    "subject's picture on average, one of them, or each in a map of its own.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.5,
                    min=0.05,
                    max=0.95,
                    step=0.05,
                    tooltip="What counts as warm for the IoU: 0.5 is half way between a map's "
                    "least and greatest value.",
                ),
                io.Float.Input(
                    "opacity",
                    default=0.7,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How much the colours cover the picture.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images",
                    tooltip="For each picture, range and subject the heat map over the picture, "
                    "with the subject's box.",
                ),
                io.Mask.Output(
                    display_name="heat_maps", tooltip="The same maps alone, stretched to 0..1."
                ),
                io.Float.Output(
                    display_name="iou",
                    is_output_list=True,
                    tooltip="For each map, intersection over union of its warm part and the box.",
                ),
                io.String.Output(
                    display_name="report", tooltip="One line for each map: what it is, and its IoU."
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        attention: AttentionHandle,
        image: torch.Tensor,
        tokens: str,
        threshold: float,
        opacity: float,
    ) -> io.NodeOutput:
        hidden = getattr(cls, "hidden", None)  # none in a script
        graph, node_id = getattr(hidden, "prompt", None), getattr(hidden, "unique_id", None)
        records = attention.records_of(fingerprints_before(graph, node_id, "image"))
        if not records and attention.has_records:
            raise ValueError(
                "attention: expected the maps of the sampling that made `image`, got those of "
                "others. Connect the MODEL of Record Attention to the sampler that makes this "
                "picture; if it is, change its seed, so that it samples again."
            )
        if not records:
            raise ValueError(
                "attention: expected a finished sampling with subjects, got none. Connect the "
                "MODEL of Record Attention to the sampler or the guider and the picture that it "
                "makes to `image`, leave the adapter switched on, name the subjects by their "
                "labels in the prompt, or turn `report_attention` of Self-Subject Attention on, or "
                "use a prompt of Apply Embedding, and run again."
            )
        num_pictures = records[0].maps.shape[2]
        if num_pictures != image.shape[0]:
            raise ValueError(
                f"image: expected the {num_pictures} pictures of the recorded sampling, got "
                f"{image.shape[0]}. Connect the pictures that were decoded from it."
            )
        size = image.shape[1:3]
        drawn, heats, ious, lines = [], [], [], []
        panels = [panel for record in records for panel in panels_of(record, tokens)]
        for panel in panels:
            heat = resize_maps(panel.heat, *size)
            box_xyxy = panel.subject.box_xyxy or WHOLE_PICTURE
            iou = float(map_box_iou(heat, torch.tensor(box_xyxy), threshold))
            picture = image[panel.picture, ..., :3]
            line = describe(panel, iou)
            drawn.append(draw_heat(picture, heat, box_xyxy, line, panel.slot, opacity))
            heats.append(normalize_maps(heat))
            ious.append(iou)
            lines.append(f"picture {panel.picture + 1}: {line}")
        if not drawn:
            raise ValueError(
                "attention: expected a range in which a subject takes part, got none. Change "
                "`ranges` of Record Attention."
            )
        return io.NodeOutput(torch.stack(drawn), torch.stack(heats), ious, "\n".join(lines))


def panels_of(record: AttentionRecord, tokens: str) -> Iterator[Panel]:
    """Picture by picture, range by range, subject by subject; absent subjects have no panel."""
    for picture in range(record.maps.shape[2]):
        for number, bounds in enumerate(record.ranges):
            for slot, subject in enumerate(record.subjects):
                if not record.present[number, slot]:
                    continue
                maps = record.maps[number, slot, picture]  # (T, h, w)
                for kind, heat in _choose(maps, record.kinds, tokens):
                    yield Panel(
                        picture=picture,
                        range=bounds,
                        slot=slot,
                        subject=subject,
                        tokens=kind,
                        heat=heat,
                    )


def _choose(
    maps: torch.Tensor, kinds: tuple[str, ...], tokens: str
) -> list[tuple[str, torch.Tensor]]:
    """(T, h, w) -> the maps to show, each with its name; pictures are always shown."""
    named = list(zip(kinds, maps, strict=True))
    if kinds != WORDS:
        return named
    if tokens == "average":
        return [(tokens, maps.mean(dim=0))]
    return [pair for pair in named if tokens in (pair[0], "separate")]


def describe(panel: Panel, iou: float) -> str:
    """For example "dog (label), 0-50 %: IoU 0.61"."""
    start, end = (round(100 * bound) for bound in panel.range)
    share = f"{float(panel.heat.mean()):.1%}, " if panel.tokens == "pictures" else ""
    return f"{panel.subject.label} ({panel.tokens}), {start}-{end} %: {share}IoU {iou:.2f}"
