"""The part of the good graph that is interpolation, DreamTuner, HiFi Tuner and masks."""

from __future__ import annotations

from typing import Any

from devtools.api_client import Graph
from devtools.workflows import node

SEGMENTER = "small_sam.safetensors"
SIZE = 64


def methods_graph(saved: str) -> Graph:
    """Beside the nodes of `good_graph`, on the plain model and its texts.

    Args:
        saved: the file of a tuned embedding.
    """
    plain = {
        "plain": node("CLIPTextEncode", clip=["loader", 1], text="a dog"),
        "nothing": node("CLIPTextEncode", clip=["loader", 1], text=""),
        "plain_guider": node(
            "CFGGuider",
            model=["loader", 0],
            positive=["plain", 0],
            negative=["nothing", 0],
            cfg=2.0,
        ),
    }
    return {**plain, **_interpolation(), **_dreamtuner(), **_hifi_tuner(saved), **_segmentation()}


def _picture_of(name: str, latent: str) -> Graph:
    """Nodes that decode and show a latent; the last one's name is among the targets."""
    return {
        f"decode_{name}": node("VAEDecode", samples=[latent, 0], vae=["loader", 2]),
        f"show_{name}": node("PreviewImage", images=[f"decode_{name}", 0]),
    }


def _interpolation() -> Graph:
    strip = node(
        "SubjectDiffusionInterpolate",
        noise=["noise", 0],
        guider=["guider", 0],
        plain_guider=["plain_guider", 0],
        sampler=["sampler", 0],
        sigmas=["sigmas", 0],
        latent_image=["latent", 0],
        alphas="0, 0.5",
    )
    return {"strip": strip, **_picture_of("strip", "strip")}


def _dreamtuner() -> Graph:
    attention = node(
        "SubjectDiffusionSelfSubjectAttention",
        model=["loader", 0],
        clip=["loader", 1],
        vae=["loader", 2],
        subjects=["layout", 0],
        positive=["plain", 0],
        negative=["nothing", 0],
        omega_ref=2.5,
        use_mask=True,
        layers="down, up",
        start_percent=0.0,
        end_percent=1.0,
        time_bias_positive=5,
        time_bias_negative=5,
        reference_size=48,
        noise="fixed",
        noise_seed=1,
        caption="a photo of a <label>",
        report_attention=True,
        reuse_mb=0,
    )
    guider = node(
        "SubjectDiffusionDreamTunerGuider",
        model=["attention", 0],
        positive=["attention", 1],
        negative=["attention", 2],
        mode="expected",
        reference_guidance_scale=2.0,
        text_guidance_scale=7.5,
        reference_probability=0.9,
        draw_seed=3,
    )
    dream = _sampled("dreamtuner", "sampler")
    names = {"attention": attention, "dreamtuner": guider, "dream": dream}
    return {**names, **_picture_of("dream", "dream")}


def _sampled(guider: str, sampler: str) -> dict[str, Any]:
    return node(
        "SamplerCustomAdvanced",
        noise=["noise", 0],
        guider=[guider, 0],
        sampler=[sampler, 0],
        sigmas=["sigmas", 0],
        latent_image=["latent", 0],
    )


def _hifi_tuner(saved: str) -> Graph:
    return {
        "tune": node(
            "SubjectDiffusionTuneEmbedding",
            model=["loader", 0],
            clip=["loader", 1],
            vae=["loader", 2],
            subjects=["subject1", 0],
            steps=2,
            steps_per_set=1,
            num_sets=2,
            learning_rate=0.005,
            regularization=0.01,
            num_vectors=2,
            batch_size=1,
            seed=0,
            caption="a photo of a <label>",
            use_mask=True,
            picture_size=48,
            resume=True,
        ),
        "tuned": node(
            "SubjectDiffusionApplyEmbedding",
            embedding=["tune", 0],
            mode="step-wise",
            strength=0.9,
            clip=["loader", 1],
            prompt="a dog on a lawn",
        ),
        "tuned_file": node(
            "SubjectDiffusionSaveEmbedding",
            embedding=["tune", 0],
            filename_prefix="subject_diffusion_tuned/fuzz",
        ),
        "tuned_guider": node(
            "CFGGuider",
            model=["loader", 0],
            positive=["tuned", 0],
            negative=["nothing", 0],
            cfg=2.0,
        ),
        "tuned_latent": _sampled("tuned_guider", "sampler"),
        **_picture_of("tuned", "tuned_latent"),
        **_loaded_embedding(saved),
        **_reference_guided(),
        **_replaced("embedding_file"),
    }


