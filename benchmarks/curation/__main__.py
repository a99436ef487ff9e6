"""The dataset pipeline: are its filters right, and how fast are they?

    python -m benchmarks.curation filters [--count 10000]

`filters` draws pictures with detections perturbed from the truth and compares every decision with
that of a slow, obvious implementation; the size filter is set to 0.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from training.curation.filters import Thresholds

from .comparing import compare
from .detections import draw_detections


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.curation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=("filters",))
    parser.add_argument("--count", type=int, default=10_000, help="pictures (default 10000)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    found = compare(draw_detections(options.count, options.seed), Thresholds(min_side=0))
    print("\n".join(found.lines()))
    if found.different:
        print(f"first: {', '.join(found.different[:10])}")
    return 1 if found.different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
