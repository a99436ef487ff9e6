"""``python -m training pack``: a small copy of shards for a GPU that is at hand for minutes."""

from __future__ import annotations

import argparse
import shutil

from .options import add_path

HELP = """\
make a small copy of shards, for a GPU elsewhere

Copies samples, spread over all shards, until the folder is full.

Example: pack here, train there for ten minutes, go on another day
  python -m training pack --data .dev/tiny/composites-train --out packed
  python -m training train --recipe tiny_second --base weights/tiny_base.safetensors \\
      --init weights/tiny_adapter.safetensors --data packed --out run --minutes 10 \\
      --set precision=bfloat16
  python -m training export --run run --out adapter.safetensors --int8

The copy has lossy pictures and nothing computed before: latents and features are computed while
training. It is cut into files of at most 16 MB.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Shards, the small folder, its size."""
    add_path(parser, "--data", "folder of .tar shards", required=True)
    add_path(parser, "--out", "the folder to make", required=True)
    parser.add_argument("--max-mb", type=float, default=58.0, help="its size (default 58)")
    parser.add_argument("--quality", type=int, default=80, help="of the pictures (default 80)")


def run(arguments: argparse.Namespace) -> None:
    """Pack, and say what came of it."""
    from ..dataset.catalogue import open_catalogue
    from ..dataset.packing import pack

    if not 0.1 <= arguments.max_mb < float("inf"):
        raise ValueError(f"--max-mb: expected 0.1 or more, got {arguments.max_mb}. Raise it.")
    if not 1 <= arguments.quality <= 100:
        raise ValueError(f"--quality: expected 1 to 100, got {arguments.quality}. 80 is fine.")
    if any(arguments.out.glob("*.tar")):
        raise ValueError(
            f"--out: expected a folder without shards, got {arguments.out}. Choose another."
        )
    catalogue = open_catalogue(arguments.data, arguments.out / "source-index")
    packed = pack(catalogue, arguments.out, int(arguments.max_mb * 1e6), arguments.quality)
    shutil.rmtree(arguments.out / "source-index")
    print(
        f"{arguments.out}: {packed.samples} of {sum(catalogue.counts)} samples in {packed.shards} "
        f"files, {packed.size / 1e6:.1f} MB; {packed.left_out} could not be read"
    )
