"""The real ComfyUI server as a child process, in a folder of its own, the pack linked into it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from .console import DevError, Progress, last_lines
from .host import Host
from .patience import PATIENCE_SECONDS
from .processes import end_process

# The registry's name for the pack, too; ComfyUI writes the folder's name into saved workflows.
PACK_NAME, FORMER_PACK_NAME = "subject-diffusion", "comfyui-subject-diffusion"
LOOPBACK = "127.0.0.1"
# One answer to "are you there"; then it is asked again.
ANSWER_SECONDS = 60.0
STALE_SECONDS = 7 * 24 * 3600.0
# Not needed for the pack to work and never to be copied where links are not possible.
NOT_COPIED = shutil.ignore_patterns(".git", ".dev", "__pycache__", "runs", "output", "*.part")


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def require_free_port(port: int) -> int:
    """`port` itself if a server can listen on it, else one clear error."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((LOOPBACK, port))
        except (OSError, OverflowError) as error:
            raise DevError(
                f"--port: expected a free port, got {port} ({error}). "
                "Choose another or leave it out."
            ) from error
    return port


def link_folder(target: Path, link: Path) -> None:
    """Make `link` stand for the folder `target`: a link, on Windows a junction, else a copy."""
    try:
        os.symlink(target, link, target_is_directory=True)
        return
    except OSError:
        if sys.platform != "win32":
            shutil.copytree(target, link, ignore=NOT_COPIED)
            return
    command = ["cmd", "/c", "mklink", "/J", str(link), str(target)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        shutil.copytree(target, link, ignore=NOT_COPIED)


def remove_tree(folder: Path) -> None:
    """Delete a server folder; the links to the pack go first, so that nothing is followed."""
    custom_nodes = folder / "custom_nodes"
    for entry in custom_nodes.iterdir() if custom_nodes.is_dir() else ():
        unlink_folder(entry)
    shutil.rmtree(folder, ignore_errors=True)


def unlink_folder(link: Path) -> None:
    """Remove what `link_folder` made, without touching the folder it stands for."""
    if link.is_symlink():
        link.unlink()
        return
    try:
        link.rmdir()  # a junction goes this way; a copy is not empty and is refused
    except OSError:
        shutil.rmtree(link, ignore_errors=True)


def prepare_base(base: Path, pack: Path) -> None:
    """Lay out a ComfyUI base folder, with the pack in custom_nodes as a user would have it."""
    for name in ("custom_nodes", "input", "output", "temp", "user", "models/subject_diffusion"):
        (base / name).mkdir(parents=True, exist_ok=True)
    for name in (PACK_NAME, FORMER_PACK_NAME):
        link = base / "custom_nodes" / name
        if link.is_symlink() or link.exists():
            unlink_folder(link)
    link_folder(pack, base / "custom_nodes" / PACK_NAME)


def put_sample_pictures(base: Path, pack: Path) -> None:
    """The pictures of the example workflows into the input folder; what is there stays."""
    for picture in (pack / "assets").rglob("*.png"):
        target = base / "input" / picture.name
        if not target.exists():
            shutil.copyfile(picture, target)


@contextlib.contextmanager
def temporary_base(runs_folder: Path, pack: Path) -> Iterator[Path]:
    """A base folder that exists for the `with` block only."""
    runs_folder.mkdir(parents=True, exist_ok=True)
    for stale in runs_folder.iterdir():
        if time.time() - stale.stat().st_mtime > STALE_SECONDS:
            remove_tree(stale)
    base = Path(tempfile.mkdtemp(dir=runs_folder, prefix="server-"))
    try:
        prepare_base(base, pack)
        yield base
    finally:
        remove_tree(base)


class ComfyServer:
    """A running ComfyUI; use it in a `with` block, after which the process has ended.

    `options` are further ones of ComfyUI's command line.
    """

    def __init__(
        self,
        *,
        host: Host,
        python: Path,
        base: Path,
        log: Path,
        progress: Progress,
        port: int | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self._options = tuple(options)
        self._host = host
        self._python = python
        self._base = base
        self._log = log
        self._progress = progress
        self._process: subprocess.Popen[str] | None = None
        self.port = free_port() if port is None else require_free_port(port)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def base(self) -> Path:
        return self._base

    @property
    def process_id(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def command(self) -> list[str]:
        """The command line; options that this ComfyUI does not know are left out."""
        launcher = Path(__file__).with_name("host_launcher.py")
        command = [str(self._python), "-u", str(launcher), str(self._host.main)]
        command += [
            "--cpu",
            "--listen",
            LOOPBACK,
            "--port",
            str(self.port),
            "--disable-auto-launch",
        ]
        command += [
            "--base-directory",
            str(self._base),
            "--user-directory",
            str(self._base / "user"),
        ]
        if self._host.has_option("--database-url"):
            database = (self._base / "user" / "comfyui.db").as_posix()
            command += ["--database-url", f"sqlite:///{database}"]
        if self._host.has_option("--disable-api-nodes"):
            command += ["--disable-api-nodes"]
        return [*command, *self._options]

    def __enter__(self) -> ComfyServer:
        self._progress.say(f"Starting ComfyUI {self._host.version} (log: {self._log})")
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("w", encoding="utf-8") as log_file:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.PIPE,
                stdout=log_file,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=self._base,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        self._progress.say(f"ComfyUI is ready at {self.url}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server: standard input closes, then it is terminated, at last it is killed."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_SECONDS)
        end_process(self._process)

    def log_tail(self, count: int = 15) -> str:
        """The last lines of the server's log, for a message about what went wrong."""
        return last_lines(self._log.read_text(encoding="utf-8", errors="replace"), count)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if not self.is_running():
                raise DevError(f"ComfyUI ended while starting; its last lines:\n{self.log_tail()}")
            if self._answers():
                return
            time.sleep(0.2)
        raise DevError(
            f"ComfyUI did not answer within {PATIENCE_SECONDS:.0f} s; its last lines:\n"
            f"{self.log_tail()}"
        )

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(
                f"{self.url}/system_stats", timeout=ANSWER_SECONDS
            ) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False
