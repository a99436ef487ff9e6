"""A real server for tests over HTTP."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from devtools.console import Progress
from devtools.host import Host
from devtools.server import LOOPBACK, ComfyServer, temporary_base

ROOT = Path(__file__).resolve().parents[1]


def make_server(host: Host, base: Path, log: Path, options: Sequence[str] = ()) -> ComfyServer:
    return ComfyServer(
        host=host,
        python=Path(sys.executable),
        base=base,
        log=log,
        progress=Progress(),
        options=options,
    )


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


@contextmanager
def running_server(
    comfyui_folder: Path, folder: Path, options: Sequence[str] = (), pack: Path = ROOT
) -> Iterator[ComfyServer]:
    """A server with the pack in a folder; its end is a test, too: nothing may be left of it."""
    with (
        temporary_base(folder / "runs", pack) as base,
        make_server(Host(comfyui_folder), base, folder / "server.log", options) as running,
    ):
        yield running
    assert not running.is_running()
    assert not is_open(running.port)
    assert list((folder / "runs").iterdir()) == []
    log = (folder / "server.log").read_text(encoding="utf-8")
    assert sys.platform == "win32" or "Stopped server" in log
