"""Options that several commands of ``python -m training`` share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_path(parser: argparse.ArgumentParser, name: str, help: str, **more: Any) -> None:
    """A file or folder; ``more`` as argparse takes it."""
    parser.add_argument(name, type=Path, help=help, **more)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """``--set``, for commands that take a recipe."""
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="change a setting of the recipe; may be given several times",
    )  # fmt: skip
