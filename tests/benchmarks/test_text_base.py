"""What `python -m benchmarks.text_base` changes in a training, asks and writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_library import small_library

from benchmarks.measured_page import measured_rows, with_table
from benchmarks.text_base.__main__ import history
from benchmarks.text_base.attention_above import with_attention_above
from benchmarks.text_base.mixes import MIXES, RECIPE
from benchmarks.text_base.muon import Muon, orthogonal
from benchmarks.text_base.objective import draw_changed, min_snr_weights, pixel_weights
from benchmarks.text_base.questions import draw_questions
from benchmarks.text_base.report import table
from benchmarks.text_base.telling import tell_apart
from benchmarks.text_base.variants import VARIANTS, Variant
from benchmarks.text_base.windows import window_corner, windowed
from subject_diffusion_core import checkpoint
from subject_diffusion_core.files.measured_guidance import SCORES_KEY
from subject_diffusion_core.tiny import tiny_base
from training.bases.base_model import BaseModel
from training.bases.vision import vision_shape
from training.loop.checkpoints import Snapshot
from training.loop.trained import TrainedModel
from training.methods.objective import draw_noise
from training.methods.registry import method_of
from training.recipes import TrainingRecipe
from training.toy.data.pictures import SIDE
from training.toy.text.compositions import middle_box, scene_alone
from training.toy.text.drawing import Base, plain_base, plain_model
from training.toy.text.export import adapter_on, base_of, with_history
from training.toy.text.questions import real_picture
from training.toy.text.start import read_start

START = Path(__file__).resolve().parents[2] / "weights" / "tiny_base.safetensors"
SHAPE, POSITIONS = torch.Size((64, 3, 4, 4)), list(range(64))
PLAIN = Variant(name="plain", title="plain")


def test_a_plain_variant_has_the_loops_own_noise() -> None:
    noise, steps = draw_changed(PLAIN, SHAPE, POSITIONS, 5)
    own, own_steps = draw_noise(SHAPE, POSITIONS, 5)
    assert torch.equal(noise, own) and torch.equal(steps, own_steps)


def test_weights_of_the_loss_have_mean_one_and_are_one_where_nothing_is_asked() -> None:
    vae = read_start(START).load_vae()
    assert torch.equal(pixel_weights(vae, 0.0), torch.ones(vae.latent_channels))
    whole, half = pixel_weights(vae, 1.0), pixel_weights(vae, 0.5)
    assert half.mean().item() == pytest.approx(1) and 1 < half.max() < whole.max()
    alphas = torch.tensor([0.9, 0.5, 0.1])
    assert torch.equal(min_snr_weights(alphas, 0.0), torch.ones(3))
    wanted = torch.tensor([5 / 10, 1 / 2, (1 / 9) / (1 + 1 / 9)])
    torch.testing.assert_close(min_snr_weights(alphas, 5.0), wanted / wanted.mean())


def test_channels_of_whole_power_weigh_the_error_as_pixels_do() -> None:
    """The linear half's directions are orthogonal, so the sum over channels is that of pixels."""
    vae = read_start(START).load_vae()
    error = torch.randn(2, vae.latent_channels, 3, 3, generator=torch.Generator().manual_seed(0))
    shown = torch.nn.functional.conv2d(error, vae.synthesis.weight)
    energy = vae.synthesis.weight.square().sum() / vae.latent_channels
    weights = pixel_weights(vae, 1.0)[:, None, None] * energy
    assert (weights * error.square()).sum().item() == pytest.approx(
        shown.square().sum().item(), rel=0.02
    )


