"""The table: every row's scores, and how far it lies from its control, query by query."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from training.evaluation.metrics import Interval, bootstrap, mean_interval
from training.evaluation.scoring import RowScores
from training.runs import atomic_path

from .rows import SETTINGS, all_rows


def difference(own: np.ndarray, control: np.ndarray) -> Interval:
    """Mean of own minus control (Q,), paired by query.

    >>> difference(np.ones(3), np.zeros(3)).value
    1.0
    """
    return bootstrap(lambda mean: mean, own - control)


def write_report(
    out: Path, scores: Mapping[str, RowScores], num_identities: int, weights_sha256: str
) -> None:
    """`self_subject_attention.md` in `out`, of the rows measured so far."""
    count = len(next(iter(scores.values())).rank)
    lines = [
        f"{count} held-out subjects of TinyBench's queries (one subject, its box, a held-out "
        f"scene) through the nodes, {SETTINGS.steps} steps of dpmpp_2m at 128 x 128; text only: "
        f"cfg {SETTINGS.text_only_guidance_scale:g}, adapter: text "
        f"{SETTINGS.text_guidance_scale:g}, image {SETTINGS.image_guidance_scale:g}. Cosine of the "
        "metric encoder between the box's "
        "crop and the right subject, seen from elsewhere; top-1 among "
        f"{num_identities} subjects. Brackets: 95 % bootstrap intervals, "
        f"differences paired by query. Weights {weights_sha256[:12]}.",
        "",
        "| | cosine | to its control | top-1 | to its control |",
        "|---|---|---|---|---|",
    ]
    for row in all_rows():
        if row.name not in scores:
            continue
        cosine, top1 = (values(scores[row.name]) for values in (_cosine, _top1))
        cells = [str(mean_interval(cosine)), "-", str(mean_interval(top1)), "-"]
        if row.control is not None:
            control = scores[row.control]
            cells[1] = _signed(difference(cosine, _cosine(control)))
            cells[3] = _signed(difference(top1, _top1(control)))
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(out / "self_subject_attention.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _cosine(scores: RowScores) -> np.ndarray:
    mean: np.ndarray = scores.cosine.mean(axis=1)
    return mean


def _top1(scores: RowScores) -> np.ndarray:
    return scores.found(1)


def _signed(interval: Interval) -> str:
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
