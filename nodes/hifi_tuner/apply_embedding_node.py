"""Apply Embedding: a prompt in which a tuned embedding stands for its subject."""

from __future__ import annotations

from typing import Literal, get_args

from comfy_api.latest import io

from ...subject_diffusion_core.hifi_tuner import TunedEmbedding
from ..adapters.texts import TextEncoder
from ..host.comfy_types import Clip, Conditioning, TunedEmbeddingType
from ..host.node_warnings import show_warnings
from ..host.search_words import search_words
from ..subjects.reference_picture import LABEL
from .embedded_text import embed, embedded_labels
from .prompt_room import require_room

NODE_NAME = "Subject-Diffusion Apply Embedding"
Mode = Literal["step-wise", "whole"]
MODES = get_args(Mode)


class SubjectDiffusionApplyEmbedding(io.ComfyNode):
    """A prompt, or a CONDITIONING, and a tuned embedding -> CONDITIONING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionApplyEmbedding",
            display_name=NODE_NAME,
            category="Subject-Diffusion",
            description=(
                "Puts a tuned embedding at the end of an encoded prompt. For every sampler, with "
                "LoRAs, ControlNets and any other node that takes a CONDITIONING; it costs no time."
            ),
            inputs=[
                TunedEmbeddingType.Input(
                    "embedding", tooltip="From Tune Embedding or Load Embedding."
                ),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default=MODES[0],
                    tooltip="step-wise: each part of the sampling takes its own set of vectors. "
                    "whole: one set for all of it.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="0 = the prompt alone, 1 = as it was tuned.",
                ),
                io.Clip.Input(
                    "clip", optional=True, tooltip="Encodes the prompt; or connect a conditioning."
                ),
                io.String.Input(
                    "prompt",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip=f"Any prompt that names the subject by its label, or by {LABEL}.",
                ),
                io.Conditioning.Input(
                    "conditioning",
                    optional=True,
                    tooltip="In place of clip and prompt: a prompt that another node encoded.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="CONDITIONING", tooltip="For the sampler, as its positive prompt."
                )
            ],
            **search_words("HiFi Tuner"),
        )

    @classmethod
    def execute(
        cls,
        embedding: TunedEmbedding,
        mode: Mode,
        strength: float,
        clip: Clip | None = None,
        prompt: str = "",
        conditioning: Conditioning | None = None,
    ) -> io.NodeOutput:
        if conditioning is None:
            conditioning = _encode(embedding, clip, prompt)
        elif clip is not None or prompt.strip():
            raise ValueError(
                "conditioning: expected it alone, or clip and prompt in its place, got both. "
                "Disconnect one of them."
            )
        is_stepwise = mode == "step-wise" and embedding.step_vectors is not None
        if mode == "step-wise" and not is_stepwise:
            show_warnings(
                [
                    "embedding: it was tuned as a whole only, so all steps take the same vectors. "
                    "Set mode to whole, or tune it with steps_per_set above 0."
                ]
            )
        if strength > 0.0:
            show_warnings(_of_the_conditioning(conditioning, is_stepwise))
        return io.NodeOutput(embed(conditioning, embedding, is_stepwise, strength))


def _of_the_conditioning(conditioning: Conditioning, is_stepwise: bool) -> list[str]:
    """What of it the embedding does not go with."""
    sentences = []
    labels = embedded_labels(conditioning)
    if labels:
        sentences.append(
            f"conditioning: it has the embedding of '{', '.join(labels)}' at its end already, and "
            "this one takes the same places. Give each subject a prompt of its own, and connect "
            "Conditioning (Combine)."
        )
    has_area = any(
        "area" in values or values.get("set_area_to_bounds") for _, values in conditioning
    )
    if is_stepwise and has_area:
        sentences.append(
            "conditioning: it has an area, which ComfyUI gives to the negative prompt for the "
            "first set only. Set mode to whole, or use Conditioning (Set Mask) with `default`."
        )
    return sentences


def _encode(embedding: TunedEmbedding, clip: Clip | None, prompt: str) -> Conditioning:
    if clip is None:
        raise ValueError(
            f"{NODE_NAME}: expected a CLIP and a prompt, or a CONDITIONING, got neither. Connect "
            "the CLIP of the model."
        )
    text = prompt.replace(LABEL, embedding.label)
    if embedding.label.lower() not in text.lower():
        show_warnings(
            [
                f"prompt: it does not name '{embedding.label}', the word that the embedding was "
                "tuned with. Name it for a better likeness."
            ]
        )
    texts = TextEncoder(clip)
    require_room(texts.words(text), len(embedding.vectors), "prompt")
    return texts.encode(text)
