"""ComfyUI's web server, where this process has one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol, TypeVar

Handler = TypeVar("Handler", bound=Callable[..., object])


class Routes(Protocol):
    """The addresses that it answers."""

    def get(self, path: str) -> Callable[[Handler], Handler]: ...

    def post(self, path: str) -> Callable[[Handler], Handler]: ...


class PromptServer(Protocol):
    """The parts of it that this pack relies on."""

    routes: Routes
    client_id: str | None

    def send_sync(self, event: str, data: object, sid: str | None = None) -> None: ...


def prompt_server() -> PromptServer | None:
    """The running `PromptServer`; None in a process that uses ComfyUI's modules without one."""
    # not imported: in a process without a server there is nobody to talk to
    server_module = sys.modules.get("server")
    return getattr(getattr(server_module, "PromptServer", None), "instance", None)
