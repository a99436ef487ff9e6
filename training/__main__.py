"""``python -m training``: the commands that make and measure weights."""

from __future__ import annotations

import argparse
import logging
import sys

INSTALL = "python -m pip install .[train,data,eval]"
# bitsandbytes warns of kernels that nothing here calls.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def build_parser(command: str = "") -> argparse.ArgumentParser:
    """All commands, in the order in which they are used; ``command``: the one that is asked for."""
    from .commands.ablation import add_ablation
    from .commands.dreambench import add_dreambench
    from .commands.evaluate import add_evaluate
    from .commands.export import add_export, add_import_reference
    from .commands.pack import add_pack
    from .commands.precompute import add_precompute
    from .commands.recipes import add_recipes
    from .commands.tiny import add_tiny
    from .commands.train import add_train

    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    add_tiny(commands)
    add_recipes(commands)
    add_precompute(commands)
    add_pack(commands)
    add_train(commands)
    add_export(commands)
    add_import_reference(commands)
    add_evaluate(commands, asked=command == "evaluate")
    add_ablation(commands)
    add_dreambench(commands)
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run one command; what a person can mend ends in a sentence."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        parsed = build_parser(words[0] if words else "").parse_args(words)
        parsed.run(parsed)
    except ModuleNotFoundError as error:
        if error.name is None:
            sys.exit(f"error: {error}")
        if error.name.split(".")[0] in ("training", "subject_diffusion_core"):
            raise
        sys.exit(
            f"error: expected the package {error.name} in {sys.executable}, got none. "
            f"Install what training needs, in the repository's folder: {INSTALL}"
        )
    except Exception as error:
        if not is_mendable(error):
            raise
        sys.exit(f"error: {error}")


def is_mendable(error: Exception) -> bool:
    """Whether a person can mend it by what its sentence says: settings, files, disks."""
    from safetensors import SafetensorError

    return isinstance(error, ValueError | OSError | FloatingPointError | SafetensorError)


if __name__ == "__main__":
    main()
