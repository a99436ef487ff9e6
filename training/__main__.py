"""``python -m training``: the commands that make and measure weights."""

from __future__ import annotations

import argparse
import logging
import sys

INSTALL = "python -m pip install .[{extras}]"
# bitsandbytes warns of kernels that nothing here calls.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def build_parser() -> argparse.ArgumentParser:
    """All commands, in the order in which they are used.

    Each is a module with ``add_options``, ``run`` and its ``HELP``: a line for the list of
    commands, what it does, and what stands below its options. What a person can mend, ``run``
    raises: one sentence.
    """
    from .commands import (
        ablation,
        data,
        dreambench,
        evaluate,
        export,
        import_reference,
        pack,
        precompute,
        recipes,
        tiny,
        train,
    )

    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for module in (
        tiny, recipes, data, precompute, pack, train, export, import_reference, evaluate, ablation,
        dreambench,
    ):  # fmt: skip
        name = module.__name__.rpartition(".")[2].replace("_", "-")
        summary, description, epilog = module.HELP.split("\n\n", 2)
        command = commands.add_parser(
            name,
            help=summary,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_options(command)
        command.set_defaults(run=module.run, extras=getattr(module, "EXTRAS", "train,data,eval"))
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run one command; what a person can mend ends in a sentence."""
    parsed = argparse.Namespace(extras="train,data,eval")
    try:
        from safetensors import SafetensorError

        parsed = build_parser().parse_args(arguments)
        parsed.run(parsed)
    except ModuleNotFoundError as error:
        if error.name is None:
            sys.exit(f"error: {error}")
        if error.name.split(".")[0] in ("training", "subject_diffusion_core"):
            raise
        sys.exit(
            f"error: expected the package {error.name} in {sys.executable}, got none. "
            f"Install what this needs, in the repository's folder: "
            f"{INSTALL.format(extras=parsed.extras)}"
        )
    except (ValueError, OSError, FloatingPointError, SafetensorError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
