"""Replacement Sampler: a sampler that makes a picture again, with another subject in it."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ...subject_diffusion_core.hifi_tuner import TunedEmbedding
from ..adapters.texts import TextEncoder
from ..host.advanced_inputs import advanced
from ..host.comfy_types import Clip, TunedEmbeddingType
from ..host.node_warnings import show_warnings
from ..host.picture_latents import checked_vae
from ..host.search_words import search_words
from .embedded_text import embed
from .guided_model import METHODS, Method
from .moved_reference import reference_cells, single_mask, stretch_warnings
from .prompt_room import require_room
from .replaced_words import columns_of, replace_word
from .replacement_sampling import Replacement, make_sampler

NODE_NAME = "Subject-Diffusion Replacement Sampler"


class SubjectDiffusionReplacementSampler(io.ComfyNode):
    """A picture, its caption and a word to replace -> SAMPLER for Sampler Custom Advanced."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionReplacementSampler",
            display_name=NODE_NAME,
            category="Subject-Diffusion",
            description=(
                "HiFi Tuner's subject replacement: makes a picture again with another subject in "
                "the place of one. For Sampler Custom Advanced with a CFG Guider and the scheduler "
                "ddim_uniform; the noise is not used."
            ),
            inputs=[
                io.Clip.Input("clip", tooltip="The model's text encoder, for both texts."),
                io.Vae.Input("vae", tooltip="The model's VAE, for the picture."),
                io.Image.Input("image", tooltip="The picture, in the size of the result."),
                io.String.Input(
                    "caption",
                    default="",
                    multiline=True,
                    tooltip="What the picture shows, for example: a photo of a cat on a sofa.",
                ),
                io.String.Input(
                    "word", default="", tooltip="What is replaced, as the caption says it: cat."
                ),
                io.String.Input("replacement", default="", tooltip="What comes in its place: dog."),
                *_strength_inputs(),
                TunedEmbeddingType.Input(
                    "embedding",
                    optional=True,
                    tooltip="A tuned embedding of the new subject, for `positive`.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where the picture may change, such as of Segment; else everywhere.",
                ),
            ],
            outputs=[
                io.Sampler.Output(display_name="SAMPLER", tooltip="For Sampler Custom Advanced."),
                io.Latent.Output(
                    display_name="latent_image", tooltip="The picture, to be sampled from."
                ),
                io.Conditioning.Output(
                    display_name="positive", tooltip="The caption with the new word, encoded."
                ),
                io.String.Output(
                    display_name="prompt",
                    tooltip="The caption with the new word, for another encoder such as "
                    "Subject-Diffusion Encode.",
                ),
            ],
            **search_words("HiFi Tuner", "null-text inversion", "prompt-to-prompt"),
        )

    @classmethod
    def execute(
        cls,
        clip: Clip,
        vae: Any,
        image: torch.Tensor,
        caption: str,
        word: str,
        replacement: str,
        method: Method,
        num_updates: int,
        learning_rate: float,
        stop_early: bool,
        keep_until: float,
        blend: float,
        inversion_iterations: int,
        embedding: TunedEmbedding | None = None,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        if len(image) != 1:
            raise ValueError(
                f"image: expected one picture, got {len(image)}. Connect Image From Batch."
            )
        texts, prompt = TextEncoder(clip), replace_word(caption, word, replacement)
        positive, num_vectors = texts.encode(prompt), 0
        if embedding is not None:
            num_vectors = len(embedding.vectors)
            require_room(texts.words(prompt), num_vectors, "caption")
            positive = embed(positive, embedding, embedding.step_vectors is not None, 1.0)
        latent = checked_vae(vae).encode(image[..., :3])
        cells = None
        if mask is not None:
            cells = reference_cells(single_mask(mask, "mask"), latent)
            show_warnings(stretch_warnings(mask, *image.shape[1:3]))
            if not bool(cells.any()):
                show_warnings(
                    [
                        "mask: it is empty, or nothing in it fills half a cell of the latent, so "
                        "the picture stays as it is. Connect where it may change."
                    ]
                )
        sampler = make_sampler(
            Replacement(
                latent=latent,
                mask=cells,
                caption=texts.encode(caption),
                source=columns_of(texts.words(caption)),
                target=columns_of(texts.words(prompt)),
                num_free_last=num_vectors,
                method=method,
                num_updates=num_updates,
                learning_rate=learning_rate,
                stops_early=stop_early,
                keep_until=keep_until,
                blend=blend,
                num_iterations=inversion_iterations,
            )
        )
        return io.NodeOutput(sampler, {"samples": latent}, positive, prompt)


def _strength_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "method",
            options=list(METHODS),
            default=METHODS[0],
            tooltip="optimise: as in the paper, follows the picture also where guidance leads "
            "away. caption as negative: a shortcut without gradients.",
        ),
        io.Int.Input(
            "num_updates",
            default=10,
            min=0,
            max=100,
            tooltip="Updates of the empty text in each step, at most (10 in the paper).",
        ),
        io.Float.Input(
            "learning_rate",
            default=0.01,
            min=0.0001,
            max=1.0,
            step=0.001,
            round=0.0001,
            tooltip="By how much an update changes the empty text.",
        ),
        io.Boolean.Input(
            "stop_early",
            default=True,
            tooltip="Fewer updates in steps that follow the picture well already.",
            **advanced(),
        ),
        io.Float.Input(
            "keep_until",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="Until where in the steps all other words keep their places; 1 as in the "
            "paper, less gives the new subject its own shape.",
        ),
        io.Float.Input(
            "blend",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="LocalBlend: keeps the picture where neither subject is seen. 0 = off, 0.3 is "
            "usual, higher keeps more.",
        ),
        io.Int.Input(
            "inversion_iterations",
            default=1,
            min=0,
            max=10,
            tooltip="Repeats of each step of the inversion; more follow the picture more exactly.",
            **advanced(),
        ),
    ]
