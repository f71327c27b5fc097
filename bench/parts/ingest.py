"""(b) Consoles that say as much as is taken, into their logs: 10 and 200, and 1,000 beside `small`; and `dd`.

What a byte costs must not grow with how many consoles say it.
"""

from __future__ import annotations

import shutil
import subprocess
import time

from bench.machine import SERVER
from bench.run import Run, written
from bench.stand import Stand

PART = "ingest"
MEMORY = 3 << 29
"""Bytes that a turn may write: what is said in a second, and what waits in the kernel then."""


def run(bench: Run) -> None:
    consoles = 51 if bench.quick else 200
    stands = bench.stands(PART, consoles)
    for count in (consoles,) if bench.quick else (10, consoles):
        bench.turns(PART, case(count), stands, flood, count, bench.seconds, memory=MEMORY)
    if "relay" in bench.servers:
        for _ in range(bench.rounds):
            bench.note(PART, case(consoles), "dd", dd(bench))


def case(consoles: int) -> str:
    return f"{consoles} consoles, flood"


def flood(stand: Stand, consoles: int, seconds: float) -> dict[str, float]:
    """From the first byte until the last one is in its file."""
    said = stand.nodes.ask("mark")["said"]
    had, used, began = stand.logged(), stand.processor, time.monotonic()
    stand.nodes.ask(f"flood 0 {consoles}")
    time.sleep(seconds)
    stand.nodes.ask(f"still 0 {consoles}")
    time.sleep(0.05)  # the rests of lines
    size = stand.nodes.ask("mark")["said"] - said
    spent = written(stand, had + size) - began
    used = stand.processor - used
    time.sleep(0.1)  # files are being renamed
    found = stand.tools.verify(stand.files(number) for number in range(consoles))
    stand.forget()
    return {
        "MB/s": size / 1e6 / spent,
        "CPU s/MB": used / (size / 1e6),
        "CPU": used / spent,
        "lost": found["lost"] / (found["good"] + found["lost"]),
        "repeated": found["again"],
    }


def dd(bench: Run) -> dict[str, float]:
    """Half a gigabyte in 64 KiB writes by one process on the server's core: the disk and the page cache alone."""
    path = bench.place / "dd"
    size = 1 << (27 if bench.quick else 29)
    argv = ["taskset", "-c", str(SERVER), shutil.which("dd") or "dd", "if=/dev/zero", f"of={path}", "bs=64k"]
    began = time.monotonic()
    subprocess.run([*argv, f"count={size >> 16}"], check=True, stderr=subprocess.DEVNULL, timeout=60)
    spent = time.monotonic() - began
    path.unlink()
    return {"MB/s": size / 1e6 / spent}
