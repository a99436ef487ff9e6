"""The list of all subjects: furniture models and emoji, each with a label, source and licence."""

from __future__ import annotations

import json
import re
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from . import emoji_rules, label_rules

FURNITURE_LIBRARIES = ("BlendSwap-CC-0", "BlendSwap-CC-BY", "KatorLegaz", "Scopia")
LICENCES = {
    "BlendSwap-CC-0": "CC0-1.0",
    "BlendSwap-CC-BY": "CC-BY-3.0",
    "KatorLegaz": "CC-BY-3.0-US",
    "Scopia": "CC-BY-3.0",
    "fluent": "MIT",
    "noto": "Apache-2.0",
}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One identity: a furniture model, or one design of one emoji.

    `identity` is the key everywhere ("model:Scopia/bed1", "emoji:1f34e:fluent"). `asset` names the
    picture or mesh inside its package; `size_cm` is width, height, depth of a model or None.
    """

    identity: str
    label: str
    category: str
    source: str
    licence: str
    creator: str
    branded: bool
    asset: str
    size_cm: tuple[float, float, float] | None = None
    rotation: tuple[float, ...] | None = None


def clean_label(name: str) -> str:
    """Furniture name -> what it is, in at most three lower-case words.

    >>> clean_label("Large wooden table 2")
    'table'
    """
    name = name.lower().strip()
    if name in label_rules.FURNITURE_LABELS:
        return label_rules.FURNITURE_LABELS[name]
    words = re.sub(r"[^a-z' ]", " ", name.split(" with ")[0]).split()
    kept = [word for word in words if word not in label_rules.DESIGN_WORDS] or words
    return " ".join(kept[-3:])


def emoji_label(short_name: str, name: str) -> str:
    """Emoji names -> label: a hand-written one, or its official name without design words."""
    if short_name in emoji_rules.EMOJI_LABELS:
        return emoji_rules.EMOJI_LABELS[short_name]
    words = re.sub(r"[^a-z ]", " ", name.lower()).split()
    if len(words) > 3:
        words = re.sub(r"[^a-z ]", " ", short_name.replace("_", " ")).split()
    kept = [word for word in words if word not in label_rules.DESIGN_WORDS] or words
    return " ".join(kept[-3:])


def parse_properties(text: str) -> list[dict[str, str]]:
    """`key#number=value` lines of a furniture catalogue -> one dict per model, in file order."""
    models: dict[int, dict[str, str]] = defaultdict(dict)
    for key, number, value in re.findall(r"^(\w+)#(\d+)=(.*)$", text, flags=re.MULTILINE):
        models[int(number)][key] = value.strip()
    return [models[number] for number in sorted(models)]


def is_thing(model: dict[str, str]) -> bool:
    """True for a model that is a recognisable thing and no fitting, person or ground marking."""
    name, category = model["name"].lower(), model["category"].lower()
    if category in label_rules.EXCLUDED_CATEGORIES or model.get("doorOrWindow") == "true":
        return False
    if "Human" in model.get("tags", "") or "People" in model.get("tags", ""):
        return False
    return not any(f" {part}" in f" {name}" for part in label_rules.EXCLUDED_NAME_PARTS)


def furniture_subjects(folder: Path) -> list[Subject]:
    """All usable models of the four furniture libraries below the unpacked package `folder`."""
    subjects = []
    for library in FURNITURE_LIBRARIES:
        archive = folder / "usr/share/sweethome3d/furniture" / f"{library}.sh3f"
        with zipfile.ZipFile(archive) as library_zip:
            text = library_zip.read("PluginFurnitureCatalog.properties").decode("latin-1")
        for model in filter(is_thing, parse_properties(text)):
            rotation = model.get("modelRotation")
            width, height, depth = (float(model[side]) for side in ("width", "height", "depth"))
            subjects.append(
                Subject(
                    identity=f"model:{library}/{model['id'].split('#')[1]}",
                    label=clean_label(model["name"]),
                    category=model["category"].lower(),
                    source=library,
                    licence=LICENCES[library],
                    creator=model.get("creator", library),
                    branded=bool(label_rules.BRAND_NAMES & set(model["name"].lower().split())),
                    asset=model["model"].lstrip("/"),
                    size_cm=(width, height, depth),
                    rotation=tuple(map(float, rotation.split())) if rotation else None,
                )
            )
    return subjects


def is_object_emoji(entry: dict[str, str]) -> bool:
    """True for emoji that show one thing (no faces, people, flags, signs or symbols)."""
    subcategory = entry["subcategory"]
    if entry["short_name"] in emoji_rules.EMOJI_EXCLUDED_SHORT_NAMES:
        return False
    return (
        entry["category"] in emoji_rules.EMOJI_CATEGORIES
        or subcategory in emoji_rules.EMOJI_EXTRA_SUBCATEGORIES
    )


def emoji_subjects(names_file: Path, fluent_folder: Path) -> list[Subject]:
    """Both designs of every object-like emoji that the Fluent package holds.

    Args:
        names_file: `emoji.json` with names and categories.
        fluent_folder: folder of `<code points>.webp`.
    """
    drawn = {path.stem.replace("-fe0f", ""): path.name for path in fluent_folder.glob("*.webp")}
    subjects = []
    for entry in json.loads(names_file.read_text()):
        code_points = entry["unified"].lower().replace("-fe0f", "")
        if code_points not in drawn or not is_object_emoji(entry):
            continue
        for design in ("fluent", "noto"):
            subjects.append(
                Subject(
                    identity=f"emoji:{code_points}:{design}",
                    label=emoji_label(entry["short_name"], entry["name"]),
                    category=entry["subcategory"],
                    source=design,
                    licence=LICENCES[design],
                    creator="Microsoft" if design == "fluent" else "Google",
                    branded=False,
                    asset=drawn[code_points] if design == "fluent" else entry["unified"].lower(),
                )
            )
    return subjects


def build_catalogue(folders: dict[str, Path]) -> list[Subject]:
    """Every candidate subject, before invisible ones are dropped by rendering."""
    return furniture_subjects(folders["furniture"]) + emoji_subjects(
        folders["emoji_names"] / "package/emoji.json", folders["fluent"] / "package/assets"
    )
