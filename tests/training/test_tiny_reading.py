"""What the tiny recipe's settings make of a sample: views, slots, the base alone, hidden labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_parts import IDENTITIES, small_batch, small_dataset, small_recipe, small_world

from training.dataset.bad_sample import BadSample
from training.dataset.reference_pool import POOL_NAME, ReferencePool

NOTHING_DROPPED = {
    "drop_text": 0.0, "drop_image": 0.0, "drop_both": 0.0, "base_only": 0.0, "unknown_label": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world(tmp_path_factory.mktemp("world") / "shards")


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world(tmp_path_factory.mktemp("world") / "crowded", crowded=True)


def batch_of(shards: Path, **settings: Any) -> dict[str, torch.Tensor]:
    recipe = small_recipe(**{**NOTHING_DROPPED, **settings})
    joint = recipe.joint
    return small_batch(shards, recipe, joint).tensors


def drawn_cutouts(pool: ReferencePool, cutout: int, same_view: float) -> set[int]:
    """The cut-outs of 40 draws, told by their features."""
    rows = {tuple(pool.read(row)["image_embeds"][:3].tolist()): c for c, of in pool.rows.items()
            for row in of}  # fmt: skip
    rng = np.random.default_rng(0)
    draws = (pool.draw(cutout, same_view, rng)["image_embeds"] for _ in range(40))
    return {rows[tuple(draw[:3].tolist())] for draw in draws}


def test_reference_is_another_view_where_there_is_one(shards: Path) -> None:
    pool = ReferencePool(shards / POOL_NAME)
    assert drawn_cutouts(pool, 0, same_view=0.0) == {1, 2}
    assert drawn_cutouts(pool, 4, same_view=0.0) == {3, 5}
    assert drawn_cutouts(pool, 6, same_view=0.0) == {6}, IDENTITIES[2]
    assert drawn_cutouts(pool, 0, same_view=1.0) == {0}


def test_a_cutout_that_the_pool_lacks_is_a_bad_sample(shards: Path) -> None:
    with pytest.raises(BadSample, match="pool of references lacks"):
        ReferencePool(shards / POOL_NAME).draw(99, 0.0, np.random.default_rng(0))


def test_crowded_steps_have_all_slots_and_the_others_two(crowded: Path) -> None:
    recipe = small_recipe(num_subjects=4, few_slots=2, crowded_share=0.5)
    dataset = small_dataset(crowded, recipe, recipe.joint)
    sizes = []
    for step in range(12):
        items = [dataset[4 * step + place] for place in range(4)]
        (slots,) = {len(item.tensors["subject_valid"]) for item in items}
        for name in ("subject_boxes_xyxy", "placeholder_positions", "patch_embeds"):
            assert all(len(item.tensors[name]) == slots for item in items), name
        sizes.append(slots)
    assert set(sizes) == {2, 4}
    step = sizes.index(4)
    firsts = [dataset.crowding.sample(4 * step + place, np.random.default_rng(place))
              for place in (0, 1)]  # fmt: skip
    counts = dataset.catalogue.num_entities()
    assert all(counts[shard][row] == 3 for shard, row in firsts)


def test_full_case_keeps_everything(shards: Path) -> None:
    tensors = batch_of(shards)
    assert tensors["subject_valid"][:, 0].all()
    assert torch.equal(tensors["text_valid"], tensors["subject_valid"])
    assert tensors["location_mask"].amax((1, 2, 3)).gt(0).all()
    assert tensors["adapter_scale"].eq(1).all()


def test_dropped_text_is_the_empty_prompt_with_subjects(shards: Path) -> None:
    tensors = batch_of(shards, drop_text=1.0)
    assert (tensors["token_ids"] == tensors["token_ids"][:1]).all()
    assert tensors["subject_valid"][:, 0].all() and not tensors["text_valid"].any()


def test_dropped_image_drops_tokens_mask_and_template(shards: Path) -> None:
    tensors = batch_of(shards, drop_image=1.0)
    assert not tensors["subject_valid"].any() and not tensors["text_valid"].any()
    assert tensors["location_mask"].eq(0).all()
    assert (tensors["placeholder_positions"] == -1).all()
    assert tensors["adapter_scale"].eq(1).all()


def test_the_base_alone_has_no_adapter_and_no_subjects(shards: Path) -> None:
    recipe = small_recipe(**{**NOTHING_DROPPED, "base_only": 1.0, "map_loss": "off"})
    dataset = small_dataset(shards, recipe, recipe.joint)
    items = [dataset[position].tensors for position in range(60)]
    assert all(t["adapter_scale"] == 0 and not t["subject_valid"].any() for t in items)
    assert all(t["location_mask"].eq(0).all() and not t["map_valid"].any() for t in items)
    lengths = [int((t["token_ids"] != t["token_ids"][-1]).sum()) for t in items]
    assert 0 < sum(length == 1 for length in lengths) < 20  # now and then no text: start token only


def test_unknown_label_hides_the_label_but_not_the_placeholder(shards: Path) -> None:
    recipe = small_recipe(**{**NOTHING_DROPPED, "unknown_label": 1.0})
    vocabulary = small_dataset(shards, recipe, recipe.joint).vocabulary
    tensors = batch_of(shards, unknown_label=1.0)
    placeholder = vocabulary.compact(torch.tensor(recipe.joint.placeholder_token_id))
    ids = tensors["token_ids"]
    found = tensors["text_valid"].nonzero().tolist()
    assert found
    for row, slot in found:
        assert ids[row, tensors["label_positions"][row, slot]] == 0
        assert ids[row, tensors["placeholder_positions"][row, slot]] == placeholder


def test_plain_text_to_image_reads_no_references(shards: Path) -> None:
    from training.recipes import recipe_named

    recipe = recipe_named("text_to_image_tiny")
    tensors = small_dataset(shards, small_recipe(), recipe)[0].tensors
    assert "patch_embeds" not in tensors and "references" not in tensors
    assert tensors["pixels"].shape == (3, 128, 128)
