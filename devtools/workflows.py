"""API-format graphs for headless use: what a user would wire by hand, as /prompt takes it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .api_client import Graph
from .jobs import Job, SubjectSpec

PACK_NODES = (
    "SubjectDiffusionTinyLoader",
    "SubjectDiffusionAdapterLoader",
    "SubjectDiffusionSubject",
    "SubjectDiffusionLayout",
    "SubjectDiffusionEncode",
    "SubjectDiffusionApply",
    "SubjectDiffusionGuider",
    "SubjectDiffusionReferenceView",
    "SubjectDiffusionInterpolate",
    "SubjectDiffusionBoxMask",
    "SubjectDiffusionSegmentLoader",
    "SubjectDiffusionSegment",
    "SubjectDiffusionCutOut",
    "SubjectDiffusionRecordAttention",
    "SubjectDiffusionAttentionMaps",
    "SubjectDiffusionEncodeSubjects",
    "SubjectDiffusionSaveSubjects",
    "SubjectDiffusionLoadSubjects",
    "SubjectDiffusionSelfSubjectAttention",
    "SubjectDiffusionDreamTunerGuider",
    "SubjectDiffusionTuneEmbedding",
    "SubjectDiffusionApplyEmbedding",
    "SubjectDiffusionSaveEmbedding",
    "SubjectDiffusionLoadEmbedding",
    "SubjectDiffusionReferenceGuidedSampler",
    "SubjectDiffusionReplacementSampler",
)
SAMPLE_NODE, SAVE_NODE = "sample", "save"
# Outputs of SubjectDiffusionTinyLoader, in their order.
MODEL, CLIP, VAE, CLIP_VISION, ADAPTER = (["loader", index] for index in range(5))

Upload = Callable[[Path], str]


def png_has_alpha(content: bytes) -> bool:
    """Whether a PNG file carries transparency: an alpha channel, or a tRNS chunk."""
    if content[:8] != b"\x89PNG\r\n\x1a\n" or len(content) < 26:
        return False
    if content[25] in (4, 6):  # colour types: grey with alpha, RGB with alpha
        return True
    offset = 8
    while offset + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[offset : offset + 8])
        if kind in (b"tRNS", b"IDAT"):
            return bool(kind == b"tRNS")
        offset += length + 12
    return False


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def generation_graph(job: Job, upload: Upload, adapter_name: str | None = None) -> Graph:
    """The graph of one image.

    `upload` puts a picture on the server and returns the name to load it by; `adapter_name` is the
    adapter file's name in the server's models folder, None for the pack's own.
    """
    graph = {"loader": node("SubjectDiffusionTinyLoader")}
    if job.settings.is_base_only:
        graph |= _base_guidance(job)
        sampled_model = MODEL
    else:
        graph |= _subjects(job, upload) | _subject_guidance(job, adapter_name)
        sampled_model = ["apply", 0]
    return graph | _sampling(job, sampled_model)


def _subjects(job: Job, upload: Upload) -> Graph:
    graph: Graph = {}
    for number, subject in enumerate(job.subjects, start=1):
        inputs: dict[str, Any] = {
            "image": [f"image_{number}", 0],
            "label": subject.label,
            "box": ",".join(f"{edge:.6g}" for edge in subject.box_xyxy),
            "strength": subject.strength,
            "start_percent": 0.0,
            "end_percent": 1.0,
            "mask_marks": "subject",
        }
        mask_nodes, mask = _mask_of(subject, number, upload)
        graph |= mask_nodes
        if mask is not None:
            inputs["mask"] = mask
        if number > 1:
            inputs["previous"] = [f"subject_{number - 1}", 0]
        graph[f"image_{number}"] = node("LoadImage", image=upload(subject.image))
        graph[f"subject_{number}"] = node("SubjectDiffusionSubject", **inputs)
    return graph


def _mask_of(subject: SubjectSpec, number: int, upload: Upload) -> tuple[Graph, list[Any] | None]:
    """The nodes that give a subject's mask (1 = subject) and the link to it, if it has one."""
    name = f"mask_{number}"
    if subject.mask is not None:
        loader = node("LoadImageMask", image=upload(subject.mask), channel="red")
        return {name: loader}, [name, 0]
    if png_has_alpha(subject.image.read_bytes()):
        # LoadImage's mask is 1 where the picture is transparent.
        return {name: node("InvertMask", mask=[f"image_{number}", 1])}, [name, 0]
    return {}, None


def _subject_guidance(job: Job, adapter_name: str | None) -> Graph:
    graph: Graph = {}
    adapter: list[Any] = ADAPTER
    if adapter_name is not None:
        graph["adapter"] = node("SubjectDiffusionAdapterLoader", adapter_name=adapter_name)
        adapter = ["adapter", 0]
    settings = job.settings
    graph["layout"] = node(
        "SubjectDiffusionLayout",
        subjects=[f"subject_{len(job.subjects)}", 0],
        width=settings.width,
        height=settings.height,
        mode="given",
        place_seed=0,
        layout="",
    )
    graph["apply"] = node(
        "SubjectDiffusionApply",
        model=MODEL,
        clip=CLIP,
        adapter=adapter,
        strength=1.0,
        start_percent=0.0,
        end_percent=1.0,
        block_weights="",
    )
    graph["encode"] = node(
        "SubjectDiffusionEncode",
        clip=["apply", 1],
        clip_vision=CLIP_VISION,
        adapter=adapter,
        subjects=["layout", 0],
        prompt=job.prompt,
        negative_prompt="",
        box_coordinates=True,
    )
    graph["guider"] = node(
        "SubjectDiffusionGuider",
        model=["apply", 0],
        positive=["encode", 0],
        image_only=["encode", 1],
        negative=["encode", 2],
        text_guidance_scale=settings.text_guidance_scale,
        image_guidance_scale=settings.image_guidance_scale,
        start_percent=0.0,
        end_percent=1.0,
    )
    return graph


def _base_guidance(job: Job) -> Graph:
    """Plain classifier-free guidance of the base model; the subjects play no part."""
    return {
        "positive": node("CLIPTextEncode", clip=CLIP, text=job.prompt),
        "negative": node("CLIPTextEncode", clip=CLIP, text=""),
        "guider": node(
            "CFGGuider",
            model=MODEL,
            positive=["positive", 0],
            negative=["negative", 0],
            cfg=job.settings.text_guidance_scale,
        ),
    }


def _sampling(job: Job, model: list[Any]) -> Graph:
    settings = job.settings
    return {
        "noise": node("RandomNoise", noise_seed=job.seed),
        "sampler": node("KSamplerSelect", sampler_name=settings.sampler),
        "sigmas": node(
            "BasicScheduler",
            model=model,
            scheduler=settings.scheduler,
            steps=settings.steps,
            denoise=1.0,
        ),
        "latent": node(
            "EmptyLatentImage", width=settings.width, height=settings.height, batch_size=1
        ),
        SAMPLE_NODE: node(
            "SamplerCustomAdvanced",
            noise=["noise", 0],
            guider=["guider", 0],
            sampler=["sampler", 0],
            sigmas=["sigmas", 0],
            latent_image=["latent", 0],
        ),
        "decode": node("VAEDecode", samples=[SAMPLE_NODE, 0], vae=VAE),
        SAVE_NODE: node("SaveImage", images=["decode", 0], filename_prefix="subject_diffusion"),
    }
