"""Sentences read out of sources, and the catalogue of all of them in Chinese."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from devtools.sentence_catalogue import (
    BY_HAND,
    GAP,
    chinese_sentences,
    escaped,
    find_sentences,
    required_templates,
    write_templates,
)
from devtools.sentence_forms import Sentences
from devtools.source_index import SourceIndex

ROOT = Path(__file__).resolve().parents[2]
SAME_IN_CHINESE = {"IP-Adapter {0}", "Stable Diffusion 1.5", "Stable Diffusion 2"}


def found_in(source: str, **others: str) -> Sentences:
    """What is found in a module `nodes/own.py`, beside `others` in the same folder."""
    texts = {f"nodes/{name}.py": text for name, text in {"own": source, **others}.items()}
    return find_sentences(SourceIndex.of_texts(texts))


def sentences_in(source: str, **others: str) -> list[str]:
    found = found_in(source, **others)
    assert found.unresolved == {}
    return sorted(found.sentences)


def test_an_error_with_values_in_it() -> None:
    source = 'raise ValueError(f"{name}: expected a mask, got {len(x):g}. " "Connect one.")'
    assert sentences_in(source) == ["{0}: expected a mask, got {1}. Connect one."]


def test_constants_are_written_out_also_imported_ones() -> None:
    source = """
from .words import NODE, KINDS
FORMS = f"one of {', '.join(KINDS)}"
raise ValueError(f"{NODE}: expected {FORMS}.")
"""
    words = 'NODE = "Subject Node"\nKINDS = ("a", "b")\n'
    assert sentences_in(source, words=words) == ["Subject Node: expected one of a, b."]


def test_few_alternatives_become_sentences_of_their_own() -> None:
    source = """
def check(number, is_whole):
    kind = "whole number" if is_whole else "number"
    hint = "" if is_whole else f" It is {number}."
    raise ValueError(f"x: expected a {kind}." + hint)
"""
    assert sentences_in(source) == [
        "x: expected a number.",
        "x: expected a number. It is {0}.",
        "x: expected a whole number.",
        "x: expected a whole number. It is {0}.",
    ]


def test_format_and_numbers() -> None:
    source = 'raise ValueError("{}: expected {} cells, got {}.".format(name, *wanted))'
    assert sentences_in(source) == ["{0}: expected {1} cells, got {2}."]
    assert sentences_in('raise ValueError(f"Picture {index + 1} has nothing.")') == [
        "Picture {0} has nothing."
    ]


def test_what_callers_give_for_a_parameter_is_a_phrase() -> None:
    source = """
def require(argument, value, action="Look at it"):
    raise ValueError(f"{argument}: expected more, got {value}. {action}.")
require("steps", 1, "Raise it")
require(f"{owner}'s steps", 1, action="Raise both")
require("mask_kind", 1)
"""
    found = found_in(source)
    assert list(found.sentences) == ["{0}: expected more, got {1}. {2}."]
    assert sorted(found.phrases) == ["Look at it", "Raise both", "Raise it", "{0}'s steps"]


def test_attributes_of_objects_and_loops_over_tuples_are_phrases() -> None:
    source = """
class File:
    def __init__(self, kind):
        self.kind = kind
    @property
    def encoder(self):
        return "the encoder of it"
File("a face of its own")
def check(file, block):
    checks = [("text width", 1)]
    checks.append((f"width of {block}", 2))
    for what, wanted in checks:
        raise ValueError(f"model: expected {what} {wanted} for {file.kind}, {file.encoder}.")
"""
    assert sorted(found_in(source).phrases) == [
        "a face of its own",
        "text width",
        "the encoder of it",
        "width of {0}",
    ]


def test_errors_made_by_functions() -> None:
    source = """
def damaged(path, problem):
    return FileError(f"{path}: damaged ({problem}).")
def read(path):
    raise damaged(path, "no header there") from None
"""
    found = found_in(source)
    assert (list(found.sentences), list(found.phrases)) == (
        ["{0}: damaged ({1})."],
        ["no header there"],
    )


def test_lists_of_warnings_however_they_are_made() -> None:
    source = """
def of_labels(subjects):
    return [f"{subject}: its label is missing." for subject in subjects]
def of_boxes(subjects):
    sentences = []
    for subject in subjects:
        sentences.append(f"{subject}: its box is small.")
    return sentences
def read(masks, warn):
    warn("The mask was turned.")
