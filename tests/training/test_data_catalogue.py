"""Labels: short, lower case, and silent about how a thing looks."""

import re
from pathlib import Path

import pytest

from training.toy.data.label_rules import parse_rules
from training.toy.data.split import load_identities
from training.toy.data.subject_list import clean_label, emoji_label, is_thing, parse_properties

NOTICE = Path(__file__).parents[2] / "NOTICE"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Large wooden table 2", "table"),
        ("Apple iMac 2004", "computer"),
        ("Chair with cushion", "chair"),
        ("Bulldog", "dog"),
        ("Wooden", "wooden"),
    ],
)
def test_clean_label(name, label):
    assert clean_label(name) == label


@pytest.mark.parametrize(
    ("short_name", "name", "label"),
    [("blue_car", "RECREATIONAL VEHICLE", "car"), ("owl", "OWL", "owl")],
)
def test_emoji_label(short_name, name, label):
    assert emoji_label(short_name, name) == label


def test_parse_rules_joins_continued_lines():
    rules = parse_rules("\ncar = smart car; van\n    2; bus\n")
    assert rules == {"smart car": "car", "van 2": "car", "bus": "car"}


def test_parse_properties_groups_by_number():
    text = "# note\nid=library\nname#2=Chair\nname#1=Table \ncategory#1=Office\n"
    assert parse_properties(text) == [{"name": "Table", "category": "Office"}, {"name": "Chair"}]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ({"name": "Wheelbarrow", "category": "Exterior"}, True),
        ({"name": "Arrow turn right", "category": "Exterior"}, False),
        ({"name": "Screen", "category": "Doors and windows"}, False),
        ({"name": "Door", "category": "Office", "doorOrWindow": "true"}, False),
        ({"name": "Walker", "category": "Characters", "tags": "Human, Woman"}, False),
    ],
)
def test_is_thing(model, expected):
    assert is_thing(model) is expected


def test_labels_are_one_to_three_lower_case_words():
    for record in load_identities().values():
        assert re.fullmatch(r"[a-z'-]+( [a-z'-]+){0,2}", record["label"]), record


def test_identities_name_the_licence_of_each_subject():
    licences = {record["licence"] for record in load_identities().values()}
    assert licences == {"CC0-1.0", "CC-BY-3.0", "CC-BY-3.0-US", "MIT", "Apache-2.0"}


def test_notice_names_every_creator():
    notice = " ".join(NOTICE.read_text().split())
    creators = {record["creator"] for record in load_identities().values()}
    anonymous = {"Blend Swap", "BlendSwap"}
    missing = [name for name in creators - anonymous if name not in notice]
    assert len(creators) > 100
    assert missing == []
