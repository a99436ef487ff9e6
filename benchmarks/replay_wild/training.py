"""Rows T: what went wrong for people who trained."""

from __future__ import annotations

from .rows import Row

_FAULTS = "tests/training/test_faults.py"
_COUNTED = "tests/training/test_counted_and_rounded.py"
_DATASET = "tests/training/test_dataset.py"


TRAINING = (
    Row(
        name="T1",
        what="precompute again, with a longer list or other settings",
        tests=(f"{_FAULTS}::test_shards_are_made_again_where_the_list_or_settings_changed",),
    ),
    Row(
        name="T2",
        what="resumed without --init, or with another one",
        outcome="sentence",
        tests=(f"{_FAULTS}::test_a_run_does_not_go_on_without_what_it_began_with",),
    ),
    Row(
        name="T3",
        what="shards of another base",
        outcome="sentence",
        tests=(f"{_FAULTS}::test_features_of_other_networks_are_refused",),
    ),
    Row(
        name="T4",
        what="one bad sample",
        tests=(f"{_FAULTS}::test_a_bad_sample_is_skipped_and_named",),
    ),
    Row(
        name="T5",
        what="a full disk",
        outcome="sentence",
        tests=(
            "tests/training/test_train_loop.py::test_full_disk_costs_only_the_new_checkpoint",
            f"{_FAULTS}::test_only_a_full_disk_is_called_one",
        ),
    ),
    Row(
        name="T6",
        what="a first start that fails",
        tests=(f"{_FAULTS}::test_a_start_that_fails_binds_nothing",),
    ),
    Row(
        name="T7",
        what="settings of inf, nan and below 0; --held-out -3, --samples-per-shard -1",
        outcome="sentence",
        tests=(
            f"{_FAULTS}::test_settings_that_end_in_nan_are_refused",
            f"{_FAULTS}::test_numbers_that_cannot_be_are_refused",
            f"{_FAULTS}::test_checkpoints_are_finite",
        ),
    ),
    Row(
        name="T8",
        what="Ctrl-C",
        tests=(f"{_FAULTS}::test_stopping_keeps_the_step_and_says_how_to_go_on",),
    ),
    Row(
        name="T9",
        what="too few subjects for sample sheets",
        outcome="sentence",
        tests=(f"{_FAULTS}::test_pictures_that_cannot_be_used_are_named",),
    ),
    Row(
        name="T10",
        what="captions without their label, pictures without mask or alpha",
        outcome="sentence",
        tests=(f"{_FAULTS}::test_pictures_that_cannot_be_used_are_named",),
    ),
    Row(
        name="T11",
        what="words about a kernel head every command",
        tests=(f"{_FAULTS}::test_no_command_begins_with_words_about_kernels",),
    ),
    Row(
        name="T12",
        what="a trial with --set steps=20",
        tests=(f"{_FAULTS}::test_a_short_trial_warms_up_shortly",),
    ),
    Row(
        name="T13",
        what="the system's Python",
        outcome="sentence",
        tests=(f"{_FAULTS}::test_a_python_without_the_packages_is_one_sentence",),
    ),
    Row(
        name="T14",
        what="counted arithmetic without attention",
        tests=(f"{_COUNTED}::test_attention_is_counted",),
    ),
    Row(
        name="T15",
        what="a reader that reads what it does not use",
        tests=(f"{_DATASET}::test_only_the_tensor_that_is_used_is_read",),
    ),
    Row(
        name="T16",
        what="one shard more",
        tests=(f"{_DATASET}::test_a_new_shard_costs_its_own_indexing",),
    ),
    Row(
        name="T17",
        what="a small delta added to a weight in bf16",
        tests=(f"{_COUNTED}::test_a_small_delta_is_not_rounded_away_in_bf16",),
    ),
    Row(
        name="T18",
        what="features of other pictures than the loop would compute",
        tests=(f"{_DATASET}::test_precomputed_features_are_what_the_loop_computes",),
    ),
    Row(
        name="T19",
        what="an extra that lacks what its purpose imports",
        tests=("tests/test_extras.py",),
    ),
    Row(
        name="T20",
        what="a map loss unlike the reference's",
        tests=("tests/core/test_losses.py::test_balanced_is_the_references",),
    ),
)
