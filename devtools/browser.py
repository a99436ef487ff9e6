"""The browser that the tests of the front end run in: Chromium of the system, never downloaded."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from .console import DevError, Progress, last_lines

BROWSER_VARIABLE = "SUBJECT_DIFFUSION_CHROMIUM"
COMMANDS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSTALL_SECONDS = 600.0


def find_browser() -> Path | None:
    """The Chromium that SUBJECT_DIFFUSION_CHROMIUM names, or the first one on the path."""
    given = os.environ.get(BROWSER_VARIABLE)
    if given:
        if not Path(given).is_file():
            raise DevError(
                f"{BROWSER_VARIABLE}: expected the path of a Chromium, got {given!r}. "
                "Correct it or unset it."
            )
        return Path(given)
    found = (shutil.which(command) for command in COMMANDS)
    return next((Path(path) for path in found if path), None)


def find_or_install_browser(progress: Progress) -> Path | None:
    """A Chromium, installed with apt-get where this process may; None where there is none."""
    browser = find_browser()
    if browser is None and can_install():
        progress.say("Installing Chromium for the browser tests (apt-get install chromium)")
        install(progress)
        browser = find_browser()
    if browser is None:
        progress.say(
            "Browser tests are skipped: there is no Chromium. Install one, or set "
            f"{BROWSER_VARIABLE} to its path."
        )
    return browser


def can_install() -> bool:
    """Whether this is root on a system with apt-get."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return is_root and shutil.which("apt-get") is not None


def install(progress: Progress) -> None:
    """Install Debian's Chromium; a failure is only reported, as the other tests need none."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
        try:
            done = subprocess.run(
                ["apt-get", "-q", *arguments],
                env=environment,
                capture_output=True,
                text=True,
                timeout=INSTALL_SECONDS,
            )
        except subprocess.TimeoutExpired:
            progress.say(f"apt-get {arguments[0]} took longer than {INSTALL_SECONDS:.0f} s")
            return
        if done.returncode != 0:
            progress.say(f"apt-get {arguments[0]} failed:\n{last_lines(done.stderr, 3)}")
