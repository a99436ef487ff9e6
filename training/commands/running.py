"""Runs a command: what a person can mend ends in one sentence."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

INSTALL = "python -m pip install .[{extras}]"
ALL_EXTRAS = "train,data,eval"


def run_command(
    make_parser: Callable[[], argparse.ArgumentParser], arguments: Sequence[str] | None
) -> None:
    """Parse the arguments and call their ``run``; ``extras`` beside it, where the parser sets it,
    names what the command needs installed."""
    parsed = argparse.Namespace(extras=ALL_EXTRAS)
    try:
        from safetensors import SafetensorError

        parsed = make_parser().parse_args(arguments, parsed)
        parsed.run(parsed)
    except ModuleNotFoundError as error:
        if error.name is None:
            sys.exit(f"error: {error}")
        if error.name.split(".")[0] in ("training", "benchmarks", "subject_diffusion_core"):
            raise
        sys.exit(
            f"error: expected the package {error.name} in {sys.executable}, got none. "
            f"Install what this needs, in the repository's folder: "
            f"{INSTALL.format(extras=parsed.extras)}"
        )
    except (ValueError, OSError, FloatingPointError, SafetensorError) as error:
        sys.exit(f"error: {error}")
