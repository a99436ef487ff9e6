"""Inputs and types of outputs of HiFi Tuner's nodes, which never change."""

from __future__ import annotations

HIFI_TUNER: dict[str, tuple[list[str], list[str]]] = {
    "SubjectDiffusionTuneEmbedding": (
        [
            "model",
            "clip",
            "vae",
            "subjects",
            "steps",
            "steps_per_set",
            "num_sets",
            "learning_rate",
            "regularization",
            "num_vectors",
            "batch_size",
            "seed",
            "caption",
            "use_mask",
            "picture_size",
            "resume",
        ],
        ["SUBJECT_DIFFUSION_TUNED_EMBEDDING"],
    ),
    "SubjectDiffusionApplyEmbedding": (
        ["embedding", "mode", "strength", "clip", "prompt", "conditioning"],
        ["CONDITIONING"],
    ),
    "SubjectDiffusionSaveEmbedding": (["embedding", "filename_prefix"], []),
    "SubjectDiffusionLoadEmbedding": (
        ["file_name"],
        ["SUBJECT_DIFFUSION_TUNED_EMBEDDING"],
    ),
    "SubjectDiffusionReferenceGuidedSampler": (
        [
            "clip",
            "vae",
            "subjects",
            "latent_image",
            "method",
            "num_updates",
            "learning_rate",
            "start_percent",
            "end_percent",
            "caption",
            "algorithm",
            "max_angle",
            "inversion_iterations",
            "mask",
        ],
        ["SAMPLER", "IMAGE", "MASK"],
    ),
}
