"""The rows of the report, and the graphs that make their files and pictures: the nodes as a user
wires them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devtools.api_client import Graph
from devtools.jobs import GenerationSettings, Job, SubjectSpec
from devtools.workflows import CLIP, MODEL, VAE, generation_graph, node
from training.evaluation.queries import Query
from training.evaluation.rows import SamplingSettings

SCALES = SamplingSettings()
REGULARIZATIONS = (0.0, 0.001, 0.01, 0.1)
CAPTION = "a photo of a <label>"
LORA_RANK, LORA_LEARNING_RATE = 8, 2e-3  # of Train LoRA: its default, and four times that
TEXT, PLAIN, MASK, REGULARIZED = "text", "plain embedding", "+ mask", "+ regularisation"
STEPWISE, GUIDED, WEIGHTS = "+ step-wise", "+ reference guidance", "fine-tuned weights"
GUIDED_WEIGHTS = "fine-tuned weights + reference guidance"
GUIDED_TEXT, ADAPTED = "text + reference guidance", "adapter"


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What tuning and sampling take, as in the paper.

    Attributes:
        steps: of sampling, and sets of vectors.
        tuning_steps, steps_per_set: updates of the whole embedding, then of each set.
        learning_rate: of both.
        weight_steps: of fine-tuned weights.
    """

    steps: int = 50
    tuning_steps: int = 1000
    steps_per_set: int = 10
    learning_rate: float = 0.005
    weight_steps: int = 400


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Of an embedding: what differs between rows."""

    use_mask: bool = True
    regularization: float = 0.0
    is_stepwise: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: what makes its pictures.

    Attributes:
        tuning: of the embedding in the prompt; None: there is none.
        is_stepwise: each step takes its own set of that embedding.
        is_guided: sampled by Reference-Guided Sampler; only the first subjects are.
        has_weights: with fine-tuned weights of the model.
        has_adapter: Subject-Diffusion's adapter, without tuning.
        control: the row that it is compared with.
    """

    name: str
    tuning: Tuning | None = None
    is_stepwise: bool = False
    is_guided: bool = False
    has_weights: bool = False
    has_adapter: bool = False
    control: str | None = None


def report_rows(regularization: float) -> list[Row]:
    """Table 2's rows, each compared with the one that it adds to; cheap ones first."""
    last = Tuning(regularization=regularization, is_stepwise=True)
    return [
        Row(name=TEXT),
        Row(name=ADAPTED, has_adapter=True, control=TEXT),
        Row(name=PLAIN, tuning=Tuning(use_mask=False), control=TEXT),
        Row(name=MASK, tuning=Tuning(), control=PLAIN),
        Row(name=REGULARIZED, tuning=last, control=MASK),
        Row(name=STEPWISE, tuning=last, is_stepwise=True, control=REGULARIZED),
        Row(name=GUIDED, tuning=last, is_stepwise=True, is_guided=True, control=STEPWISE),
        Row(name=WEIGHTS, has_weights=True, control=TEXT),
        Row(name=GUIDED_WEIGHTS, has_weights=True, is_guided=True, control=WEIGHTS),
        Row(name=GUIDED_TEXT, is_guided=True, control=TEXT),
    ]


def sweep_rows() -> list[Row]:
    """A row a w_s, each compared with none, which is compared with text alone."""
    names = [f"w_s {value:g}" for value in REGULARIZATIONS]
    controls = [TEXT, *names[:1] * (len(names) - 1)]
    return [Row(name=TEXT)] + [
        Row(name=name, tuning=Tuning(regularization=value), control=control)
        for name, value, control in zip(names, REGULARIZATIONS, controls, strict=True)
    ]


def picture_graph(
    row: Row, query: Query, picture: Path, files: Sequence[str], sizes: Sizes
) -> Graph:
    """The graph of one picture.

    `picture` lies in ComfyUI's input folder, its alpha is the subject's mask; `files` holds the
    name of the row's embedding or LoRA, where it has one.
    """
    graph = _adapter_graph(query, picture, sizes.steps)
    if row.has_adapter:
        return graph
    for name in ("apply", "encode"):
        del graph[name]
    model: list[Any] = MODEL
    if row.has_weights:
        graph["lora"] = node(
            "LoraLoaderModelOnly", model=MODEL, lora_name=files[0], strength_model=1.0
        )
        model = ["lora", 0]
    if row.tuning is None:
        graph["positive"] = node("CLIPTextEncode", clip=CLIP, text=query.prompt)
    else:
        graph["embedding"] = node("SubjectDiffusionLoadEmbedding", file_name=files[0])
        graph["positive"] = node(
            "SubjectDiffusionApplyEmbedding",
            embedding=["embedding", 0],
            mode="step-wise" if row.is_stepwise else "whole",
            strength=1.0,
            clip=CLIP,
            prompt=query.prompt,
        )
    graph["negative"] = node("CLIPTextEncode", clip=CLIP, text="")
    graph["guider"] = node(
        "CFGGuider",
        model=model,
        positive=["positive", 0],
        negative=["negative", 0],
        cfg=SCALES.text_only_guidance_scale,
    )
    graph["sigmas"]["inputs"]["model"] = model
    if row.is_guided:
        graph["sampler"] = _guided_sampler()
    return graph


