"""Clients that have nothing to read: what one takes of consoled's memory, over plain WebSockets and over TLS."""

from __future__ import annotations

import time

from bench.run import Run
from bench.stand import Stand

PART = "clients"


def run(bench: Run) -> None:
    count = 500 if bench.quick else 5000
    for tls in (False, True):
        bench.close()  # what the others have left free would not be seen as taken
        stands = bench.stands(PART, 10, but=("conman", "conserver"), tls=True)
        case = f"{count} idle {'TLS ' if tls else ''}WebSockets"
        bench.turns(PART, case, stands, each, count, tls, rounds=1)


def each(stand: Stand, count: int, tls: bool) -> dict[str, float]:
    """What they add, once some came and went: what is loaded and grown for the first is nobody's."""
    stand.watchers(0, 10, 10, tls=tls).stop()
    time.sleep(0.5)
    size = stand.memory
    with stand.watchers(0, 10, count // 10, tls=tls, patience=60) as watchers:
        time.sleep(1.0)
        grown = stand.memory - size
        seconds = watchers.greeting["seconds"]
    time.sleep(0.5)
    return {"KiB/client": grown / count / 1024, "ms to come in": seconds / count * 1e3}
