"""The rows of the report, and the graph of every picture: the nodes as a user wires them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devtools.api_client import Graph
from devtools.jobs import GenerationSettings, Job, SubjectSpec
from devtools.workflows import CLIP, MODEL, VAE, generation_graph, node
from training.evaluation.queries import Query
from training.evaluation.rows import SamplingSettings

OMEGAS = (1.0, 3.0, 5.0, 8.0, 10.0)
VARIANT_OMEGA = 8.0
TEXT, ADAPTED = "text", "adapter"
SETTINGS = SamplingSettings(steps=12)
NODE = "SubjectDiffusionSelfSubjectAttention"
# Inputs of the node besides its links.
DEFAULTS: Mapping[str, Any] = {
    "omega_ref": 3.0,
    "use_mask": True,
    "layers": "all",
    "start_percent": 0.0,
    "end_percent": 1.0,
    "time_bias_positive": 0,
    "time_bias_negative": 0,
    "reference_size": 768,
    "noise": "fixed",
    "noise_seed": 0,
}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "layers down": {"layers": "down"},
    "layers mid": {"layers": "mid"},
    "layers up": {"layers": "up"},
    "first 40 % of the steps": {"end_percent": 0.4},
    "last 60 % of the steps": {"start_percent": 0.4},
    "noise per step": {"noise": "per step"},
    "less noise by 50 timesteps": {"time_bias_positive": 50},
    "background too (use_mask off)": {"use_mask": False},
}


@dataclass(frozen=True, kw_only=True)
class SweepRow:
    """One row: what makes its pictures.

    Attributes:
        adapter: whether Subject-Diffusion's adapter acts.
        seeing: inputs of Self-Subject Attention that differ from its defaults; None: without it.
        control: row with the same queries that it is compared with; None: it is a control.
    """

    name: str
    adapter: bool = False
    seeing: Mapping[str, Any] | None = field(default=None, hash=False)
    control: str | None = None


def all_rows() -> list[SweepRow]:
    """Text alone and with all weights, the adapter alone and with them, then other settings at one
    weight."""
    rows = []
    for control in (TEXT, ADAPTED):
        adapter = control == ADAPTED
        rows.append(SweepRow(name=control, adapter=adapter))
        rows += [
            SweepRow(
                name=f"{control} + omega {omega:g}",
                adapter=adapter,
                seeing={"omega_ref": omega},
                control=control,
            )
            for omega in OMEGAS
        ]
    return rows + [
        SweepRow(
            name=f"{TEXT} + omega {VARIANT_OMEGA:g}, {title}",
            seeing={"omega_ref": VARIANT_OMEGA, **changes},
            control=TEXT,
        )
        for title, changes in VARIANTS.items()
    ]


def picture_graph(row: SweepRow, query: Query, references: Sequence[Path]) -> Graph:
    """The graph of one picture; `references` lie in ComfyUI's input folder, one per subject."""
    subjects = tuple(
        SubjectSpec(image=path, label=subject.label, box_xyxy=subject.box_xyxy)
        for path, subject in zip(references, query.subjects, strict=True)
    )
    scale = SETTINGS.text_guidance_scale if row.adapter else SETTINGS.text_only_guidance_scale
    job = Job(
        prompt=query.prompt,
        subjects=subjects,
        seed=query.seed,
        out=Path("unused.png"),
        settings=GenerationSettings(
            steps=SETTINGS.steps,
            text_guidance_scale=scale,
            image_guidance_scale=SETTINGS.image_guidance_scale,
        ),
    )
    graph = generation_graph(job, lambda path: path.name)
    if not row.adapter:
        graph |= _plain_guidance(query.prompt, scale)
        for name in ("apply", "encode"):
            del graph[name]
        graph["sigmas"]["inputs"]["model"] = MODEL
    if row.seeing is not None:
        _add_seeing(graph, row.seeing, row.adapter)
    return graph


def _plain_guidance(prompt: str, scale: float) -> Graph:
    return {
        "positive": node("CLIPTextEncode", clip=CLIP, text=prompt),
        "negative": node("CLIPTextEncode", clip=CLIP, text=""),
        "guider": node(
            "CFGGuider", model=MODEL, positive=["positive", 0], negative=["negative", 0], cfg=scale
        ),
    }


def _add_seeing(graph: Graph, changes: Mapping[str, Any], adapter: bool) -> None:
    """Self-Subject Attention in front of the guider, for all its branches."""
    guider = graph["guider"]["inputs"]
    common = {"clip": CLIP, "vae": VAE, "subjects": ["layout", 0], **DEFAULTS, **changes}
    before = {name: guider[name] for name in ("model", "positive", "negative")}
    graph["seeing"] = node(NODE, **before, **common)
    if adapter:
        image_only = {**before, "positive": guider["image_only"]}
        graph["seeing_image_only"] = node(NODE, **image_only, **common)
        guider["image_only"] = ["seeing_image_only", 1]
    guider |= {"model": ["seeing", 0], "positive": ["seeing", 1], "negative": ["seeing", 2]}