def _adapter_graph(query: Query, picture: Path, steps: int) -> Graph:
    (subject,) = query.subjects
    job = Job(
        prompt=query.prompt,
        subjects=(SubjectSpec(image=picture, label=subject.label, box_xyxy=subject.box_xyxy),),
        seed=query.seed,
        out=Path("unused.png"),
        settings=GenerationSettings(
            steps=steps,
            text_guidance_scale=SCALES.text_guidance_scale,
            image_guidance_scale=SCALES.image_guidance_scale,
            sampler="euler",
            scheduler="ddim_uniform",
        ),
    )
    return generation_graph(job, lambda path: path.name)


def _guided_sampler() -> dict[str, Any]:
    """The mask says where the subject stands, as Segment would where the model draws it: at the
    asked place, in its own shape. The picture is not turned."""
    return node(
        "SubjectDiffusionReferenceGuidedSampler",
        clip=CLIP,
        vae=VAE,
        subjects=["subject_1", 0],
        latent_image=["latent", 0],
        method="optimise",
        num_updates=10,
        learning_rate=0.01,
        start_percent=0.2,
        end_percent=0.8,
        caption=CAPTION,
        algorithm="moments",
        max_angle=0.0,
        inversion_iterations=1,
        mask=["mask_1", 0],
    )


def tuning_graph(tuning: Tuning, query: Query, picture: Path, name: str, sizes: Sizes) -> Graph:
    """Tunes an embedding on the subject's picture, and saves it below `name`."""
    whole = _adapter_graph(query, picture, sizes.steps)
    graph = {key: whole[key] for key in ("loader", "image_1", "mask_1", "subject_1")}
    graph["tune"] = node(
        "SubjectDiffusionTuneEmbedding",
        model=MODEL,
        clip=CLIP,
        vae=VAE,
        subjects=["subject_1", 0],
        steps=sizes.tuning_steps,
        steps_per_set=sizes.steps_per_set if tuning.is_stepwise else 0,
        num_sets=sizes.steps,
        learning_rate=sizes.learning_rate,
        regularization=tuning.regularization,
        num_vectors=5,
        batch_size=1,
        seed=0,
        caption=CAPTION,
        use_mask=tuning.use_mask,
        picture_size=128,
        resume=False,
    )
    graph["save"] = node(
        "SubjectDiffusionSaveEmbedding", embedding=["tune", 0], filename_prefix=name
    )
    return graph


def weights_graph(query: Query, picture: Path, name: str, sizes: Sizes) -> Graph:
    """Trains a LoRA on the subject's picture with ComfyUI's own node, and saves it below `name`.

    Train LoRA of some ComfyUIs fails on one latent alone, so it gets a list of the same one twice.
    """
    (subject,) = query.subjects
    text = CAPTION.replace("<label>", subject.label)
    return {
        "loader": node("SubjectDiffusionTinyLoader"),
        "image_1": node("LoadImage", image=picture.name),
        "encode": node("VAEEncode", pixels=["image_1", 0], vae=VAE),
        "twice": node("RepeatLatentBatch", samples=["encode", 0], amount=2),
        "latents": node("RebatchLatents", latents=["twice", 0], batch_size=1),
        "positive": node("CLIPTextEncode", clip=CLIP, text=text),
        "train": node(
            "TrainLoraNode",
            model=MODEL,
            latents=["latents", 0],
            positive=["positive", 0],
            batch_size=1,
            grad_accumulation_steps=1,
            steps=sizes.weight_steps,
            learning_rate=LORA_LEARNING_RATE,
            rank=LORA_RANK,
            optimizer="AdamW",
            loss_function="MSE",
            seed=0,
            training_dtype="fp32",
            lora_dtype="fp32",
            algorithm="LoRA",
            gradient_checkpointing=False,
            existing_lora="[None]",
        ),
        "save": node("SaveLoRA", lora=["train", 1], prefix=name),
    }
