"""Consoles over SSH beside OpenSSH's own client: `bench.ssh_links`, as a part of the one run."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

from bench.machine import Trouble
from bench.run import Run

PART = "ssh"
PATIENCE = 150.0
"""Seconds; it has its own limits for each of its parts."""


def run(bench: Run) -> None:
    links, megabytes = (20, 50) if bench.quick else (100, 300)
    file = bench.place / "ssh_links.json"
    argv = [sys.executable, "-m", "bench.ssh_links", "--json", str(file)]
    argv += ["--links", str(links), "--megabytes", str(megabytes)]
    found: dict[str, dict[str, float]] = {}

    def measure(side: SimpleNamespace) -> dict[str, float]:
        if not found:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE)
            if done.returncode:
                raise Trouble(done.stderr.strip().rpartition("\n")[2] or f"status {done.returncode}")
            found.update(json.loads(file.read_text()))
        values = found[side.name]
        return {
            "KiB each": values["memory"] / 1024,
            "ms CPU to log in": values["login"] * 1e3,
            "MB/s": values["speed"] / 1e6,
            "CPU s/MB": values["flood"] * 1e6,
        }

    bench.turns(
        PART, f"{links} links", [SimpleNamespace(name=name) for name in ("consoled", "ssh")], measure, once=True
    )
