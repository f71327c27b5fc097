"""What a server has used, and what machine it ran on: processor time in nanoseconds, memory, a description."""

from __future__ import annotations

import os
import platform
import re
import time
from pathlib import Path
from typing import Any

CORES = sorted(os.sched_getaffinity(0))
CPUCLOCK_SCHED = 2  # linux/posix-timers.h
TICK = os.sysconf("SC_CLK_TCK")


def family_of(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                continue
    return found


def born(pid: int) -> str:
    """When a process was started: with its number, who it is.  Empty if it is no more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def processor(pid: int) -> float:
    """The seconds of processor time that a process and its descendants have used.

    The nanoseconds of each process's own clock (clock_getcpuclockid(3)), in which threads that have ended are counted;
    and of children that have ended the hundredths that stat(5) keeps for their parent.
    """
    used = 0.0
    for one in family_of(pid):
        try:
            ended = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[13:15]
            used += time.clock_gettime((~one << 3) | CPUCLOCK_SCHED) + sum(map(int, ended)) / TICK
        except OSError:
            continue
    return used


def memory(pid: int) -> int:
    """The bytes of a process and its descendants, each shared page counted in parts (PSS)."""
    size = 0
    for one in family_of(pid):
        try:
            rollup = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue
        size += 1024 * sum(map(int, re.findall(r"^Pss: +(\d+) kB", rollup, re.M)))
    return size


def describe() -> dict[str, Any]:
    """The machine, for the results."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    total = re.search(r"^MemTotal: +(\d+)", Path("/proc/meminfo").read_text(), re.M)
    return {
        "processor": model[1] if model else platform.machine(),
        "processors": len(CORES),
        "memory_mib": int(total[1]) // 1024 if total else 0,
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
        "python": platform.python_version(),
    }
