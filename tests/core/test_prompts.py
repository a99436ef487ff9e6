import re

import pytest
import torch

from subject_diffusion_core.prompts import build_chunk, build_prompt

START, END, PAD, PLACEHOLDER = 900, 901, 902, 903


class WordTokenizer:
    """Words, letters of long words and commas to numbers, as a byte-pair encoding would split."""

    def __init__(self):
        self.vocabulary: dict[str, int] = {}

    def __call__(self, text: str) -> list[int]:
        pieces = [p for word in re.findall(r"\w+|,", text) for p in re.findall(r".{1,5}", word)]
        return [self.vocabulary.setdefault(piece, len(self.vocabulary)) for piece in pieces]

    def decode(self, ids) -> list[str]:
        names = {number: piece for piece, number in self.vocabulary.items()}
        return [names.get(int(i), f"<{int(i)}>") for i in ids]


def chunk_of(prompt, labels, chunk_length=32, num_slots=3):
    tokenize = WordTokenizer()
    chunk = build_chunk(
        build_prompt(prompt, labels),
        tokenize,
        num_slots=num_slots,
        placeholder_token_id=PLACEHOLDER,
        start_token_id=START,
        end_token_id=END,
        pad_token_id=PAD,
        chunk_length=chunk_length,
    )
    return chunk, tokenize


def test_template_of_two_subjects():
    text = build_prompt("a dog and a cat", ["dog", "cat"]).text
    assert text == "a dog and a cat, the dog is sks, the cat is sks"


def test_empty_prompt_has_no_leading_comma():
    assert build_prompt("  ", ["dog", "cat"]).text == "the dog is sks, the cat is sks"


def test_segments_carry_kind_and_subject():
    prompt = build_prompt("a dog", ["dog", "cat"])
    assert [segment.kind for segment in prompt.suffix_segments(1)] == [
        "text", "label", "text", "placeholder",
    ]  # fmt: skip
    assert [segment.text for segment in prompt.prompt_segments] == ["a dog"]


def test_no_subjects_leaves_the_prompt_alone():
    prompt = build_prompt("a dog", [])
    assert prompt.text == "a dog" and prompt.num_subjects == 0


def test_positions_point_at_placeholder_and_last_label_token():
    chunk, tokenize = chunk_of("two toys", ["teddybear", "car"])
    tokens = tokenize.decode(chunk.token_ids)
    assert chunk.token_ids.dtype == torch.long
    assert [tokens[i] for i in chunk.placeholder_positions[:2]] == ["<903>", "<903>"]
    assert [tokens[i] for i in chunk.label_last_positions[:2]] == ["bear", "car"]
    assert chunk.placeholder_positions[2] == -1 and chunk.label_last_positions[2] == -1


def test_placeholder_word_in_the_prompt_is_left_alone():
    chunk, tokenize = chunk_of("a sks dog, the dog is sks", ["dog"])
    assert chunk.token_ids.tolist().count(PLACEHOLDER) == 1
    assert tokenize.decode(chunk.token_ids).count("sks") == 2
    assert chunk.token_ids[chunk.placeholder_positions[0]] == PLACEHOLDER


def test_structure_of_the_chunk():
    chunk, tokenize = chunk_of("a dog", ["dog"], chunk_length=12)
    assert tokenize.decode(chunk.token_ids) == [
        "<900>", "a", "dog", ",", "the", "dog", "is", "<903>", "<901>", "<902>", "<902>", "<902>",
    ]  # fmt: skip


def test_long_prompt_is_cut_and_suffixes_stay_whole():
    chunk, tokenize = chunk_of("one two three four five six", ["dog"], chunk_length=10)
    assert tokenize.decode(chunk.token_ids) == [
        "<900>", "one", "two", "three", ",", "the", "dog", "is", "<903>", "<901>",
    ]  # fmt: skip
    assert chunk.num_cut_tokens == 3


def test_suffixes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"labels: expected suffixes of at most 6 tokens, got 9"):
        chunk_of("", ["dog", "cat"], chunk_length=8)


def test_empty_label():
    with pytest.raises(
        ValueError, match=r"labels: .* got an empty label for subject 2\. Name what"
    ):
        build_prompt("a dog", ["dog", " "])


def test_label_without_tokens():
    with pytest.raises(ValueError, match="labels: expected a label with at least one token"):
        chunk_of("a dog", ["???"])


def test_more_subjects_than_slots():
    with pytest.raises(ValueError, match="num_slots: expected at least 2"):
        chunk_of("a", ["dog", "cat"], num_slots=1)


def test_clip_tokens_of_the_segments_are_those_of_the_whole_text():
    open_clip = pytest.importorskip("open_clip")
    tokenizer = open_clip.SimpleTokenizer()
    built = build_prompt("a photo of two toys", ["teddy bear", "toy car"])
    pieces = [i for s in built.segments for i in tokenizer.encode(s.text)]
    assert pieces == tokenizer.encode(built.text)
