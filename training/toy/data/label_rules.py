"""Hand-written rules that turn names of furniture models into short labels.

A label says what a thing is, never how it looks: colours, materials, sizes and brands go, so that
a caption cannot reveal which of several designs is meant.
"""

from __future__ import annotations

from pathlib import Path


def parse_rules(text: str) -> dict[str, str]:
    """Lines "label = name; name" (indented lines continue) -> name -> label.

    >>> parse_rules("car = smart car; blue_car")
    {'smart car': 'car', 'blue_car': 'car'}
    """
    rules: dict[str, str] = {}
    for line in text.replace("\n    ", " ").strip().splitlines():
        label, _, names = line.partition(" = ")
        rules |= dict.fromkeys(names.split("; "), label)
    return rules


def read_rules(name: str) -> dict[str, str]:
    """The rules of ``NAME.txt`` beside this file."""
    return parse_rules(Path(__file__).with_name(f"{name}.txt").read_text(encoding="utf-8"))


def parse_words(text: str) -> frozenset[str]:
    """Words separated by white space."""
    return frozenset(text.split())


def parse_phrases(text: str) -> tuple[str, ...]:
    """Phrases separated by ";", without line breaks."""
    return tuple(" ".join(phrase.split()) for phrase in text.split(";"))


# Words that describe a design; they are removed wherever they stand.
DESIGN_WORDS = parse_words(
    """
    alder apple bamboo bended black blue brown burlap chambord classic clear concept
    concrete contemporary curly double electronic full green grey hanging high indian indoor
    iron island japanese large light little low lower mini modern oak old open opened orange
    oriental osaka outdoor oval painted pedestal plastic purple quadruple rattan rectangle
    red rigged round rounded ryokan siamese small sport square stone teak teck trestles
    triple upper vertical wall white winchester wire wireless wood wooden yellow
    """
)

# Furniture categories and parts of names that are no free-standing, recognisable things.
EXCLUDED_CATEGORIES = frozenset({"doors and windows", "staircases"})
EXCLUDED_NAME_PARTS = parse_phrases(
    """
    air conditioning; arrow ; artwork; bathmat; bill ; carpet; chimney;
    contemporary living room; cooktop; corner cabinet; curtain; diving board; doormat;
    elevator; emergency sign; entry ; fluorescent; frame ; garden faucet; hedge; hood;
    induction cooker; intercom; island extension; letter tray; male; mannequin; newspaper;
    parking slot; pedestrian crossing; plug; porch; porch column; radiator; rail crossing;
    railing; rails; rug; shower curtain; shower door; shower head; sidewalk; smoke detector;
    socket; spotlight; swimming pool; switch; tatami; towel rack; track lights;
    wall flat tv; wall hanger; window blind
    """
)

# Whole furniture names (in lower case) with a label of their own.
FURNITURE_LABELS = read_rules("furniture_labels")

# Words in the names of models that show a brand; kept out of sample pictures.
BRAND_NAMES = parse_words(
    """
    apple chevrolet ford ibook imac iphone peugeot playstation renault rubik's seat smart vw
    yamaha
    """
)


def group_of(category: str) -> str:
    """A category's group: emoji categories up to their dash, model categories as they are.

    >>> group_of("animal-bird"), group_of("kitchen")
    ('animal', 'kitchen')
    """
    return category.split("-")[0]
