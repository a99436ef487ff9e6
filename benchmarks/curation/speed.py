"""How many pictures of 512 px a second the filters and the shards take, beside decoding JPEG."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from .pictures import write_pictures

MORE = 4  # times as many pictures, for the memory
CORES = 2


def measure_speed(folder: Path, count: int) -> list[str]:
    """Lines of a table; pictures and datasets go into ``folder``."""
    listed = write_pictures(folder / "pictures", count * MORE)
    few = folder / "few.jsonl"
    lines = listed.read_text(encoding="utf-8").splitlines(keepends=True)
    few.write_text("".join(lines[:count]), encoding="utf-8")
    paths = sorted((folder / "pictures").glob("*.jpg"))[:count]
    decoding = _decode(paths)
    first = _build(few, folder / "few", 1, 0.8)
    alone = _build(few, folder / "few", 1, 0.79)
    together = _build(few, folder / "few", CORES, 0.78)
    _build(listed, folder / "many", CORES, 0.8)
    many = _build(listed, folder / "many", CORES, 0.79)
    assert first["kept"] == count and many["kept"] == count * MORE
    rows = (
        ("decoding the JPEG files, 1 process", count, decoding),
        ("first build (decoding, hashes, filters, shards), 1 process", count, first),
        ("filters and shards, 1 process", count, alone),
        (f"filters and shards, {CORES} processes", count, together),
        (f"the same with {MORE} times as many pictures", count * MORE, many),
    )
    size = sum(path.stat().st_size for path in paths) / count / 1e3
    share = decoding["processor_seconds"] / together["processor_seconds"]
    return [
        f"{count} JPEG files of 512 px, {size:.0f} kB each, two subjects with masks",
        "",
        "| | pictures a second | a second of one core |",
        "|---|---|---|",
        *(f"| {name} | {n / m['seconds']:.0f} | {n / m['processor_seconds']:.0f} |"
          for name, n, m in rows),
        "",
        f"filters and shards take {1 / share:.2f} times the processor time of decoding JPEG",
        f"memory: {together['peak_mib']:.0f} MiB with {count} pictures, {many['peak_mib']:.0f} MiB "
        f"with {MORE} times as many: {many['peak_mib'] / together['peak_mib']:.2f} times",
    ]  # fmt: skip


def _decode(paths: Sequence[Path]) -> dict[str, float]:
    """Seconds, and those of the processor."""
    before, used = time.perf_counter(), time.process_time()
    for path in paths:
        with Image.open(path) as file:
            file.load()
    return {
        "seconds": time.perf_counter() - before,
        "processor_seconds": time.process_time() - used,
    }


def _build(listed: Path, out: Path, processes: int, max_iou: float) -> dict[str, Any]:
    """A build in a process of its own. Another ``max_iou`` makes all filters and shards anew."""
    for shard in out.glob("*/*.tar"):
        shard.unlink()
    command = [sys.executable, "-m", "benchmarks.curation.timed"]
    arguments = [str(listed), str(out), str(processes), str(max_iou)]
    done = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))
