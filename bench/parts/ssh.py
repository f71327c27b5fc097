"""Consoles over SSH beside OpenSSH's own client: `bench.ssh_links`, as a part of the one run."""

from __future__ import annotations

import json
import subprocess
import sys

from bench.machine import Trouble
from bench.run import Run

PART = "ssh"
PATIENCE = 80.0
"""Seconds; it has its own limits for each of its parts."""


def run(bench: Run) -> None:
    links, megabytes = (10, 30) if bench.quick else (50, 150)
    file = bench.place / "ssh_links.json"
    argv = [sys.executable, "-m", "bench.ssh_links", "--json", str(file)]
    argv += ["--links", str(links), "--megabytes", str(megabytes)]
    bench.check()
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise Trouble(f"not within {PATIENCE:g} s") from None
    if done.returncode:
        raise Trouble(done.stderr.strip().rpartition("\n")[2] or f"status {done.returncode}")
    found = json.loads(file.read_text())
    for server in ("consoled", "ssh"):
        values = found[server]
        figures = {
            "KiB each": values["memory"] / 1024,
            "ms CPU to log in": values["login"] * 1e3,
            "MB/s": values["speed"] / 1e6,
            "CPU s/MB": values["flood"] * 1e6,
        }
        bench.note(PART, f"{links} links", server, figures)
