# Shapes: L tokens of one chunk (77 for CLIP, with start and end), N subject slots.
"""The prompt template. Positions are known by construction: nothing searches for the placeholder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

SegmentKind = Literal["text", "label", "placeholder"]
Tokenize = Callable[[str], Sequence[int]]
CLIP_CHUNK_LENGTH = 77
NO_POSITION = -1


@dataclass(frozen=True, kw_only=True)
class PromptSegment:
    """A piece of the prompt that is tokenised on its own.

    Attributes:
        text: the piece as it stands in the prompt, with the spaces around it.
        kind: "text", or the "label" or "placeholder" of a subject.
        subject_index: the subject whose suffix this piece belongs to; None for the user's own
            prompt.
    """

    text: str
    kind: SegmentKind
    subject_index: int | None = None


@dataclass(frozen=True, kw_only=True)
class SubjectPrompt:
    """The paper's template: "<prompt>, the <label 0> is <PH>, the <label 1> is <PH>"."""

    segments: tuple[PromptSegment, ...]
    num_subjects: int

    @property
    def text(self) -> str:
        """The whole prompt, for people to read."""
        return "".join(segment.text for segment in self.segments)

    @property
    def prompt_segments(self) -> tuple[PromptSegment, ...]:
        """The user's own prompt: one segment, or none."""
        return tuple(s for s in self.segments if s.subject_index is None)

    def suffix_segments(self, subject_index: int) -> tuple[PromptSegment, ...]:
        """One subject's suffix: text, label, text, placeholder. To be kept in one chunk."""
        return tuple(s for s in self.segments if s.subject_index == subject_index)


def build_prompt(prompt: str, labels: Sequence[str], placeholder: str = "sks") -> SubjectPrompt:
    """Append ", the <label> is <placeholder>" to the prompt for every subject.

    Args:
        prompt: the user's own text; it may be empty, and it may contain the placeholder word.
        labels: one word or two for each subject, in slot order.
        placeholder: the word whose token embedding is replaced.

    >>> built = build_prompt("a dog on the beach", ["dog"])
    >>> built.text
    'a dog on the beach, the dog is sks'
    >>> [(s.text, s.kind, s.subject_index) for s in built.segments[1:]]
    [(', the ', 'text', 0), ('dog', 'label', 0), (' is ', 'text', 0), ('sks', 'placeholder', 0)]
    """
    segments: list[PromptSegment] = []
    if prompt.strip():
        segments.append(PromptSegment(text=prompt.strip(), kind="text"))
    for index, label in enumerate(labels):
        if not label.strip():
            raise ValueError(
                f"labels: expected a word or two for every subject, got an empty label for subject "
                f"{index + 1}. Name what the picture shows, for example 'dog'."
            )
        opening = ", the " if segments else "the "
        segments += [
            PromptSegment(text=opening, kind="text", subject_index=index),
            PromptSegment(text=label.strip(), kind="label", subject_index=index),
            PromptSegment(text=" is ", kind="text", subject_index=index),
            PromptSegment(text=placeholder, kind="placeholder", subject_index=index),
        ]
    return SubjectPrompt(segments=tuple(segments), num_subjects=len(labels))


@dataclass(frozen=True, kw_only=True)
class SuffixTokens:
    """Token ids of one subject's suffix; the placeholder is always the last token.

    Attributes:
        token_ids: without start and end tokens.
        label_last: index in `token_ids` of the last token of the label.
    """

    token_ids: tuple[int, ...]
    label_last: int


def tokenize_suffix(
    subject_prompt: SubjectPrompt,
    subject_index: int,
    tokenize: Tokenize,
    placeholder_token_id: int,
) -> SuffixTokens:
    """Tokenise one subject's suffix, segment by segment.

    Args:
        tokenize: text -> ids, without start and end tokens.
        placeholder_token_id: stands for the placeholder, which is not tokenised.
    """
    token_ids: list[int] = []
    label_last = NO_POSITION
    for segment in subject_prompt.suffix_segments(subject_index):
        if segment.kind == "placeholder":
            token_ids.append(placeholder_token_id)
            continue
        segment_ids = list(tokenize(segment.text.strip()))
        token_ids += segment_ids
        if segment.kind == "label":
            if not segment_ids:
                raise ValueError(
                    f"labels: expected a label with at least one token, got {segment.text!r} for "
                    f"subject {subject_index + 1}. Use letters or digits."
                )
            label_last = len(token_ids) - 1
    return SuffixTokens(token_ids=tuple(token_ids), label_last=label_last)


