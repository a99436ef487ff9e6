"""What users get wrong about self-subject-attention in a graph."""

from __future__ import annotations

from typing import Any

from graphs import Graph, good_graph, node


def seeing_graph(**inputs: Any) -> Graph:
    """Two subjects without an adapter, through a KSampler; `inputs` replace the node's own."""
    graph = good_graph()
    for name in ("apply", "encode", "guider", "noise", "sampler", "sigmas"):
        del graph[name]
    own = {
        "model": ["loader", 0],
        "clip": ["loader", 1],
        "vae": ["loader", 2],
        "subjects": ["layout", 0],
        "positive": ["text", 0],
        "negative": ["text", 0],
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
    graph["text"] = node("CLIPTextEncode", clip=["loader", 1], text="a dog and a cat")
    graph["seeing"] = node("SubjectDiffusionSelfSubjectAttention", **{**own, **inputs})
    graph["sample"] = node(
        "KSampler",
        model=["seeing", 0],
        positive=["seeing", 1],
        negative=["seeing", 2],
        latent_image=["latent", 0],
        seed=3,
        steps=2,
        cfg=3.0,
        sampler_name="euler",
        scheduler="normal",
        denoise=1.0,
    )
    return graph


def with_changed(graph: Graph, name: str, **inputs: Any) -> Graph:
    graph[name]["inputs"] |= inputs
    return graph


def twice() -> Graph:
    """The node behind itself."""
    graph = seeing_graph()
    again = {**graph["seeing"]["inputs"], "model": ["seeing", 0]}
    graph["again"] = node("SubjectDiffusionSelfSubjectAttention", **again)
    return with_changed(graph, "sample", model=["again", 0])


def merging() -> Graph:
    """Token Merging, with subjects that have boxes."""
    graph = seeing_graph()
    graph["merging"] = node("TomePatchModel", model=["seeing", 0], ratio=0.3)
    return with_changed(graph, "sample", model=["merging", 0])


BAD_REFERENCES: dict[str, tuple[Graph, str]] = {
    "twice": (twice(), r"model: expected a MODEL without self-subject-attention, got one"),
    "unknown layers": (
        seeing_graph(layers="left"),
        r"layers: expected all, down, mid, up, or blocks by name or number, got 'left'\. Choose",
    ),
    "negative weight": (seeing_graph(omega_ref=-1.0), r"omega_ref"),
    "weight too large": (seeing_graph(omega_ref=1e9), r"omega_ref"),
    "unknown noise": (seeing_graph(noise="none"), r"noise"),
    "no VAE": (seeing_graph(vae=["loader", 1]), r"Return type mismatch .*CLIP.*VAE"),
    "a box in pixels": (
        seeing_graph(subjects=["subject2", 0]),
        r"Subject 2's box is in pixels of a picture of unknown size\.",
    ),
    "an empty mask": (
        with_changed(seeing_graph(), "image1", image="invisible.png"),
        r"Subject 1's mask: expected 1 where the subject is, got a mask that is empty\.",
    ),
    "Token Merging with boxes": (merging(), r"model: expected a query for every place"),
}
