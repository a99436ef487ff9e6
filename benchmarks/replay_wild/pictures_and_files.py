"""Rows C, pictures, masks and boxes, and rows D, files."""

from __future__ import annotations

from .rows import Row

_SUBJECT = "tests/nodes/subjects/test_subject.py"
_PICTURES = "tests/core/test_pictures.py"
_PREVIEW = "tests/nodes/subjects/test_layout_preview.py"
_LISTS = "tests/nodes/subjects/test_box_lists.py"
_LAYOUT = "tests/nodes/subjects/test_layout_text.py"
_LINKED = "tests/host/test_linked_values.py"
_READING = "tests/core/test_reading_files.py"
_SAVED = "tests/host/test_saved_subjects.py"


PICTURES = (
    Row(
        name="C1",
        what="a picture with alpha and without a mask",
        tests=(
            f"{_SUBJECT}::test_alpha_is_a_mask",
            f"{_LINKED}::test_alpha_and_what_the_mask_marks_are_the_same_cut_out",
        ),
    ),
    Row(
        name="C2",
        what="Load Image's mask, painted or of a cut-out, without Invert Mask",
        tests=(
            f"{_SUBJECT}::test_what_a_mask_marks",
            f"{_PICTURES}::test_where_a_mask_counts_and_what_it_marks",
        ),
    ),
    Row(
        name="C3",
        what="an animation as one subject",
        tests=(
            "tests/host/test_views.py::test_an_animation_counts_with_its_first_views",
            f"{_LINKED}::test_an_animation_is_told_on_the_node",
        ),
    ),
    Row(
        name="C4",
        what="EXIF orientations: the editor's picture and the server's",
        tests=("tests/host/test_picture_route.py",),
    ),
    Row(
        name="C5",
        what="a box thinner than a pixel of the preview",
        tests=(
            f"{_PREVIEW}::test_the_smallest_boxes",
            f"{_PREVIEW}::test_a_mask_of_one_pixel_finds_its_place",
        ),
    ),
    Row(
        name="C6",
        what="pictures of 1 or 2 channels, channels first, masks and dictionaries as pictures",
        outcome="sentence",
        tests=(
            f"{_PICTURES}::test_pictures_in_other_forms",
            f"{_PICTURES}::test_what_is_no_picture",
            f"{_PICTURES}::test_masks_in_other_forms",
            f"{_PICTURES}::test_what_is_no_mask",
            f"{_LINKED}::test_what_is_no_picture",
        ),
    ),
    Row(
        name="C7",
        what="boxes of another canvas, none, too many, or from 0 to 1000",
        outcome="sentence",
        tests=(f"{_LISTS}::test_what_is_refused", f"{_LISTS}::test_boxes_of_a_smaller_canvas"),
    ),
    Row(
        name="C8",
        what="layout as an object or null through the API",
        tests=(
            f"{_LINKED}::test_a_layout_as_an_object",
            f"{_LAYOUT}::test_an_object_is_read_as_its_text",
            f"{_LAYOUT}::test_nothing_said",
        ),
    ),
    Row(
        name="C9",
        what="nested texts, numbers of 400 digits, megabytes, half surrogates",
        outcome="sentence",
        tests=(
            f"{_LISTS}::test_what_is_refused",
            f"{_LAYOUT}::test_bad_text_gets_a_sentence",
            f"{_SUBJECT}::test_labels_that_are_none",
            f"{_LINKED}::test_a_linked_value",
            "tests/devtools/test_api_sentences.py::test_megabytes_are_not_repeated",
            "tests/devtools/test_jobs.py::test_a_bad_subject_is_one_sentence",
        ),
    ),
    Row(
        name="C10",
        what="Layout's preview against the board and the result",
        tests=(
            f"{_PREVIEW}::test_the_cut_out_fills_its_box",
            f"{_PREVIEW}::test_board_and_drawing_show_the_same_cut_out",
        ),
    ),
    Row(
        name="C11",
        what="a box typed in Subject after the board was used",
        tests=(
            "tests/browser/test_layout_editor_kept.py"
            "::test_a_box_that_is_typed_afterwards_takes_over",
        ),
    ),
    Row(
        name="C12",
        what="Layout's size unlike the latent's",
        outcome="sentence",
        tests=(f"{_LINKED}::test_a_layout_of_other_proportions_is_told_when_sampling_starts",),
    ),
    Row(
        name="C13",
        what="a negative_image of NaN; a label embedding:x",
        outcome="sentence",
        tests=(
            f"{_SUBJECT}::test_labels_that_are_none",
            f"{_LINKED}::test_a_negative_image_of_nan",
        ),
    ),
    Row(
        name="C14",
        what="Layout with large references converts a small part of them",
        tests=(f"{_PREVIEW}::test_a_large_reference_is_sampled_before_it_is_converted",),
    ),
)

FILES = (
    Row(
        name="D1",
        what="two servers save at once",
        tests=(
            f"{_READING}::test_a_name_is_taken_by_one",
            f"{_SAVED}::test_two_servers_save_at_once",
        ),
    ),
    Row(
        name="D2",
        what="a loaded file is written over in place",
        tests=(
            f"{_READING}::test_a_loaded_file_may_be_written_over",
            f"{_READING}::test_a_file_that_changes_while_it_is_read",
        ),
    ),
    Row(
        name="D3",
        what="100,000 subjects, 2000 views, thumbnails of 8000 pixels in a file",
        outcome="sentence",
        tests=(
            f"{_READING}::test_subjects_outside_the_limits",
            f"{_READING}::test_adapter_configurations_outside_the_limits",
        ),
    ),
    Row(
        name="D4",
        what="files that hold what the node refuses",
        outcome="sentence",
        tests=(
            f"{_READING}::test_subjects_outside_the_limits",
            f"{_SUBJECT}::test_numbers_that_would_drop_the_subject",
            f"{_SAVED}::test_a_file_with_a_box_of_words_names_itself",
        ),
    ),
    Row(
        name="D5",
        what="Attention Maps with pictures out of the cache, or of another MODEL",
        tests=("tests/host/test_attention_runs.py",),
    ),
    Row(
        name="D6",
        what="a million tensors in a file",
        outcome="sentence",
        tests=(f"{_READING}::test_headers_that_are_refused",),
    ),
    Row(
        name="D7",
        what="Segment Loader with an LFS pointer or a web page",
        outcome="sentence",
        tests=("tests/host/test_segment.py::test_a_part_of_another_file_is_refused",),
    ),
    Row(
        name="D8",
        what="Save Subjects without a folder in its prefix",
        tests=(
            f"{_SAVED}::test_wherever_it_is_saved_it_is_found",
            f"{_SAVED}::test_prefixes_that_lead_elsewhere",
        ),
    ),
    Row(name="D9", what="lists of 10,000 files", tests=("tests/host/test_folder_lists.py",)),
    Row(name="D10", what="what the registry gets", tests=("tests/host/test_archive.py",)),
)
