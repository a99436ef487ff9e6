"""Writes TinyBench's table: ``tinybench.json`` with everything, ``tinybench.md`` to read; and the
scores into the metadata of the weights they belong to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from subject_diffusion_core import checkpoint
from subject_diffusion_core.files.measured_guidance import SCORES_KEY

from ..runs import write_json, write_text
from ..toy.files import ADAPTER_NAME
from .metrics import CONTROL_FACTOR
from .rows import ORDINALS

COLUMNS = {
    "top1": "top-1",
    "top5": "top-5",
    "cosine": "cosine",
    "top1_seen": "top-1, class seen",
    "top1_unseen": "top-1, class unseen",
    "top1_models": "top-1, models",
    "top1_emoji": "top-1, emoji",
}
SEVERAL_COLUMNS = {
    **{f"top1_{name}": f"{name}, top-1" for name in ORDINALS},
    "top1_all": "all, top-1",
    "unmixed": "unmixed",
}
MATCH_COLUMNS = {
    "box_iou": "box IoU",
    "group": "label group",
    "group_seen": "label group, class seen",
    "group_unseen": "label group, class unseen",
    "scene": "scene",
}
SHARE_TARGETS = {
    "one_real_vae": 0.8,
    "one_subject": 0.6,
    "two_subjects": 0.4,
    "four_subjects": 0.25,
}
# (name, row, its text-only row) whose boxes and text are compared with the targets
TEXT_PAIRS = (
    ("one", "one_subject", "one_text_only"),
    ("two", "two_subjects", "two_text_only"),
    ("one_seen", "one_seen_scene", "one_seen_text_only"),
)
SWAP_TARGET, BOX_IOU_TARGET, TEXT_TARGET = 0.75, 0.6, 0.9
# kept beside the weights
RECORDED = ("top1", "top5", "cosine", "box_iou", *(f"top1_{name}" for name in ORDINALS))


def criteria(result: Mapping[str, Any]) -> dict[str, bool]:
    """Which of the targets are met, by value; only those whose rows were run.

    Found subjects as a share of the bound (SHARE_TARGETS), swapped designs told apart, mean box
    IoU, label group and scene at most a tenth below the text-only model's, and the lower end of
    (subject-driven minus three times the better control) above zero.
    """
    shares, swap = result["bound_shares"], result["swap"]
    met = {
        name: shares[name].value >= least for name, least in SHARE_TARGETS.items() if name in shares
    }
    if "per_picture" in swap:
        met["swap"] = swap["per_picture"].value >= SWAP_TARGET
    for kind, *names in TEXT_PAIRS:
        own, text = (result["rows"].get(name, {}).get("scores", {}) for name in names)
        if "box_iou" in own:
            met[f"{kind}_box_iou"] = own["box_iou"].value >= BOX_IOU_TARGET
        for match in ("group", "scene"):
            if match in own and match in text:
                met[f"{kind}_{match}"] = own[match].value >= TEXT_TARGET * text[match].value
    for name, lead in result["leads"].items():
        met[f"lead_{name}"] = lead.low > 0
    return met


def markdown_table(headings: Sequence[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """Lines of a table whose first column, the rows' titles, has no heading."""
    lines = ["| | " + " | ".join(headings) + " |", "|---" * (len(headings) + 1) + "|"]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def table(rows: Mapping[str, Any], columns: Mapping[str, str]) -> list[str]:
    """Markdown lines of a table with intervals."""
    found = (
        [row["title"], row["num_pictures"], *(row["scores"].get(key) or "-" for key in columns)]
        for row in rows.values()
    )
    return markdown_table(["n", *columns.values()], found)


def markdown(result: Mapping[str, Any]) -> str:
    """The whole report."""
    settings, gallery = result["settings"], result["gallery"]
    lines = [
        "# TinyBench",
        "",
        f"Held-out subjects looked up among {gallery['num_entries']} gallery pictures of "
        f"{gallery['num_identities']} subjects: every rendered view more than 30 degrees from the "
        "reference's, and all held-out emoji designs. Brackets: 95 % bootstrap intervals.",
        f"Sampling: {settings['steps']} DDIM steps in {settings['precision']}, text guidance "
        f"{settings['text_guidance_scale']}, image guidance {settings['image_guidance_scale']}; "
        f"text only: {settings['text_only_guidance_scale']}. Query seed {settings['query_seed']}, "
        f"weights {result['weights_sha256'][:12]}.",
        "",
        *table(result["rows"], COLUMNS),
    ]
    several = {name: row for name, row in result["rows"].items() if "top1_all" in row["scores"]}
    if several:
        lines += ["", "Several subjects in one picture:", "", *table(several, SEVERAL_COLUMNS)]
    matched = {name: row for name, row in result["rows"].items() if "box_iou" in row["scores"]}
    if matched:
        lines += [
            "",
            "Box of the found subject against the asked box (a real composite's against the pasted "
            "one); label group and scene as linear heads on the metric encoder see them. Scenes "
            "are held-out ones, whose captions training never saw, except where the row says so:",
            "",
            *table(matched, MATCH_COLUMNS),
        ]
    given = {name: row for name, row in result["rows"].items() if row["source"] == "shuffled"}
    for row in given.values():
        title = f"{row['title']}, looked up as the subject whose picture was given, top-1"
        lines += ["", f"- {title}: {row['scores']['top1_given_picture']}"]
    lines.append("")
    for name, lead in result["leads"].items():
        lines.append(f"- {name}: top-1 minus {CONTROL_FACTOR:g} times the better control: {lead}")
    for name, share in result["bound_shares"].items():
        lines.append(f"- {name}: top-1 as a share of its bound's: {share}")
    for name, score in result["swap"].items():
        lines.append(f"- swap test, {name.replace('_', ' ')}: {score}")
    met = [f"{name} {'yes' if value else 'NO'}" for name, value in result["criteria"].items()]
    lines += [f"- targets met: {', '.join(met) or 'not measured'}"]
    lines += [f"- seconds: {', '.join(f'{k} {v:.0f}' for k, v in result['seconds'].items())}"]
    return "\n".join(lines) + "\n"


def write_report(result: dict[str, Any], out: Path) -> None:
    """Write both files into ``out``; complete or not at all."""
    result["criteria"] = criteria(result)
    write_json(out / "tinybench.json", result)
    write_text(out / "tinybench.md", markdown(result))


def record_scores(weights: Path, result_json: Path) -> None:
    """Put the figures of ``result_json`` worth keeping beside the weights, [value, low, high],
    into the adapter file's provenance."""
    result = json.loads(result_json.read_text(encoding="utf-8"))
    rows = {
        name: {
            key: [round(score[part], 4) for part in ("value", "low", "high")]
            for key in RECORDED
            if (score := row["scores"].get(key))
        }
        for name, row in result["rows"].items()
    }
    summary = {"settings": result["settings"], "gallery": result["gallery"], "rows": rows}
    provenance = checkpoint.load(weights / ADAPTER_NAME).config.provenance
    checkpoint.save_provenance(weights / ADAPTER_NAME, {**provenance, SCORES_KEY: summary})
