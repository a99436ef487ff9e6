"""The dataset pipeline: are its filters right, and how fast are they?

    python -m benchmarks.curation filters [--count 10000]
    python -m benchmarks.curation speed [--count 1000]

`filters` draws pictures with detections perturbed from the truth and compares every decision with
that of a slow, obvious implementation; the size filter is set to 0. `speed` makes pictures of
512 px with given detections and says how many a second the filters and the shards take on two
cores, beside decoding JPEG alone, and whether four times as many need more memory.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from training.curation.filters import Thresholds

from .comparing import compare
from .detections import draw_detections
from .speed import measure_speed


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.curation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=("filters", "speed"))
    parser.add_argument("--count", type=int, help="pictures (default 10000, 1000)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.action == "speed":
        with tempfile.TemporaryDirectory() as folder:
            print("\n".join(measure_speed(Path(folder), options.count or 1000)))
        return 0
    found = compare(draw_detections(options.count or 10_000, options.seed), Thresholds(min_side=0))
    print("\n".join(found.lines()))
    if found.different:
        print(f"first: {', '.join(found.different[:10])}")
    return 1 if found.different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
