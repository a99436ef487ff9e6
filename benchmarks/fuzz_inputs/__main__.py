"""Send wrong input of every kind to a real server, for a while, and list what it should not say.

    python -m benchmarks.fuzz_inputs --minutes 20 --seed 0

with the environment's Python and COMFYUI_PATH=... . Each try has something wrong in one node's
inputs, or a file that is nearly right. It must give a picture or one readable sentence; after every
25 tries the same good graph must give the same file, byte for byte. Exit status 1 if something fell
short.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from devtools.console import Progress
from devtools.server import LOOPBACK, ComfyServer, temporary_base

from ..comfyui import ROOT, find_comfyui
from .trying import Fuzzer


def main() -> int:
    options, progress = parse_options(), Progress()
    with (
        tempfile.TemporaryDirectory() as folder,
        temporary_base(Path(folder) / "runs", ROOT) as base,
        ComfyServer(
            host=find_comfyui(),
            python=Path(sys.executable),
            base=base,
            log=Path(folder) / "server.log",
            progress=progress,
        ) as server,
    ):
        fuzzer = Fuzzer(
            LOOPBACK, server.port, server.base, server.is_running, options.seed, progress.say
        )
        fuzzer.run(seconds=60 * options.minutes, tries=options.tries)
        print(fuzzer.report())
    return 1 if fuzzer.faults else 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_inputs")
    parser.add_argument("--minutes", type=float, default=20.0, help="how long; 20")
    parser.add_argument("--tries", type=int, default=10**9, help="at most so many")
    parser.add_argument("--seed", type=int, default=0, help="decides all that is tried")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