def execute(subjects):
    show_warnings([*of_labels(subjects), "A constant one."] + of_boxes(subjects))
    show_text([f"{len(subjects)} steps are left."])
"""
    assert sentences_in(source) == [
        "A constant one.",
        "The mask was turned.",
        "{0} steps are left.",
        "{0}: its box is small.",
        "{0}: its label is missing.",
    ]


def test_what_cannot_be_found_out_is_listed() -> None:
    found = found_in("def f(x):\n    raise ValueError(x.text())\nshow_warnings(others())")
    assert sorted(found.unresolved) == [
        "nodes/own.py: ValueError(x.text())",
        "nodes/own.py: others()",
    ]
    assert found.sentences == {}


def test_an_error_that_was_made_before() -> None:
    source = 'def f(x):\n    error = ValueError(f"{x} is missing.")\n    raise error'
    assert sentences_in(source) == ["{0} is missing."]
    assert list(found_in("raise error").unresolved) == ["nodes/own.py: error"]


def test_our_own_mistakes_and_errors_that_pass_through_are_no_sentences() -> None:
    assert sentences_in('raise AssertionError("it does not end")\nraise\nraise ValueError') == []


def test_every_sentence_of_the_pack_has_its_chinese_and_none_is_left_over() -> None:
    """`python -m devtools.sentence_catalogue` writes the new ones, to be translated by hand."""
    required, chinese = required_templates(ROOT), chinese_sentences(ROOT)
    assert len(required) > 400
    missing = [f"{required[one]}: {one}" for one in required if not chinese.get(one)]
    assert missing == []
    assert sorted(chinese.keys() - required.keys()) == []
    assert list(chinese) == sorted(chinese)


@pytest.mark.parametrize(
    "template",
    [
        "{0}: its label '{1}' is not in the prompt; name it there for a better picture.",
        "{0}: expected shape ({1}), got {2}. {3}.",
        "expected a file in {0}, got '{1}'. There is {2}; put {3} there and reload the page.",
        "{0}'s mask: took it for that of the subject. Choose what it marks in `mask_marks`.",
        "Going on after {0} steps.",
    ],
)
def test_sentences_of_all_kinds_are_in_the_catalogue(template: str) -> None:
    assert template in chinese_sentences(ROOT)


def test_chinese_texts_are_chinese_with_the_same_gaps() -> None:
    for template, text in chinese_sentences(ROOT).items():
        assert re.search("[\u4e00-\u9fff\uff1a\uff08]", text) or text in SAME_IN_CHINESE, text
        assert sorted(GAP.findall(text)) == sorted(GAP.findall(template)), template


def test_the_pages_message_format_can_read_every_text() -> None:
    for text in chinese_sentences(ROOT).values():
        rest = GAP.sub("", text)
        for sign in "{}@$|":
            rest = rest.replace("{'" + sign + "'}", "")
        assert not set(rest) & set("{}@$|"), text
    assert escaped('{0} {"x": 1}') == "{0} {'{'}\"x\": 1{'}'}"


def test_new_sentences_are_written_and_old_ones_go(tmp_path: Path) -> None:
    for folder in ("nodes", "subject_diffusion_core", "locales/en", "locales/zh"):
        (tmp_path / folder).mkdir(parents=True)
    passing, *others = BY_HAND
    assert others == []
    path, source = passing.split(": ", 1)
    (tmp_path / path).write_text(f"raise {source}\nwarn('No mask is there.')\n", encoding="utf-8")
    node_names = '{"N": {"display_name": "A Node"}}'
    (tmp_path / "locales/en/nodeDefs.json").write_text(node_names, encoding="utf-8")
    main = tmp_path / "locales/zh/main.json"
    kept = '{"other": {"a": "b"}, "subjectDiffusionSentences": {"{0}: {1}": "x", "gone": "y"}}'
    main.write_text(kept, encoding="utf-8")
    missing = write_templates(tmp_path)
    assert "No mask is there." in missing and "{0}: {1}" not in missing
    chinese = chinese_sentences(tmp_path)
    assert (chinese["{0}: {1}"], chinese["No mask is there."]) == ("x", "")
    assert "gone" not in chinese and '"a": "b"' in main.read_text(encoding="utf-8")
    (tmp_path / path).write_text("warn(others())\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"expected a sentence whose text is in the sources"):
        required_templates(tmp_path)
