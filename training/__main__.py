"""``python -m training``: the commands that make and measure weights."""

from __future__ import annotations

import argparse
import logging

from .commands.running import ALL_EXTRAS, run_command

# bitsandbytes warns of kernels that nothing here calls.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def build_parser() -> argparse.ArgumentParser:
    """All commands, in the order in which they are used.

    Each is a module with ``add_options``, ``run`` and its ``HELP``: a line for the list of
    commands, what it does, and what stands below its options. What a person can mend, ``run``
    raises: one sentence.
    """
    from .commands import (
        data,
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
        tiny, recipes, data, precompute, pack, train, export, import_reference, evaluate,
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
        command.set_defaults(run=module.run, extras=getattr(module, "EXTRAS", ALL_EXTRAS))
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run one command; what a person can mend ends in a sentence."""
    run_command(build_parser, arguments)


if __name__ == "__main__":
    main()
