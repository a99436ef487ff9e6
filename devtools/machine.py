"""What this machine can do at once: its cores and its free memory."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

GIB = 2**30
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def num_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory() -> float:
    """Memory in GiB that could be used now; 0 where this system does not say."""
    if sys.platform == "win32":
        return _free_on_windows()
    return min(_free_on_machine(), _free_in_container())


def _free_on_machine() -> float:
    if MEMINFO.is_file():
        values = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        return int(values.get("MemAvailable", "0 kB").split()[0]) * 1024 / GIB
    try:  # macOS: it gives back what it caches, half of all is a careful guess
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2 / GIB
    except (ValueError, OSError):
        return 0.0


def _free_in_container() -> float:
    """What a container's limit leaves; files that it caches are given back when needed."""
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no container, or "max"
        return float("inf")
    return (limit - used + int(stat.get("inactive_file", "0"))) / GIB


def _free_on_windows() -> float:
    class Status(ctypes.Structure):
        """MEMORYSTATUSEX."""

        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "available", "page_total")),
            *((name, ctypes.c_ulonglong) for name in ("page", "virtual_total", "virtual", "extra")),
        )

    status = Status(length=ctypes.sizeof(Status))
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
    return float(status.available) / GIB
