"""A dataset without a cluster, and on one that loses a worker: `python -m benchmarks.cluster_kill`.

Makes pictures, builds shards of them in this process, then on a Ray cluster of two workers on this
machine of which one is killed (kill -9) as soon as the first pictures are done, and compares every
shard byte by byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from training.curation.build import Build
from training.curation.cluster import LOCAL, Cluster
from training.curation.engine import Say
from training.curation.reading import Found
from training.curation.settings import CurationSettings, with_settings
from training.curation.stages import Stage
from training.curation.store import Store

ANY = ("thresholds.min_side=0", "samples_per_shard=50")
SIDE = 96


def write_pictures(folder: Path, count: int) -> Path:
    """Pictures of one to three coloured rectangles with their boxes and masks, and their list."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = []
    for number in range(count):
        pixels = np.asarray(
            Image.fromarray(rng.integers(0, 255, (6, 6, 3), np.uint8)).resize((SIDE, SIDE))
        ).copy()
        subjects = []
        for subject in range(rng.integers(1, 4)):
            x, y = rng.integers(0, SIDE // 2, 2)
            width, height = rng.integers(SIDE // 8, SIDE // 2, 2)
            mask = np.zeros((SIDE, SIDE), np.uint8)
            mask[y : y + height, x : x + width] = 255
            pixels[mask > 0] = rng.integers(0, 255, 3)
            name = f"{number:05d}_{subject}.png"
            Image.fromarray(mask).save(folder / name)
            subjects.append({"label": "patch", "mask": name})
        Image.fromarray(pixels).save(folder / f"{number:05d}.jpg", quality=95)
        line = {"picture": f"{number:05d}.jpg", "caption": "a patch", "subjects": subjects}
        lines.append(json.dumps(line))
    (folder / "list.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "list.jsonl"


def workers() -> list[psutil.Process]:
    """Processes of this one's cluster in which our stages run."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        title = " ".join(process.info["cmdline"] or ())
        if title.startswith("ray::") and "PoolWorker" in title:
            found.append(process)
    return found


@dataclass(kw_only=True)
class KillingCluster:
    """A cluster engine that kills one of its workers when the first pictures are done.

    Attributes:
        seen: workers before the kill. killed: whether one was.
    """

    cluster: Cluster
    seen: int = 0
    killed: bool = False

    def __call__(self, found: Found, stages: Sequence[Stage], store: Store, done: Say) -> None:
        def done_then_kill(count: int) -> None:
            done(count)
            if count and not self.killed:
                alive = workers()
                self.seen = len(alive)
                os.kill(alive[0].pid, signal.SIGKILL)
                self.killed = True

        self.cluster(found, stages, store, done_then_kill)


def shard_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every shard."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.tar"))
    }


def compare(folder: Path, count: int) -> dict[str, object]:
    """Build both ways in a new folder; what came of it."""
    listed = write_pictures(folder / "pictures", count)
    settings = with_settings(CurationSettings(), ANY)
    begun = time.monotonic()
    here = Build(pictures=listed, out=folder / "here", settings=settings).run()
    between = time.monotonic()
    engine = KillingCluster(cluster=Cluster(settings, LOCAL))
    there = Build(pictures=listed, out=folder / "there", settings=settings).run(engine)
    same = shard_hashes(folder / "here") == shard_hashes(folder / "there")
    return {
        "pictures": count,
        "kept": here["pictures"]["kept"],
        "workers": engine.seen,
        "killed": engine.killed,
        "same shards, byte by byte": same,
        "same report": here == there,
        "seconds here": round(between - begun, 1),
        "seconds on the cluster": round(time.monotonic() - between, 1),
    }


def main() -> int:
    """Compare, print, and fail where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory(prefix="subject-diffusion-cluster-") as folder:
        found = compare(Path(folder), count)
    print(json.dumps(found, indent=1))
    return 0 if found["same shards, byte by byte"] and found["same report"] else 1


if __name__ == "__main__":
    sys.exit(main())
