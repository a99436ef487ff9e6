"""One build in a process of its own: `python -m benchmarks.curation.timed LIST OUT PROCESSES IOU`.

Prints, as JSON, its seconds without the start of Python, those of processors (its own and those of
the processes that it started), and its largest memory.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

PER_SHARD = 250


def main(listed: str, out: str, processes: str, max_iou: str) -> None:
    from training.curation.build import Build  # here: processes that write shards import this file
    from training.curation.filters import Thresholds
    from training.curation.settings import CurationSettings

    settings = CurationSettings(
        thresholds=Thresholds(min_side=0, max_iou=float(max_iou)), samples_per_shard=PER_SHARD
    )
    build = Build(pictures=Path(listed), out=Path(out), settings=settings, processes=int(processes))
    before, used = time.perf_counter(), processor_seconds()
    report = build.run()
    found = {
        "seconds": time.perf_counter() - before,
        "processor_seconds": processor_seconds() - used,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "kept": report["pictures"]["kept"],
    }
    print(json.dumps(found))


def processor_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))


if __name__ == "__main__":
    main(*sys.argv[1:])
