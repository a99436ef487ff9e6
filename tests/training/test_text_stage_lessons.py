"""What the text stage begins with: lessons of the text encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_library import small_library
from transformers import CLIPTextModel

from training.bases.loading import read_tiny_base
from training.networks.text import encode_text, encode_words
from training.toy.text.canvas import FIRST, CanvasLesson
from training.toy.text.drawing import Base, plain_model
from training.toy.text.kept_canvas import FIRST as KEPT_FROM
from training.toy.text.kept_canvas import KeptCanvas, PlaceWatch
from training.toy.text.lessons import parts_of
from training.toy.text.local_heads import FAR, key_words, look_at_canvas, query_words
from training.toy.text.questions import draw_question
from training.toy.text.settings import Canvas
from training.toy.text.start import read_start
from training.toy.text.words import KEPT, directions, teach

START = Path(__file__).resolve().parents[2] / "weights" / "tiny_base.safetensors"


def test_a_place_asks_most_for_the_cell_of_that_place() -> None:
    """Logits are -|place - cell|^2 / (2 UNIT^2) but for what all tokens share, and FAR below the
    best for tokens that are no cell."""
    logits = query_words(8, 16) @ key_words().T
    inner = torch.arange(64).reshape(8, 8)[1:7, 1:7].flatten()
    assert torch.equal(logits[inner].argmax(1), FIRST + torch.arange(36))
    best = logits[inner].amax(1)
    next_one = logits[inner[0], FIRST] - logits[inner[0], FIRST + 1]
    assert next_one.item() == pytest.approx(1 / (2 * 0.8**2))
    places = query_words(8, 16)[inner, :2].square().sum(1) / 2
    torch.testing.assert_close(best - logits[inner, 0], places + FAR)


def test_queries_that_tell_their_places_have_no_error() -> None:
    """Of two heads one is watched; all places as they are, doubled, and silent."""
    layer = torch.nn.Module()
    layer.to_q, layer.heads = torch.nn.Linear(2, 8, bias=False), 2
    unet = torch.nn.Module()
    unet.attn2 = layer
    watch = PlaceWatch(unet, {"attn2": [1]}, 12)
    places = query_words(8, 12)[None, :, :2].float()
    for scale in (1.0, 2.0, 0.0):
        with torch.no_grad():
            layer.to_q.weight.fill_(7)
            layer.to_q.weight[4:6] = scale * 4**0.5 * torch.eye(2)
        layer.to_q(places)
        assert watch.loss().item() == pytest.approx((scale - 1) ** 2, abs=1e-6)


def test_the_text_encoder_learns_pictures_and_heads_look_at_them(tmp_path: Path) -> None:
    start, library = read_start(START), small_library()
    labels = {label for label, _ in (*library.models, *library.emoji)}
    scenes = {library.scenes[row]["caption"] for row in library.scene_rows}
    looks = np.random.default_rng(0).normal(size=(len(labels) + len(scenes), KEPT))
    (tmp_path / "evaluation").mkdir()
    np.save(tmp_path / "evaluation" / "looks.npy", looks.astype(np.float32))
    pupil = Base(plain_model(start), start)
    before = parts_of(pupil)["unet"]
    before = {name: tensor.clone() for name, tensor in before.items()}
    canvas = Canvas(spread=0.45, gain=1.0, typical=False)
    lesson = CanvasLesson(library, tmp_path, pupil, canvas)
    lesson.batch_size = 4
    assert lesson.tiles.keys() == labels
    assert teach(lesson, 6, 1e-3) > 0
    captions = lesson.batch(0)
    states = lesson.read(pupil.model.text_encoder, captions)
    assert states.shape[:2] == (4, 77) and len(lesson.errors(states, captions)) == 5
    heads = look_at_canvas(lesson, [draw_question(library, index) for index in range(2)])
    after = parts_of(pupil)["unet"]
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.split(".attn2.")[1] for name in changed} == {
        "to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight"
    }  # fmt: skip
    layer = pupil.model.unet.mid_block.attentions[0].transformer_blocks[0].attn2
    silent = [
        head
        for head in range(layer.heads)
        if not layer.to_out[0].weight[:, head * 32 : head * 32 + 32].any()
    ]
    assert len(silent) == 2
    assert layer.to_q.weight[silent[0] * 32 + 4 : silent[0] * 32 + 32].abs().max() == 0
    pupil.model.requires_grad_(True)
    kept = KeptCanvas(lesson, heads, pupil.model, 2, torch.device("cpu"))
    pupil.model(
        torch.randn(2, start.latent_channels, 16, 16),
        torch.tensor([5, 900]),
        pupil.told(["a lemon", ""]),
    )
    loss = kept.loss(0)
    loss.backward()
    captions = lesson.batch(KEPT_FROM)
    errors = lesson.errors(lesson.read(pupil.model.text_encoder, captions), captions)
    told = 0.1 * kept.places.loss() + 0.05 * torch.stack(errors).sum()
    assert loss.item() == pytest.approx(told.item(), rel=1e-4)
    assert all(parameter.grad is None for parameter in lesson.heads.parameters())
    assert layer.to_q.weight.grad.any() and pupil.model.unet.conv_out.weight.grad is None
    table = pupil.model.text_encoder.get_input_embeddings().weight
    assert table.grad.any()


def test_directions_keep_what_differs_most() -> None:
    features = np.random.default_rng(0).normal(size=(10, 5)) * [9, 1, 1, 1, 0.1]
    found = directions(features)
    assert found.shape == (10, KEPT) and found.std() == pytest.approx(5**0.5 / 8, rel=0.05)
    centred = features[:, 0] - features[:, 0].mean()
    assert abs(np.corrcoef(found[:, 0], centred)[0, 1]) > 0.99


def test_the_start_says_of_known_words_what_the_stored_base_says() -> None:
    start, stored = read_start(START), read_tiny_base(START)
    assert start.vocabulary is not None
    ids = torch.tensor([[49406, *encode_words("a truck in a forest"), 49407, 49407]])
    states = []
    for base, own in ((stored, ids), (start, start.vocabulary.compact(ids))):
        encoder = CLIPTextModel(base.text_config).eval()
        encoder.load_state_dict(base.text)
        with torch.no_grad():
            states.append(encode_text(encoder, own))
    assert torch.equal(*states)
