"""Each variant against the full model or a smaller one, query by query, beside the paper's numbers:
``ablation.json`` with everything, ``ablation.md`` to read.

# Shapes: Q queries of a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from training.evaluation.metrics import Interval, bootstrap, mean_interval
from training.evaluation.report import markdown_table
from training.runs import write_json, write_text

from .variants import BY_NAME, FULL, PAPER, PAPER_NAMES, VARIANTS, Variant, paper_change

Scores = Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]  # variant, row, score -> (Q,)
Verdict = Literal["as in the paper", "the other way", "not told apart", "not in the paper"]
COUNTERPARTS = {"top1": "dino", "cosine": "dino", "group": "clip_t", "scene": "clip_t"}
COLUMNS = {
    "top1": "top-1",
    "cosine": "cosine",
    "unmixed": "unmixed",
    "box_iou": "box IoU",
    "group": "label group",
    "scene": "scene",
}
ROW_TITLES = {"one_subject": "One subject", "two_subjects": "Two subjects"}
STARTS = {
    "fresh": "new Subject-Diffusion parts on the frozen base",
    "weights": "the trained adapter, which goes on without the part. This is cheaper than the "
    "paper's training from the beginning and only stands in for it: what was learnt with the part "
    "is still there at the start",
}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A variant's score minus that of the variant it is compared with, paired by query.

    Attributes:
        interval: of the difference. paper: the change of the score's counterpart in the paper's
            table 3, None where it has none.
    """

    variant: str
    row: str
    score: str
    interval: Interval
    paper: float | None

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.interval.low > 0 or self.interval.high < 0

    @property
    def verdict(self) -> Verdict:
        """The direction beside the paper's."""
        if self.paper is None:
            return "not in the paper"
        if not self.excludes_zero or self.paper == 0:
            return "not told apart"
        same = (self.interval.value > 0) == (self.paper > 0)
        return "as in the paper" if same else "the other way"

    def named(self, title: str) -> str:
        """Variant, row and score, for people."""
        return f"{title}, {ROW_TITLES[self.row].lower()}, {COLUMNS[self.score]}"

    def __str__(self) -> str:
        """Bold where the interval excludes zero."""
        own = self.interval
        text = f"{own.value:+.3f} [{own.low:+.3f}, {own.high:+.3f}]"
        return f"**{text}**" if self.excludes_zero else text


def differences(scores: Scores) -> list[Difference]:
    """Every variant's, row's and score's difference to the variant it is compared with."""
    found = []
    for variant in variants_of(scores):
        for row, values in scores[variant.name].items():
            for score, own in values.items():
                counterpart = COUNTERPARTS.get(score)
                other = scores[variant.against][row][score]
                found.append(
                    Difference(
                        variant=variant.name,
                        row=row,
                        score=score,
                        interval=bootstrap(lambda mean, against: mean - against, own, other),
                        paper=paper_change(row, variant, counterpart) if counterpart else None,
                    )
                )
    return found


def variants_of(scores: Scores) -> list[Variant]:
    """The measured variants but the full model, in the table's order."""
    return [v for v in VARIANTS if v.name in scores and v.name != FULL]


def means(scores: Scores) -> dict[str, dict[str, dict[str, Interval | None]]]:
    """The scores themselves, with intervals, in the table's order."""
    return {
        variant.name: {
            row: {score: mean_interval(values) for score, values in by_score.items()}
            for row, by_score in scores[variant.name].items()
        }
        for variant in VARIANTS
        if variant.name in scores
    }


def compared_title(variant: Variant) -> str:
    """A variant's title, with what it is compared with where that is not the full model."""
    if variant.against == FULL:
        return variant.title
    return f"{variant.title}, compared with the one {BY_NAME[variant.against].title}"


def row_tables(row: str, scores: Scores, found: Sequence[Difference]) -> list[str]:
    """All variants' scores of a row; their differences, and the paper's directions."""
    names = [name for name in COLUMNS if name in scores[FULL][row]]
    headings = [COLUMNS[name] for name in names]
    rows = (
        [BY_NAME[name].title, len(scores[name][row]["top1"]), *(own[row][n] for n in names)]
        for name, own in means(scores).items()
    )
    lines = markdown_table(["n", *headings], rows)
    if not (variants := variants_of(scores)):
        return lines
    by_key = {(d.variant, d.score): d for d in found if d.row == row}
    compared: list[list[object]] = []
    for variant in variants:
        changes = [paper_change(row, variant, score) for score in PAPER_NAMES]
        arrows = ["-" if c is None else f"{c:+.3f} {'↑' if c > 0 else '↓'}" for c in changes]
        own = [by_key[variant.name, name] for name in names]
        compared.append([compared_title(variant), *own, *arrows])
    columns = [*headings, "paper: DINO", "CLIP-I", "CLIP-T"]
    return [*lines, "", "Difference to the full model:", "", *markdown_table(columns, compared)]


def verdict_lines(found: Sequence[Difference]) -> list[str]:
    """Which rows go another way than in the paper, which the same, which cannot be told."""
    lines = []
    for verdict, title in (
        ("the other way", "Another way than in the paper"),
        ("as in the paper", "The same way as in the paper"),
    ):
        lines += ["", f"{title}:", ""]
        bullets = []
        for d in (d for d in found if d.verdict == verdict and d.score in COLUMNS):
            variant, counterpart = BY_NAME[d.variant], COUNTERPARTS[d.score]
            full, without = (PAPER[d.row][key][counterpart] for key in ("a", variant.paper_row))
            where = f"{variant.title}, {ROW_TITLES[d.row].lower()}: {COLUMNS[d.score]} {d}"
            way = "rose" if without > full else "fell"
            paper = f"{PAPER_NAMES[counterpart]} {way} from {full:.3f} to {without:.3f}"
            bullets.append(f"- {where}; the paper's {paper}.")
        lines += bullets or ["- none."]
    silent = [d for d in found if d.verdict == "not told apart" and d.score in COLUMNS]
    names = "; ".join(d.named(BY_NAME[d.variant].title) for d in silent)
    return [*lines, "", f"Not told apart from the full model: {names or 'none'}."]


def purpose_lines(found: Sequence[Difference]) -> list[str]:
    """Whether each part moves the scores it is for."""
    lines = []
    for variant in VARIANTS:
        for d in (d for d in found if d.variant == variant.name and d.score in variant.moves):
            moved = "yes" if d.interval.high < 0 else "NO"
            lines.append(f"- {d.named(compared_title(variant))} falls: {moved}, {d}")
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
        lines += ["", f"## {title}", "", *row_tables(row, scores, found)]
    lines += ["", "## Beside the paper", *verdict_lines(found)]
    lines += ["", "## Does each part move what it is for?", "", *purpose_lines(found)]
    return "\n".join(lines) + "\n"


def write_report(settings: Mapping[str, Any], scores: Scores, out: Path) -> None:
    """Write both files into ``out``; complete or not at all."""
    result = {
        "settings": settings,
        "scores": means(scores),
        "differences": [
            {**asdict(d), "excludes_zero": d.excludes_zero, "verdict": d.verdict}
            for d in differences(scores)
        ],
        "paper_table_3": PAPER,
    }
    write_json(out / "ablation.json", result)
    write_text(out / "ablation.md", markdown(settings, scores))