def _loaded_embedding(saved: str) -> Graph:
    return {
        "embedding_file": node("SubjectDiffusionLoadEmbedding", file_name=saved),
        "loaded": node(
            "SubjectDiffusionApplyEmbedding",
            embedding=["embedding_file", 0],
            mode="whole",
            strength=1.0,
            conditioning=["plain", 0],
        ),
        "loaded_guider": node(
            "CFGGuider",
            model=["loader", 0],
            positive=["loaded", 0],
            negative=["nothing", 0],
            cfg=2.0,
        ),
        "loaded_latent": _sampled("loaded_guider", "sampler"),
        **_picture_of("loaded", "loaded_latent"),
    }


def _reference_guided() -> Graph:
    sampler = node(
        "SubjectDiffusionReferenceGuidedSampler",
        clip=["loader", 1],
        vae=["loader", 2],
        subjects=["subject1", 0],
        latent_image=["latent", 0],
        method="optimise",
        num_updates=1,
        learning_rate=0.01,
        start_percent=0.0,
        end_percent=0.8,
        caption="a photo of a <label>",
        algorithm="moments",
        max_angle=30.0,
        inversion_iterations=1,
        mask=["place", 0],
        generated=["first_pass", 0],
        clip_vision=["loader", 3],
    )
    place = node("SolidMask", value=1.0, width=SIZE, height=SIZE)
    first_pass = node("EmptyImage", width=SIZE, height=SIZE, batch_size=1, color=0x808080)
    guided = _sampled("plain_guider", "reference_sampler")
    names = {
        "place": place,
        "first_pass": first_pass,
        "reference_sampler": sampler,
        "guided": guided,
    }
    return {**names, **_picture_of("guided", "guided")}


def _replaced(saved_in: str) -> Graph:
    sampler = node(
        "SubjectDiffusionReplacementSampler",
        clip=["loader", 1],
        vae=["loader", 2],
        image=["image2", 0],
        caption="a photo of a dog",
        word="dog",
        replacement="cat",
        method="optimise",
        num_updates=1,
        learning_rate=0.01,
        stop_early=True,
        keep_until=0.8,
        blend=0.5,
        inversion_iterations=1,
        embedding=[saved_in, 0],
        mask=["place", 0],
    )
    guider = node(
        "CFGGuider",
        model=["loader", 0],
        positive=["replacement", 2],
        negative=["nothing", 0],
        cfg=2.0,
    )
    replaced = _sampled("replaced_guider", "replacement")
    replaced["inputs"] |= {"noise": ["no_noise", 0], "latent_image": ["replacement", 1]}
    return {
        "replacement": sampler,
        "replaced_guider": guider,
        "no_noise": node("DisableNoise"),
        "replaced": replaced,
        **_picture_of("replaced", "replaced"),
    }


def _segmentation() -> Graph:
    return {
        "segmenter": node("SubjectDiffusionSegmentLoader", segmenter_name=SEGMENTER),
        "segment": node(
            "SubjectDiffusionSegment",
            image=["image2", 0],
            segmenter=["segmenter", 0],
            box="0.1,0.2,0.9,0.9",
            points="0.5,0.5; 0.1,0.1,0",
            largest_component=True,
            fill_holes=True,
        ),
        "show_cut_out": node("PreviewImage", images=["segment", 1]),
        "cut_out": node(
            "SubjectDiffusionCutOut",
            image=["image2", 0],
            box="0.1,0.2,0.9,0.9",
            points="0.5,0.5; 0.1,0.1,0",
            largest_component=True,
            fill_holes=True,
        ),
        "show_cut_out_by_colours": node("PreviewImage", images=["cut_out", 1]),
    }