@dataclass(frozen=True, kw_only=True)
class ChunkTokens:
    """One chunk of tokens, ready for the text encoder.

    Attributes:
        token_ids: (L,) long, with start, end and padding.
        placeholder_positions: (N,) long in 0..L-1, -1 in empty slots.
        label_last_positions: (N,) long in 0..L-1, -1 in empty slots.
        num_cut_tokens: tokens of the user's own prompt that did not fit.
    """

    token_ids: torch.Tensor
    placeholder_positions: torch.Tensor
    label_last_positions: torch.Tensor
    num_cut_tokens: int


def build_chunk(
    subject_prompt: SubjectPrompt,
    tokenize: Tokenize,
    *,
    num_slots: int,
    placeholder_token_id: int,
    start_token_id: int,
    end_token_id: int,
    pad_token_id: int,
    chunk_length: int = CLIP_CHUNK_LENGTH,
) -> ChunkTokens:
    """Tokenise into a single chunk: start, prompt, suffixes, end, padding.

    If the text is too long, the end of the user's own prompt is cut off; the suffixes stay whole.

    Args:
        tokenize: text -> ids, without start and end tokens.
        num_slots: N, at least the number of subjects.
        chunk_length: L.

    >>> vocabulary = ["a", "dog", ",", "the", "is"]
    >>> chunk = build_chunk(
    ...     build_prompt("a dog", ["dog"]),
    ...     lambda text: [vocabulary.index(word) for word in text.replace(",", ", ").split()],
    ...     num_slots=2, placeholder_token_id=50, start_token_id=98, end_token_id=99,
    ...     pad_token_id=0, chunk_length=11,
    ... )
    >>> chunk.token_ids.tolist()  # start, a dog, ", the dog is", placeholder, end, padding
    [98, 0, 1, 2, 3, 1, 4, 50, 99, 0, 0]
    >>> chunk.placeholder_positions.tolist(), chunk.label_last_positions.tolist()
    ([7, -1], [5, -1])
    """
    if subject_prompt.num_subjects > num_slots:
        raise ValueError(
            f"num_slots: expected at least {subject_prompt.num_subjects} for as many subjects, got "
            f"{num_slots}. Remove subjects or use more slots."
        )
    suffixes = [
        tokenize_suffix(subject_prompt, index, tokenize, placeholder_token_id)
        for index in range(subject_prompt.num_subjects)
    ]
    room = chunk_length - 2 - sum(len(suffix.token_ids) for suffix in suffixes)
    if room < 0:
        raise ValueError(
            f"labels: expected suffixes of at most {chunk_length - 2} tokens, got "
            f"{chunk_length - 2 - room}. Shorten the labels or use fewer subjects."
        )
    prompt_ids = [i for s in subject_prompt.prompt_segments for i in tokenize(s.text)]
    token_ids = [start_token_id, *prompt_ids[:room]]
    placeholders = torch.full((num_slots,), NO_POSITION)
    label_lasts = torch.full((num_slots,), NO_POSITION)
    for index, suffix in enumerate(suffixes):
        label_lasts[index] = len(token_ids) + suffix.label_last
        token_ids += suffix.token_ids
        placeholders[index] = len(token_ids) - 1
    token_ids.append(end_token_id)
    token_ids += [pad_token_id] * (chunk_length - len(token_ids))
    return ChunkTokens(
        token_ids=torch.tensor(token_ids),
        placeholder_positions=placeholders,
        label_last_positions=label_lasts,
        num_cut_tokens=max(0, len(prompt_ids) - room),
    )
