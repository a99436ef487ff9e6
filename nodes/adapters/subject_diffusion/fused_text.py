# Shapes: V views of one subject, E width of an image embedding, D width of a token embedding.
"""The prompt with the subjects fused in: every placeholder replaced by its subject's embedding, at
a position known by construction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch

from ....subject_diffusion_core.checkpoint import AdapterConfig
from ....subject_diffusion_core.prompts import SubjectPrompt, build_prompt, tokenize_suffix
from ....subject_diffusion_core.schema import printed
from ....subject_diffusion_core.text_fusion import ImageEmbedProjector, blend_towards_label
from ...host.comfy_types import Clip, Conditioning, Token, TokenEmbedding, Tokens
from ...subjects.subject import Subject
from ..texts import TextEncoder


class FusedText(NamedTuple):
    """Prompt and suffixes, encoded; the positions are those of `SubjectTokens`."""

    conditioning: Conditioning
    label_positions: list[int]
    placeholder_positions: list[int]


class SubjectTokens(NamedTuple):
    """Tokens for the text encoder, and where each subject's words are in what it returns.

    Attributes:
        label_positions: per subject, of the last token of the label in its suffix.
        placeholder_positions: per subject.
    """

    tokens: Tokens
    label_positions: list[int]
    placeholder_positions: list[int]


class ChunkFormat:
    """How a CLIP frames its chunks of tokens: read from what it makes of the empty text."""

    def __init__(self, texts: TextEncoder) -> None:
        tokens = texts.words("")
        if len(tokens) != 1:
            raise ValueError(
                "clip: expected one CLIP text encoder (Stable Diffusion 1 or 2), got "
                f"{len(tokens)} encoders. Connect the CLIP of the base model that the adapter was "
                "trained on."
            )
        (self.encoder_name,) = tokens
        empty = [token for token, *_ in tokens[self.encoder_name][0]]
        self.start, self.end, self.pad = empty[:3]
        self.length = len(empty)

    @property
    def room(self) -> int:
        """Tokens that fit between start and end."""
        return self.length - 2

    def frame(self, content: list[Token]) -> list[Token]:
        chunk = [(self.start, 1.0), *content, (self.end, 1.0)]
        return chunk + [(self.pad, 1.0)] * (self.length - len(chunk))


class SubjectTokenizer:
    """Prompt and suffixes as ComfyUI's tokens, placeholders at positions known by construction."""

    def __init__(self, texts: TextEncoder, placeholder_token_id: int) -> None:
        self._texts = texts
        self._placeholder_token_id = placeholder_token_id  # stands in while suffixes are tokenised
        self._format = ChunkFormat(texts)

    def tokenize(
        self, prompt: SubjectPrompt, placeholder_embeds: Sequence[torch.Tensor]
    ) -> SubjectTokens:
        """Tokens of "<prompt>, the <label> is <PH>, ...", each PH already replaced by a subject's
        embedding (D,).

        The prompt is chunked as ComfyUI does it, with its weights and embeddings; each suffix stays
        whole in one chunk.
        """
        chunks = self._contents("".join(segment.text for segment in prompt.prompt_segments))
        label_positions, placeholder_positions = [], []
        for index, embed in enumerate(placeholder_embeds):
            suffix = tokenize_suffix(prompt, index, self.plain_ids, self._placeholder_token_id)
            content: list[Token] = [(token, 1.0) for token in suffix.token_ids[:-1]]
            content.append((embed, 1.0))
            self._require_room(content, prompt, index)
            if len(chunks[-1]) + len(content) > self._format.room:
                chunks.append([])
            # behind the chunks before this one and its own start token
            first = (len(chunks) - 1) * self._format.length + 1 + len(chunks[-1])
            label_positions.append(first + suffix.label_last)
            placeholder_positions.append(first + len(content) - 1)
            chunks[-1] = chunks[-1] + content
        framed = [self._format.frame(content) for content in chunks]
        tokens = {self._format.encoder_name: framed}
        return SubjectTokens(tokens, label_positions, placeholder_positions)

    def plain_ids(self, text: str) -> list[int]:
        """Token ids of a text in which parentheses and colons mean nothing."""
        escaped = text.replace("(", "\\(").replace(")", "\\)")
        # an embedding that a label names passes for an id
        return [cast(int, token) for content in self._contents(escaped) for token, _ in content]

    def _contents(self, text: str) -> list[list[Token]]:
        """ComfyUI's chunks of a text without start, end and padding."""
        chunks = self._texts.words(text)[self._format.encoder_name]
        return [[(token, weight) for token, weight, word in chunk if word != 0] for chunk in chunks]

    def _require_room(self, content: list[Token], prompt: SubjectPrompt, index: int) -> None:
        if len(content) > self._format.room:
            suffix = "".join(segment.text for segment in prompt.suffix_segments(index)).strip(", ")
            raise ValueError(
                f"label: expected a few words, got {len(content)} tokens in {printed(suffix)}. A "
                f"CLIP text encoder takes {self._format.room}: shorten the label."
            )


class FusedTextEncoder:
    """The paper's template, every placeholder replaced by its subject's image embedding."""

    def __init__(
        self,
        texts: TextEncoder,
        config: AdapterConfig,
        projector: ImageEmbedProjector,
        adapter_name: str,
    ) -> None:
        self._texts = texts
        self._placeholder = config.placeholder
        self._tokenizer = SubjectTokenizer(texts, config.placeholder_token_id)
        _require_text_width(texts.clip, config.projector_out_dim, adapter_name)
        self._projector = projector

    def encode(self, prompt: str, subjects: Sequence[Subject]) -> FusedText:
        """Prompt and one suffix a subject; without subjects the prompt alone."""
        template = build_prompt(prompt, [subject.label for subject in subjects], self._placeholder)
        embeds = [self._placeholder_embed(subject) for subject in subjects]
        tokens, *positions = self._tokenizer.tokenize(template, embeds)
        return FusedText(self._texts.encode_tokens(tokens), *positions)

    def _placeholder_embed(self, subject: Subject) -> torch.Tensor:
        """(D,) the mean over the subject's views, nearer to its label where it is weaker."""
        assert subject.embeds is not None
        image_embeds = subject.embeds.tensors["image_embeds"]
        embed: torch.Tensor = self._projector(image_embeds).mean(dim=0)
        if subject.strength >= 1.0:
            return embed
        return blend_towards_label(embed, self._label_embed(subject.label), subject.strength)

    def _label_embed(self, label: str) -> torch.Tensor:
        """(D,) the token embedding of the label's last token."""
        clip = self._texts.clip
        table = _token_embedding(clip)
        clip.load_model()
        last = self._tokenizer.plain_ids(label)[-1]
        # where the CLIP computes: ComfyUI may keep the weights elsewhere until they are used
        ids = torch.tensor([last], device=clip.patcher.load_device)
        embed: torch.Tensor = table(ids, out_dtype=torch.float32)[0].cpu()
        return embed


def _token_embedding(clip: Clip) -> TokenEmbedding:
    encoder = getattr(clip.cond_stage_model, clip.cond_stage_model.clip)
    table: TokenEmbedding = encoder.transformer.get_input_embeddings()
    return table


def _require_text_width(clip: Clip, wanted: int, adapter_name: str) -> None:
    """ComfyUI drops an embedding of another width with only a line in the log."""
    width = _token_embedding(clip).weight.shape[-1]
    if width != wanted:
        raise ValueError(
            f"clip: expected a text encoder of width {wanted} for the adapter '{adapter_name}', "
            f"got {width}. Connect the CLIP of the base model that the adapter was trained on."
        )
