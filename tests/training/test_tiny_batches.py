"""Batches: determinism, references of other views, and what each dropped condition removes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from tiny_tables import batch_maker, cutout_records, small_recipe

from training.toy.batches import PLACEHOLDER_TOKEN_ID, UNKNOWN_TOKEN_ID, template_chunk


def test_batch_is_a_function_of_the_step() -> None:
    maker = batch_maker(small_recipe())
    first, again, other = maker.draw(3), maker.draw(3), maker.draw(4)
    assert torch.equal(first.conditioning.patch_embeds, again.conditioning.patch_embeds)
    assert torch.equal(first.latents, again.latents)
    assert not torch.equal(first.latents, other.latents)


def test_reference_is_another_view_where_there_is_one() -> None:
    maker = batch_maker(small_recipe(same_view=0.0))
    rng = np.random.default_rng(0)
    records = cutout_records()
    for cutout, record in enumerate(records):
        drawn = {maker.reference_row(cutout, rng) for _ in range(40)}
        assert {records[row]["identity"] for row in drawn} == {record["identity"]}
        assert (cutout in drawn) == (record["view"] is None)


def test_reference_can_be_the_pasted_view_itself() -> None:
    maker = batch_maker(small_recipe(same_view=1.0))
    rng = np.random.default_rng(0)
    for cutout in range(len(cutout_records())):
        assert {maker.reference_row(cutout, rng) for _ in range(10)} == {cutout}


def test_crowded_batches_have_all_slots_and_the_others_two() -> None:
    maker = batch_maker(replace(small_recipe(crowded_share=0.5), num_subjects=4), crowded=True)
    sizes = set()
    for step in range(12):
        conditioning = maker.draw(step).conditioning
        slots = conditioning.subject_valid.shape[1]
        assert conditioning.subject_boxes_xyxy.shape[1] == slots
        assert conditioning.placeholder_positions.shape[1] == slots
        sizes.add(slots)
    assert sizes == {2, 4}


def drop_only(**shares: float) -> dict[str, float]:
    """Recipe settings under which one case is certain."""
    return {
        "drop_text": 0.0, "drop_image": 0.0, "drop_both": 0.0, "base_only": 0.0,
        "unknown_label": 0.0, **shares,
    }  # fmt: skip


def test_full_case_keeps_everything() -> None:
    conditioning = batch_maker(small_recipe(**drop_only())).draw(0).conditioning
    assert conditioning.subject_valid[:, 0].all()
    assert torch.equal(conditioning.text_valid, conditioning.subject_valid)
    assert conditioning.location_mask.amax((1, 2, 3)).gt(0).all()
    assert conditioning.adapter_scale.eq(1).all()


def test_dropped_text_is_the_empty_prompt_with_subjects() -> None:
    maker = batch_maker(small_recipe(**drop_only(drop_text=1.0)))
    conditioning = maker.draw(0).conditioning
    assert (conditioning.token_ids == conditioning.token_ids[:1]).all()
    assert conditioning.subject_valid[:, 0].all()
    assert not conditioning.text_valid.any()


def test_dropped_image_drops_tokens_mask_and_template() -> None:
    conditioning = batch_maker(small_recipe(**drop_only(drop_image=1.0))).draw(0).conditioning
    assert not conditioning.subject_valid.any()
    assert not conditioning.text_valid.any()
    assert conditioning.location_mask.eq(0).all()
    assert (conditioning.placeholder_positions == -1).all()


def test_base_case_turns_the_adapter_off() -> None:
    conditioning = batch_maker(small_recipe(**drop_only(base_only=1.0))).draw(0).conditioning
    assert conditioning.adapter_scale.eq(0).all()
    assert conditioning.location_mask.eq(0).all()


def test_unknown_label_hides_the_label_but_not_the_placeholder() -> None:
    maker = batch_maker(small_recipe(**drop_only(unknown_label=1.0)))
    batch = maker.draw(0)
    unknown = maker.vocabulary.compact(torch.tensor(UNKNOWN_TOKEN_ID))
    placeholder = maker.vocabulary.compact(torch.tensor(PLACEHOLDER_TOKEN_ID))
    ids, conditioning = batch.conditioning.token_ids, batch.conditioning
    assert unknown == 0
    for row, slot in conditioning.text_valid.nonzero().tolist():
        assert ids[row, conditioning.label_positions[row, slot]] == unknown
        assert ids[row, conditioning.placeholder_positions[row, slot]] == placeholder


def test_placeholder_word_in_the_prompt_is_not_taken_for_the_placeholder() -> None:
    chunk = template_chunk("sks sks", ["cat"], num_slots=2)
    position = int(chunk.placeholder_positions[0])
    assert chunk.token_ids[1:3].tolist() == [PLACEHOLDER_TOKEN_ID] * 2
    assert position > 3
    assert chunk.placeholder_positions[1] == -1
