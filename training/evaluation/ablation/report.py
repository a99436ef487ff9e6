"""Writes ``ablation.json`` with everything and ``ablation.md`` to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...runs import atomic_path, write_json
from ..metrics import Interval
from ..report import plain
from .comparison import Difference, Scores, differences, means, paper_pair, variants_of
from .variants import FULL, PAPER, VARIANTS, Variant, paper_change

COLUMNS = {
    "top1": "top-1",
    "cosine": "cosine",
    "unmixed": "unmixed",
    "box_iou": "box IoU",
    "group": "label group",
    "scene": "scene",
}
ROW_TITLES = {"one_subject": "One subject", "two_subjects": "Two subjects"}
TITLES = {variant.name: variant.title for variant in VARIANTS}
STARTS = {
    "fresh": "new Subject-Diffusion parts on the frozen base",
    "weights": "the trained adapter, which goes on without the part. This is cheaper than the "
    "paper's training from the beginning and only stands in for it: what was learnt with the part "
    "is still there at the start",
}


def signed(interval: Interval) -> str:
    """A difference; bold where its interval excludes zero."""
    text = f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
    return f"**{text}**" if interval.low > 0 or interval.high < 0 else text


def arrow(change: float | None) -> str:
    """The paper's change with its direction."""
    return "-" if change is None else f"{change:+.3f} {'↑' if change > 0 else '↓'}"


def score_table(row: str, scores: Scores) -> list[str]:
    """All variants' scores of a row."""
    names = [name for name in COLUMNS if name in scores[FULL][row]]
    lines = [
        "| | n | " + " | ".join(COLUMNS[name] for name in names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for variant, rows in means(scores).items():
        cells = [str(rows[row][name]) for name in names]
        count = len(scores[variant][row]["top1"])
        lines.append(f"| {TITLES[variant]} | {count} | " + " | ".join(cells) + " |")
    return lines


def compared_title(variant: Variant) -> str:
    """A variant's title, with what it is compared with where that is not the full model."""
    if variant.against == FULL:
        return variant.title
    return f"{variant.title}, compared with the one {TITLES[variant.against]}"


def difference_table(row: str, scores: Scores, found: Sequence[Difference]) -> list[str]:
    """All variants' differences of a row, and the paper's directions."""
    names = [name for name in COLUMNS if name in scores[FULL][row]]
    intervals = {(d.variant, d.score): d.interval for d in found if d.row == row}
    headings = [*(COLUMNS[name] for name in names), "paper: DINO", "CLIP-I", "CLIP-T"]
    lines = ["| | " + " | ".join(headings) + " |", "|---|" + "---|" * len(headings)]
    for variant in variants_of(scores):
        cells = [signed(intervals[variant.name, name]) for name in names]
        cells += [arrow(paper_change(row, variant, s)) for s in ("dino", "clip_i", "clip_t")]
        lines.append(f"| {compared_title(variant)} | " + " | ".join(cells) + " |")
    return lines


def sentence(difference: Difference) -> str:
    """One difference beside the paper's, as a bullet."""
    name, full, without = paper_pair(difference)
    way = "rose" if without > full else "fell"
    return (
        f"- {TITLES[difference.variant]}, {ROW_TITLES[difference.row].lower()}: "
        f"{COLUMNS[difference.score]} {signed(difference.interval)}; the paper's {name} {way} from "
        f"{full:.3f} to {without:.3f}."
    )


def verdict_lines(found: Sequence[Difference]) -> list[str]:
    """Which rows go another way than in the paper, which the same, which cannot be told."""
    lines = []
    for verdict, title in (
        ("the other way", "Another way than in the paper"),
        ("as in the paper", "The same way as in the paper"),
    ):
        chosen = [d for d in found if d.verdict == verdict and d.score in COLUMNS]
        lines += ["", f"{title}:", "", *([sentence(d) for d in chosen] or ["- none."])]
    silent = [d for d in found if d.verdict == "not told apart" and d.score in COLUMNS]
    names = "; ".join(
        f"{TITLES[d.variant]}, {ROW_TITLES[d.row].lower()}, {COLUMNS[d.score]}" for d in silent
    )
    return [*lines, "", f"Not told apart from the full model: {names or 'none'}."]


def purpose_lines(found: Sequence[Difference]) -> list[str]:
    """Whether each part moves the scores it is for."""
    lines = []
    for variant in VARIANTS:
        for d in (d for d in found if d.variant == variant.name and d.score in variant.moves):
            moved = "yes" if d.interval.high < 0 else "NO"
            lines.append(
                f"- {compared_title(variant)}, {ROW_TITLES[d.row].lower()}, "
                f"{COLUMNS[d.score]} falls: "
                f"{moved}, {signed(d.interval)}"
            )
    return lines or ["- not measured."]


def markdown(settings: Mapping[str, Any], scores: Scores) -> str:
    """The whole report."""
    found = differences(scores)
    stage, sampling = settings["stage"], settings["sampling"]
    lines = [
        "# Ablation",
        "",
        f"Every variant: {stage['steps']} steps of {stage['global_batch_size']} pictures from "
        f"{STARTS[settings['start']]}; learning rate {stage['learning_rate']:g}; the same batches, "
        "noise, queries and seeds for all. Held-out subjects of TinyBench, "
        f"{sampling['steps']} DDIM steps in {sampling['precision']}. Brackets: 95 % bootstrap "
        "intervals; differences are paired by query, bold where the interval excludes zero. With "
        "many differences in a table, some exclude zero by chance.",
        "",
        "The paper's numbers (its table 3: DINO, CLIP-I, CLIP-T on DreamBench, SD2-base) measure "
        "other things on other pictures; beside them stand top-1 and cosine for DINO, label group "
        "and scene for CLIP-T, and only the directions compare.",
    ]
    for row, title in ROW_TITLES.items():
        lines += ["", f"## {title}", "", *score_table(row, scores)]
        if variants_of(scores):
            lines += ["", "Difference to the full model:", ""]
            lines += difference_table(row, scores, found)
    lines += ["", "## Beside the paper", *verdict_lines(found)]
    lines += ["", "## Does each part move what it is for?", "", *purpose_lines(found)]
    return "\n".join(lines) + "\n"


def write_report(settings: Mapping[str, Any], scores: Scores, out: Path) -> None:
    """Write both files into ``out``; complete or not at all."""
    found = [
        {**asdict(d), "excludes_zero": d.excludes_zero, "verdict": d.verdict}
        for d in differences(scores)
    ]
    result = {
        "settings": settings,
        "scores": means(scores),
        "differences": found,
        "paper_table_3": PAPER,
    }
    write_json(out / "ablation.json", plain(result))
    with atomic_path(out / "ablation.md") as temporary:
        temporary.write_text(markdown(settings, scores), encoding="utf-8")
