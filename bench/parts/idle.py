"""(a) Consoles that say nothing: how long until all are connected, what they take, what they cost."""

from __future__ import annotations

import time

from bench.run import Run, window
from bench.servers import SERVERS
from bench.stand import Stand

PART = "idle"
COUNTS = (10, 200, 1000, 4000)
MOST = 10_000
"""Or as many as the limit of descriptors allows: a console takes two in each server, and a node two."""
FORKS = 200
"""conserver rests for 0.75 s after each process of 16 consoles: 1,000 take it 47 s, and 4,000 over three minutes."""


def run(bench: Run) -> None:
    most = min(MOST, (bench.descriptors - 200) // 2)
    if most < MOST:
        bench.remarks.append(
            f"A process may have {bench.descriptors:,} descriptors here: {most:,} consoles, not {MOST:,}."
        )
    bench.close()  # another daemon would share the interpreter's pages with this one, and make it look smaller
    for count in (10, 1000) if bench.quick else (*COUNTS, most):
        kinds = [SERVERS[name] for name in bench.servers if name in SERVERS]
        if count > (0 if bench.quick else FORKS):
            kinds = [kind for kind in kinds if kind.name != "conserver"]
        bench.turns(PART, f"{count} consoles", kinds, alone, bench, count, rounds=0 if count >= 4000 else 1)


def alone(kind: type[Stand], bench: Run, count: int) -> dict[str, float]:
    stand = kind(bench.tools, bench.place, count)
    try:
        time.sleep(1.0)  # what the start has left to do
        size = stand.memory
        found = window(stand, bench.seconds if bench.quick else 2.0)
    finally:
        stand.stop()
    return {
        "s": stand.seconds,
        "s dialling": stand.dialling,
        "MiB": size / 2**20,
        "KiB/console": size / 1024 / count,
        "CPU": found["processor"],
    }
