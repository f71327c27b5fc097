"""(e) A key and its echo: alone, beside 50 busy consoles, and beside the 500 of `many`."""

from __future__ import annotations

import time

from bench.run import Run
from bench.stand import Stand

PART = "echo"
BUSY = 50
"""Consoles at 115,200 baud beside the one that is typed at, each with two watchers."""


def run(bench: Run) -> None:
    keys = 200 if bench.quick else 500
    stands = bench.stands(PART, BUSY + 1, relays=((8192, False),))
    bench.turns(PART, "idle", stands, idle, keys)
    servers = [stand for stand in stands if stand.count > 1]
    bench.turns(PART, f"{BUSY} busy consoles", servers, busy, keys)


def idle(stand: Stand, keys: int, *, tls: bool = False) -> dict[str, float]:
    return _values(stand.typist(stand.count - 1, keys, tls=tls))


def busy(stand: Stand, keys: int, consoles: int = BUSY, *, tls: bool = False) -> dict[str, float]:
    with stand.watchers(0, consoles, 2, tls=tls):
        stand.nodes.ask(f"pace 0 {consoles} 11520 4")
        time.sleep(0.3)
        try:
            found = stand.typist(stand.count - 1, keys, tls=tls)
        finally:
            stand.nodes.ask(f"still 0 {consoles}")
    return _values(found)


def _values(found: dict[str, float]) -> dict[str, float]:
    return {"p50 us": found["p50"] * 1e6, "p99 us": found["p99"] * 1e6, "missing": found["missing"]}
