"""Recipes: what they are, how they are changed, what they refuse."""

from __future__ import annotations

import dataclasses

import pytest

from training.__main__ import main
from training.recipes import RECIPES, TrainingRecipe, recipe_named, with_settings


def test_the_paper_in_numbers() -> None:
    recipe = recipe_named("paper_sd2")
    assert recipe.global_batch_size == 24 * 12 and recipe.accumulation(24) == 1
    assert (recipe.steps, recipe.learning_rate, recipe.warmup_steps) == (300_000, 3e-5, 1000)
    assert (recipe.num_subjects, recipe.map_loss_weight, recipe.text_encoder) == (2, 0.01, "full")
    assert recipe.drop_text == recipe.drop_image == recipe.drop_both == 0.05


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_frozen_and_complete(name: str) -> None:
    recipe = recipe_named(name)
    assert recipe.name == name and recipe.summary
    assert TrainingRecipe(**recipe.as_dict()) == recipe
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.steps = 1  # type: ignore[misc]
    assert recipe.accumulation(1) >= 1


ABLATIONS = (
    "location_control=false", "box_coordinates=false", "adapter=false", "map_loss=off",
    "image_cls=false", "map_loss=l1", "num_subjects=8", "mask_kind=segmentation",
)  # fmt: skip


@pytest.mark.parametrize("setting", ABLATIONS)
@pytest.mark.parametrize("name", ["paper_sd2", "one_gpu_sd15", "debug_cpu"])
def test_every_part_of_the_ablation_is_a_switch(name: str, setting: str) -> None:
    changed = with_settings(recipe_named(name), [setting])
    assert changed != recipe_named(name)


WRONG = [
    ("num_subjects=9", "num_subjects: expected 1 to 8, got 9"),
    ("map_loss=l2", "map_loss: expected one of balanced_l1, l1, off, got 'l2'"),
    ("steps=many", "steps: expected a whole number, got 'many'"),
    ("adapter=maybe", "adapter: expected true or false"),
    ("mapp_loss=off", "Did you mean map_loss"),
    ("steps", "expected key=value, got 'steps'"),
    ("micro_batch_size=3", "micro_batch_size: expected a divisor of global_batch_size 4"),
    ("conv_in=false", "location_control: expected False where conv_in is not trained"),
    ("token_positions=true", "token_positions: expected False where query_positions is off"),
    ("drop_text=0.95", "drop_text + drop_image + drop_both up to 1"),
    ("resolution=500", "resolution: expected a multiple of 64 pixels, got 500"),
    ("ema_decay=1", "ema_decay: expected 0 (none) or a decay below 1"),
    ("warmup_steps=50", "warmup_steps: expected 0 to steps (40)"),
]


@pytest.mark.parametrize(("setting", "sentence"), WRONG)
def test_wrong_settings_are_refused_with_a_sentence(setting: str, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        with_settings(recipe_named("debug_cpu"), [setting])
    assert sentence in str(caught.value)


def test_combinations_that_cannot_work() -> None:
    recipe = recipe_named("debug_cpu")
    nothing = ["adapter=false", "image_cls=false", "location_control=false"]
    with pytest.raises(ValueError, match="at least one of adapter, image_cls, location_control"):
        with_settings(recipe, nothing)
    with pytest.raises(ValueError, match="offload_optimizer: expected False with adamw8bit"):
        with_settings(recipe, ["optimizer=adamw8bit", "offload_optimizer=true"])
    with pytest.raises(ValueError, match=r"micro_batch_size x processes \(2 x 3\)"):
        recipe.accumulation(3)


def test_recipe_of_the_small_model_has_its_own_command() -> None:
    with pytest.raises(ValueError, match="Run `python -m training tiny`, or choose tiny_adapter"):
        recipe_named("tiny")
    with pytest.raises(ValueError, match="got 'paper'"):
        recipe_named("paper")


def test_command_lists_and_shows(capsys: pytest.CaptureFixture[str]) -> None:
    main(["recipes"])
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("tiny ", *RECIPES))
    main(["recipes", "one_gpu_sd2", "--set", "num_subjects=4"])
    shown = capsys.readouterr().out
    assert "num_subjects           4" in shown and "text_encoder           lora" in shown
    with pytest.raises(SystemExit, match="error: num_subjects: expected 1 to 8"):
        main(["recipes", "one_gpu_sd2", "--set", "num_subjects=12"])


COMMANDS = (
    "tiny", "recipes", "precompute", "train", "export", "import-reference", "evaluate",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0 and f"python -m training {command}" in text
    assert len(text.splitlines()) > 12