def test_muon_brings_singular_values_to_about_one() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((24, 80), (80, 24), (32, 32)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape, generator=generator)))
        assert values[: min(shape) // 2].min() > 0.6 and values.max() < 1.35


def test_muon_lowers_a_loss_and_goes_on_from_its_state() -> None:
    """Half of the steps, its state stored and read, and the other half are all the steps."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(32, 6, generator=generator)
    wanted = inputs @ torch.randn(6, 6, generator=generator)

    def make() -> tuple[torch.nn.Module, Muon]:
        torch.manual_seed(1)
        model = torch.nn.Linear(6, 6)
        return model, Muon(list(model.named_parameters()), 0.2, 0.98)

    def take(model: torch.nn.Module, optimizer: Muon, steps: int) -> float:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = (model(inputs) - wanted).square().mean()
            loss.backward()
            optimizer.step()
        return loss.item()

    model, optimizer = make()
    first, last = take(model, optimizer, 1), take(model, optimizer, 39)
    assert last < first / 4
    begun, half = make()
    take(begun, half, 20)
    going_on, other = make()
    going_on.load_state_dict(begun.state_dict())
    other.load_state_dict(half.state_dict())
    assert take(going_on, other, 20) == last


def test_attention_above_does_nothing_at_first() -> None:
    start, recipe = read_start(START), VARIANTS["above"].training(1)
    higher = with_attention_above(start)
    questions = draw_questions(small_library(), 1)
    drawn = []
    for base in (start, higher):
        model = method_of(recipe).build_model(base, recipe, vision_shape(recipe, base), None)
        drawn.append(Base(model, base).draw(questions, steps=1, guidance=2.0))
    assert np.abs(drawn[0].astype(int) - drawn[1]).max() <= 1
    added = higher.unet.keys() - start.unet.keys()
    assert added and all(name.startswith("down_blocks.0.attentions.") for name in added)


def test_subjects_of_the_middle_stand_near_it() -> None:
    centred, cutout, rng = MIXES["centred"], small_library().cutout(0), np.random.default_rng(0)
    boxes = np.array([middle_box(cutout, centred.size, centred.spread, rng) for _ in range(200)])
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert boxes.min() >= 0 and boxes.max() <= SIDE
    assert np.abs(centres - SIDE / 2).mean() < 0.1 * SIDE


def test_a_mix_keeps_its_sizes_and_its_middle() -> None:
    mix, cutout, rng = MIXES["drawn"], small_library().cutout(0), np.random.default_rng(0)
    boxes = np.array([middle_box(cutout, mix.size, mix.spread, rng) for _ in range(200)])
    sides, centres = (boxes[:, 2:] - boxes[:, :2]).max(1), (boxes[:, :2] + boxes[:, 2:]) / 2
    assert sides.min() >= mix.size[0] * SIDE - 1 and sides.max() <= mix.size[1] * SIDE + 1
    assert np.ptp(sides) > 0.08 * SIDE and np.abs(centres - SIDE / 2).mean() < 0.03 * SIDE


def test_a_real_picture_may_have_its_subject_in_the_middle_at_a_size() -> None:
    library = small_library()
    (question,) = draw_questions(library, 1)
    rows, columns = np.nonzero(real_picture(library, question, 0.5)[1])
    assert np.ptp(rows) == np.ptp(columns) == SIDE // 2 - 1
    assert rows.mean() == columns.mean() == (SIDE - 1) / 2


def test_a_window_is_of_half_the_side_and_holds_a_point_of_a_subject() -> None:
    boxes = np.array([[0.7, 0.1, 0.9, 0.3], [0.0, 0.0, 0.0, 0.0]])
    corners = np.array([window_corner(boxes, 16, position) for position in range(200)])
    assert corners.min() >= 0 and corners.max() <= 8 and len(np.unique(corners[:, 0])) > 1
    assert (corners[:, 0] + 8 >= 0.7 * 16).all() and (corners[:, 1] <= 0.3 * 16).all()
    there = torch.arange(256.0).reshape(1, 1, 16, 16)
    tensors = {"latents": there, "location_mask": -there,
               "subject_boxes_xyxy": torch.from_numpy(boxes)[None], "other": there}  # fmt: skip
    cut = windowed(tensors, [3])
    left, top = corners[3]
    assert torch.equal(cut["latents"], there[..., top : top + 8, left : left + 8])
    assert torch.equal(cut["location_mask"], -cut["latents"]) and cut["other"] is there


def test_every_variant_is_a_recipe() -> None:
    for variant in VARIANTS.values():
        assert variant.training(7).steps == 7
        assert variant.mix in (RECIPE, *MIXES)


@pytest.mark.parametrize("name", MIXES)
def test_shares_of_a_mix_are_all_pictures(name: str) -> None:
    assert sum(MIXES[name].counts) == pytest.approx(1)


def test_a_scene_alone_is_captioned_by_the_scene() -> None:
    background = np.zeros((8, 8, 3), np.uint8)
    captions = {
        scene_alone(background, "in a forest", np.random.default_rng(seed)).caption
        for seed in range(40)
    }
    places = {"in a forest", "a photo in a forest", "a picture in a forest"}
    assert captions == places | {"an image in a forest"}


def test_a_row_has_shares_in_per_cent_and_gaps_as_they_are() -> None:
    scores = {"group": [1.0, 0.0, 1.0, 0.0], "label_gap": [0.25, 0.25]}
    about = {"samples": 320, "tera": 2.04, "guidance": 3.0, "sampling_steps": 12}
    words = {"title": "words", "about": {"read_label": 0.257}, "scores": {}}
    head, _, *rows = table([{"title": "one", "about": about, "scores": scores}, words])
    first, second = ([cell.strip() for cell in row.strip("|").split("|")] for row in rows)
    assert head.count("|") == 8 and "scene" not in head
    assert first[:4] == ["one", "320", "2.0", "3, 12"]
    assert first[4].startswith("50.0 [") and first[5:] == ["0.25 [0.25, 0.25]", "-"]
    assert second == ["words", "-", "-", "-", "-", "-", "0.26"]


def test_a_wrong_labels_loss_is_compared_by_question() -> None:
    rows = [
        {"title": "a", "about": {}, "scores": {"label_gap": [1.0, 3.0]}},
        {"title": "b", "about": {}, "scores": {"label_gap": [1.5, 3.5]}},
        {"title": "c", "about": {}, "scores": {"label_gap": [2.0]}},
    ]
    head, _, *lines = table(rows, "a")
    assert "wrong label, less (a)'s" in head
    assert [line.split("|")[-2].strip() for line in lines] == ["-", "0.50 [0.50, 0.50]", "-"]
    assert "less" not in table(rows)[0]


def test_a_table_takes_the_place_of_the_first_one() -> None:
    page = "Before.\n\n| old |\n|---|\n\nBehind.\n\n| kept |\n|---|"
    assert with_table(page, ["| new |", "|---|", "| 1 |"]) == (
        "Before.\n\n| new |\n|---|\n| 1 |\n\nBehind.\n\n| kept |\n|---|"
    )
    with pytest.raises(ValueError, match=r"--write: expected a page with at least 1 tables, got 0"):
        with_table("None.", [])


def test_rows_come_in_their_order_and_strangers_are_left_out(tmp_path: Path) -> None:
    for name in ("b-12-g2", "b-3-g2", "a", "c-1", "stranger-1"):
        (tmp_path / f"{name}.json").write_text(f'{{"title": "{name}"}}')
    rows = measured_rows(tmp_path, ("c", "a", "b"))
    assert [row["title"] for row in rows] == ["c-1", "a", "b-3-g2", "b-12-g2"]


def as_trained(model: Any, base: BaseModel, recipe: TrainingRecipe) -> TrainedModel:
    """A model as if a run had just begun with it."""
    state = {"num_skipped": 0, "features": {}}
    snapshot = Snapshot(step=0, weights={}, ema={}, optimizer={}, state=state)
    return TrainedModel(model=model, base=base, recipe=recipe, snapshot=snapshot, averaged=False)


def test_an_untrained_base_is_written_as_it_was_read() -> None:
    """Words, UNet and text encoder go through the model and back; beside it the stored adapter has
    that base's own layers where it is not an adapter's."""
    start, recipe = read_start(START), VARIANTS["few"].training(1)
    model = method_of(recipe).build_model(start, recipe, vision_shape(recipe, start), None)
    trained = as_trained(model, start, recipe)
    stored, written = (
        tiny_base.load(START),
        base_of(trained, history(trained, VARIANTS["text"]), START),
    )
    before, after = (base.config["provenance"] for base in (stored, written))
    assert after["history"][:-1] == before["history"] and after["text_to_image"]["step"] == 0
    assert after["autoencoder"] == before["autoencoder"]
    said = "text to image: 1 steps of 32 at 0.0005, seed 1, pictures 'recipe', by"
    assert after["history"][-1].startswith(said)
    for part in ("unet", "text_encoder"):
        own, again = getattr(stored, part), getattr(written, part)
        assert own.keys() == again.keys()
        assert all(torch.equal(own[name], again[name]) for name in own)
    adapter = checkpoint.load(START.parent / "tiny_adapter.safetensors")
    joined = adapter_on(written, adapter)
    channels = start.latent_channels
    kernel = joined.unet["conv_in.weight"]
    assert torch.equal(kernel[:, :channels], stored.unet["conv_in.weight"].to(kernel))
    assert torch.equal(kernel[:, channels:], adapter.unet["conv_in.weight"][:, channels:])
    for name, tensor in joined.unet.items():
        if ".fuser." in name:
            assert torch.equal(tensor, adapter.unet[name])
    assert joined.text_encoder.keys() == adapter.text_encoder.keys()


def test_files_of_other_weights_have_no_scores() -> None:
    scored = {SCORES_KEY: {"rows": {}}, "seed": 2, "history": ["a"]}
    assert with_history(scored, "b") == {"seed": 2, "history": ["a", "b"]}
    assert SCORES_KEY in scored and scored["history"] == ["a"]


def test_a_question_asks_for_another_group_and_another_scene() -> None:
    for question in draw_questions(small_library(), 8):
        other = "lemon" if question.label == "armchair" else "armchair"
        assert question.label in question.prompt and other in question.wrong_label
        assert question.label in question.wrong_scene
        place = "in a forest" if question.scene == "mall" else "in a shopping hall"
        assert place in question.wrong_scene and place not in question.prompt


def test_the_same_caption_is_not_told_apart_and_another_one_moves_the_base() -> None:
    library, start = small_library(), read_start(START)
    base = Base(plain_model(start), start)
    questions = draw_questions(library, 2)
    told = tell_apart(base, library, questions)
    assert (told["loss"] > 0).all()
    assert (told["scene_gap"] != 0).all() and (told["label_effect"] > 0).all()
    same = [replace(question, wrong_label=question.prompt) for question in questions]
    told = tell_apart(base, library, same)
    assert (told["label_gap"] == 0).all() and (told["label_effect"] == 0).all()
    assert base.draw(questions, steps=1, guidance=2.0).shape == (2, SIDE, SIDE, 3)


def test_a_joint_models_base_is_the_base_without_adapters() -> None:
    start, recipe = read_start(START), VARIANTS["joint30"].training(1)
    model = method_of(recipe).build_model(start, recipe, vision_shape(recipe, start), None)
    with torch.no_grad():
        model.unet.conv_out.bias.fill_(3)
        model.text_encoder.get_input_embeddings().weight.fill_(2)
    plain = plain_base(as_trained(model, start, recipe)).model
    assert bool((plain.unet.conv_out.bias == 3).all())
    assert bool((plain.text_encoder.get_input_embeddings().weight == 2).all())
    assert plain.shape.adapter is False
