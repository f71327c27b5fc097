"""(d) Many to many: 500 consoles at 115,200 baud with two watchers each; and (e) a key's echo beside them."""

from __future__ import annotations

import time

from bench.machine import Trouble
from bench.parts import echo
from bench.run import Run, drained, window
from bench.stand import Stand

PART = "many"
BAUD, BURST = 11520, 4
"""Bytes a second of each, and lines at once: 256 bytes are what an IPMI console sends in one packet."""


def run(bench: Run) -> None:
    consoles = 50 if bench.quick else 500
    stands = bench.stands(PART, consoles + 1)
    case = f"{consoles} consoles at 115,200 baud, 2 watchers each"
    bench.turns(PART, case, stands, talk, consoles, bench.seconds)
    if not bench.quick:
        bench.turns(echo.PART, f"{consoles} busy consoles", stands, echo.busy, 300, consoles)


def talk(stand: Stand, consoles: int, seconds: float) -> dict[str, float]:
    with stand.watchers(0, consoles, 2) as watchers:
        stand.nodes.ask(f"pace 0 {consoles} {BAUD} {BURST}")
        time.sleep(0.5)
        found = window(stand, max(seconds, 1.0), watchers)
        owed = stand.nodes.ask(f"still 0 {consoles}")["owed"]
        end = drained(watchers)
    stand.forget()
    if owed > found["said"] / 5:
        raise Trouble(f"it does not keep up: {owed / 1e6:.1f} MB wait in the nodes")
    return {
        "CPU": found["processor"],
        "MB/s": found["bytes"] / 1e6,
        "lost": (end["lost"] + end["closed"]) / max(1, end["bytes"] + end["lost"]),
        "load CPU": found["load"],
    }
