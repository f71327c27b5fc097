"""(g) Coming in: the first byte of a 10,000-line tail of a long and of a short transcript; 1,000 clients at once."""

from __future__ import annotations

import time

from bench.machine import PATIENCE, Program, until
from bench.run import Run, written
from bench.stand import Stand

PART = "attach"
LINES = 10_000
TIMES = 20
FEW = 8
"""As many as come in at the same time where ConMan is to keep up: it has room for ten at its door."""


def run(bench: Run) -> None:
    size = 1 << (26 if bench.quick else 30)
    clients = 200 if bench.quick else 1000
    stands = bench.stands(PART, 2)
    ours = [stand for stand in stands if stand.name == "consoled"]
    for stand in ours:
        for number, length in ((0, size), (1, 1 << 20)):
            _fill(stand, number, length)
        for number, length in ((0, size), (1, 1 << 20)):
            case = f"{LINES:,} lines of a transcript of {length >> 20:,} MiB"
            bench.turns(PART, case, [stand], first_byte, number)
    rest = [stand for stand in stands if stand.name != "conman"] if bench.quick else stands
    bench.turns(PART, f"{clients:,} tails, {FEW} at a time", stands, crowd, clients, 0, "tail", FEW, rounds=1)
    bench.turns(PART, f"{clients:,} tails at once", rest, crowd, clients, 0, "tail")
    bench.turns(PART, f"{clients:,} tails of 100 lines at once", ours, crowd, clients, 100, "tail")
    bench.turns(PART, f"{clients:,} interactive at once", ours, crowd, clients, 0, "interact")


def _fill(stand: Stand, number: int, size: int) -> None:
    def said() -> int:
        found: int = stand.nodes.ask(f"count {number} {number + 1}")["said"][0]
        return found

    had, before = stand.logged(), said()
    stand.nodes.ask(f"flood {number} {number + 1}")
    until(f"{stand.name} takes {size} bytes", lambda: said() - before >= size, pause=0.002)
    stand.nodes.ask(f"still {number} {number + 1}")
    time.sleep(0.05)  # the rest of a line
    written(stand, had + said() - before)
    time.sleep(1.0)  # segments are being closed


def first_byte(stand: Stand, number: int) -> dict[str, float]:
    """From the dial to the first byte of the transcript, one client after the other."""
    waits = []
    for _ in range(TIMES):
        with stand.watchers(number, number + 1, lines=LINES) as watchers:
            waits.append(_all_have_one(watchers, 1)["max"])
    waits.sort()
    return {"p50 ms": waits[TIMES // 2] * 1e3, "max ms": waits[-1] * 1e3}


def crowd(stand: Stand, clients: int, lines: int, verb: str, window: int = 0) -> dict[str, float]:
    """Until the last of them is in or, if they want lines, has its first."""
    with stand.watchers(1, 2, clients, window=window or clients, lines=lines, verb=verb, patience=12) as watchers:
        seconds = watchers.greeting["seconds"]
        found = _all_have_one(watchers, clients) if lines else {"max": seconds}
    return {"s": found["max"], "ms each": found["max"] / clients * 1e3}


def _all_have_one(watchers: Program, clients: int) -> dict[str, float]:
    deadline = time.monotonic() + PATIENCE
    while (found := watchers.ask("firsts"))["firsts"] < clients and time.monotonic() < deadline:
        time.sleep(0.002)
    return found
