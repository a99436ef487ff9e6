"""Writes TinyBench's result into the page on the small model.

    python -m training evaluate --work .dev/tiny --out BENCH --precision float32
    python -m benchmarks.small_model_page --bench BENCH --write docs/small_model.md

The page's first table gets the identities, its second boxes and texts; a row that was not
measured is left out, a table without any stays as it is.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.evaluation.report import markdown_table

from .measured_page import write_page

IDENTITY = {
    "one_subject": "one subject",
    "one_text_only": "control: text only",
    "one_shuffled": "control: another subject's picture",
    "one_real": "bound: real composites",
    "one_real_vae": "bound: real composites through the VAE",
    "two_subjects": "two subjects (each)",
    "two_text_only": "control: text only",
    "two_shuffled": "control: other subjects' pictures",
    "two_real": "bound: real composites",
    "two_real_vae": "bound: real through the VAE",
    "four_subjects": "four subjects (each)",
    "four_real_vae": "bound: real through the VAE",
}
MATCHES = {
    "one_subject": "one subject",
    "one_text_only": "one: text only",
    "one_real": "one: real composites",
    "one_seen_scene": "one, scene of a training caption",
    "one_seen_text_only": "the same: text only",
    "one_seen_text_pasted": "the same: text only, a real subject pasted into the box",
    "two_subjects": "two subjects",
    "two_text_only": "two: text only",
    "two_real": "two: real composites",
    "four_subjects": "four subjects",
    "four_real_vae": "four: real through the VAE",
}
IDENTITY_HEADINGS = ("top-1, %", "top-5, %", "cosine", "top-1 as a share of the bound's, %")
HEAD = 2  # lines of a table above its rows
MATCH_HEADINGS = ("mean box IoU", "label group, %", "scene, %")


def percent(interval: Mapping[str, float] | None, digits: int = 1) -> str:
    """A share with its interval, in per cent; "-" for none."""
    if interval is None:
        return "-"
    value, low, high = (f"{100 * interval[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def identity_table(result: Mapping[str, Any]) -> list[str]:
    """Markdown lines: who is recognised."""
    rows, shares = result["rows"], result["bound_shares"]
    return markdown_table(
        IDENTITY_HEADINGS,
        [
            [
                title,
                percent(scores["top1"]),
                percent(scores["top5"]),
                f"{scores['cosine']['value']:.3f}",
                percent(shares.get(name), digits=0),
            ]
            for name, title in IDENTITY.items()
            if name in rows and (scores := rows[name]["scores"])
        ],
    )


def match_table(result: Mapping[str, Any]) -> list[str]:
    """Markdown lines: where subjects stand, and whether the picture shows what the prompt says."""
    rows = result["rows"]
    return markdown_table(
        MATCH_HEADINGS,
        [
            [
                title,
                "-" if "text_only" in name or "pasted" in name else box(scores["box_iou"]),
                percent(scores["group"]),
                percent(scores["scene"]),
            ]
            for name, title in MATCHES.items()
            if name in rows and "box_iou" in (scores := rows[name]["scores"])
        ],
    )


def box(interval: Mapping[str, float]) -> str:
    """A box's overlap with its interval."""
    return f"{interval['value']:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small_model_page")
    parser.add_argument("--bench", type=Path, required=True, help="folder of the result")
    parser.add_argument("--write", type=Path, help="the page; without it, tables are printed only")
    options = parser.parse_args(arguments)
    result = json.loads((options.bench / "tinybench.json").read_text(encoding="utf-8"))
    for number, lines in enumerate((identity_table(result), match_table(result))):
        if len(lines) > HEAD:
            write_page(options.write, lines, number)


if __name__ == "__main__":
    main(sys.argv[1:])
