"""Rows C, pictures, masks and boxes, and rows D, files: what became of each fault.

    python -m benchmarks.replay_wild.rows_cd [C] [D3] ...

with the environment's Python and COMFYUI_PATH=... runs the rows' tests and prints fixed, sentence
or open for each; exit status 1 if a row is open. `--list` only lists them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]


class Row(NamedTuple):
    """One kind of fault.

    Attributes:
        name: a letter for the section, and a number.
        what: the trigger.
        outcome: what the tests show: "fixed", it works, or "sentence", one clear sentence says why
            it does not.
        tests: `file::function` or a whole file.
    """

    name: str
    what: str
    outcome: str
    tests: tuple[str, ...]


_SUBJECT = "tests/nodes/subjects/test_subject.py"
_PICTURES = "tests/core/test_pictures.py"
_PREVIEW = "tests/nodes/subjects/test_layout_preview.py"
_LISTS = "tests/nodes/subjects/test_box_lists.py"
_LAYOUT = "tests/nodes/subjects/test_layout_text.py"
_LINKED = "tests/host/test_linked_values.py"
_READING = "tests/core/test_reading_files.py"
_SAVED = "tests/host/test_saved_subjects.py"

ROWS = (
    Row(
        "C1",
        "a picture with alpha and without a mask",
        "fixed",
        (
            f"{_SUBJECT}::test_alpha_is_a_mask",
            f"{_LINKED}::test_alpha_and_what_the_mask_marks_are_the_same_cut_out",
        ),
    ),
    Row(
        "C2",
        "Load Image's mask, painted or of a cut-out, without Invert Mask",
        "fixed",
        (f"{_SUBJECT}::test_what_a_mask_marks", f"{_PICTURES}::test_where_a_mask_counts"),
    ),
    Row(
        "C3",
        "an animation as one subject",
        "fixed",
        (
            f"{_SUBJECT}::test_an_animation_counts_with_its_first_views",
            f"{_LINKED}::test_an_animation_is_told_on_the_node",
        ),
    ),
    Row(
        "C4",
        "EXIF orientations: the editor's picture and the server's",
        "fixed",
        ("tests/host/test_picture_route.py",),
    ),
    Row(
        "C5",
        "a box thinner than a pixel of the preview",
        "fixed",
        (
            f"{_PREVIEW}::test_the_smallest_boxes",
            f"{_PREVIEW}::test_a_mask_of_one_pixel_finds_its_place",
        ),
    ),
    Row(
        "C6",
        "pictures of 1 or 2 channels, channels first, masks and dictionaries as pictures",
        "sentence",
        (
            f"{_PICTURES}::test_pictures_in_other_forms",
            f"{_PICTURES}::test_what_is_no_picture",
            f"{_PICTURES}::test_masks_in_other_forms",
            f"{_PICTURES}::test_what_is_no_mask",
            f"{_LINKED}::test_what_is_no_picture",
        ),
    ),
    Row(
        "C7",
        "boxes of another canvas, none, too many, or from 0 to 1000",
        "sentence",
        (f"{_LISTS}::test_what_is_refused", f"{_LISTS}::test_boxes_of_a_smaller_canvas"),
    ),
    Row(
        "C8",
        "layout as an object or null through the API",
        "fixed",
        (
            f"{_LINKED}::test_a_layout_as_an_object",
            f"{_LAYOUT}::test_an_object_is_read_as_its_text",
            f"{_LAYOUT}::test_nothing_said",
        ),
    ),
    Row(
        "C9",
        "nested texts, numbers of 400 digits, megabytes, half surrogates",
        "sentence",
        (
            f"{_LISTS}::test_what_is_refused",
            f"{_LAYOUT}::test_bad_text_gets_a_sentence",
            f"{_SUBJECT}::test_labels_that_are_none",
            f"{_LINKED}::test_a_linked_value",
            "tests/devtools/test_api_sentences.py::test_megabytes_are_not_repeated",
            "tests/devtools/test_jobs.py::test_a_bad_subject_is_one_sentence",
        ),
    ),
    Row(
        "C10",
        "Layout's preview against the board and the result",
        "fixed",
        (
            f"{_PREVIEW}::test_the_cut_out_fills_its_box",
            f"{_PREVIEW}::test_board_and_drawing_show_the_same_cut_out",
        ),
    ),
    Row(
        "C11",
        "a box typed in Subject after the board was used",
        "fixed",
        (
            "tests/browser/test_layout_editor_kept.py"
            "::test_a_box_that_is_typed_afterwards_takes_over",
        ),
    ),
    Row(
        "C12",
        "Layout's size unlike the latent's",
        "sentence",
        (f"{_LINKED}::test_a_layout_of_other_proportions_is_told_when_sampling_starts",),
    ),
    Row(
        "C13",
        "a negative_image of NaN; a label embedding:x",
        "sentence",
        (
            f"{_SUBJECT}::test_labels_that_are_none",
            f"{_LINKED}::test_a_negative_image_of_nan",
        ),
    ),
    Row(
        "C14",
        "Layout with large references converts a small part of them",
        "fixed",
        (f"{_PREVIEW}::test_a_large_reference_is_sampled_before_it_is_converted",),
    ),
    Row(
        "D1",
        "two servers save at once",
        "fixed",
        (f"{_READING}::test_a_name_is_taken_by_one", f"{_SAVED}::test_two_servers_save_at_once"),
    ),
    Row(
        "D2",
        "a loaded file is written over in place",
        "fixed",
        (
            f"{_READING}::test_a_loaded_file_may_be_written_over",
            f"{_READING}::test_a_file_that_changes_while_it_is_read",
        ),
    ),
    Row(
        "D3",
        "100,000 subjects, 2000 views, thumbnails of 8000 pixels in a file",
        "sentence",
        (
            f"{_READING}::test_subjects_outside_the_limits",
            f"{_READING}::test_adapter_configurations_outside_the_limits",
        ),
    ),
    Row(
        "D4",
        "files that hold what the node refuses",
        "sentence",
        (
            f"{_READING}::test_subjects_outside_the_limits",
            f"{_SUBJECT}::test_numbers_that_would_drop_the_subject",
            f"{_SAVED}::test_a_file_with_a_box_of_words_names_itself",
        ),
    ),
    Row(
        "D5",
        "Attention Maps with pictures out of the cache, or of another MODEL",
        "fixed",
        ("tests/host/test_attention_runs.py",),
    ),
    Row("D6", "a million tensors in a file", "sentence", (f"{_READING}::test_headers_that",)),
    Row(
        "D7",
        "Segment Loader with an LFS pointer or a web page",
        "sentence",
        ("tests/host/test_segment.py::test_a_part_of_another_file_is_refused",),
    ),
    Row(
        "D8",
        "Save Subjects without a folder in its prefix",
        "fixed",
        (
            f"{_SAVED}::test_wherever_it_is_saved_it_is_found",
            f"{_SAVED}::test_prefixes_that_lead_elsewhere",
        ),
    ),
    Row("D9", "lists of 10,000 files", "fixed", ("tests/host/test_folder_lists.py",)),
    Row("D10", "what the registry gets", "fixed", ("tests/host/test_archive.py",)),
)


def chosen_rows(names: Sequence[str]) -> list[Row]:
    known = {row.name for row in ROWS} | {row.name[0] for row in ROWS}
    for name in names:
        if name not in known:
            raise SystemExit(f"rows_cd: expected one of {' '.join(sorted(known))}, got {name}.")
    return [row for row in ROWS if not names or row.name in names or row.name[0] in names]


def run_tests(rows: Sequence[Row]) -> dict[str, str]:
    """`file::function[case]` -> "passed", "failed" or "skipped", each kind of tests in a process of
    its own."""
    by_process: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for test in row.tests:
            by_process[test.split("/")[1]].add(test.partition("::")[0])
    found: dict[str, str] = {}
    for files in by_process.values():
        found |= _run(sorted(files))
    return found


def _run(files: Sequence[str]) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "--tb=line", f"--junitxml={report}"]
        subprocess.run([*command, *files], cwd=ROOT, check=False)
        return {
            f"{case.attrib['classname'].replace('.', '/')}.py::{case.attrib['name']}": _state(case)
            for case in ElementTree.parse(report).iter("testcase")
        }


def _state(case: ElementTree.Element) -> str:
    kinds = {child.tag for child in case}
    if kinds & {"failure", "error"}:
        return "failed"
    return "skipped" if "skipped" in kinds else "passed"


def state_of(row: Row, found: Mapping[str, str]) -> str:
    """The row's outcome if all its tests pass, else "open"; "not tried" where none of them ran.

    >>> row = Row("C0", "", "fixed", ("a.py::test_x", "b.py"))
    >>> state_of(row, {"a.py::test_x[one]": "passed", "b.py::test_y": "passed"})
    'fixed'
    >>> state_of(row, {"a.py::test_x[one]": "passed"})
    'open'
    """
    states = [
        {state for name, state in found.items() if name.startswith(test)} for test in row.tests
    ]
    if not all(states) or any("failed" in each for each in states):
        return "open"
    return row.outcome if all("passed" in each for each in states) else "not tried"


def main(arguments: Sequence[str]) -> int:
    rows = chosen_rows([name for name in arguments if name != "--list"])
    found = {} if "--list" in arguments else run_tests(rows)
    states = [row.outcome if not found else state_of(row, found) for row in rows]
    for row, state in zip(rows, states, strict=True):
        print(f"{row.name:4} {state:10} {row.what}")
    print(", ".join(f"{states.count(state)} {state}" for state in sorted(set(states))))
    return 1 if "open" in states else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
