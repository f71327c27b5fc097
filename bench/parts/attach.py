"""(g) Coming in: the first byte of a 10,000-line tail of a long and of a short transcript; 1,000 clients at once."""

from __future__ import annotations

import time

from bench.machine import PATIENCE, Program
from bench.run import Run, written
from bench.servers import Stand

PART = "attach"
LINES = 10_000
TIMES = 20


def run(bench: Run) -> None:
    size = 1 << (26 if bench.quick else 30)
    clients = 200 if bench.quick else 1000
    stands = bench.stands(PART, 3)
    ours = [stand for stand in stands if stand.name == "consoled"]
    for stand in ours:
        for number, length in ((0, size), (1, 1 << 20)):
            _fill(stand, number, length)
            case = f"{LINES} lines of a transcript of {length >> 20} MiB"
            bench.turns(PART, case, [stand], first_byte, number)
    bench.turns(PART, f"{clients} clients at once", stands, crowd, clients, 0)
    bench.turns(PART, f"{clients} clients at once, 100 lines each", ours, crowd, clients, 100)


def _fill(stand: Stand, number: int, size: int) -> None:
    had = stand.logged()
    stand.nodes.ask(f"flood {number} {number + 1}")
    deadline = time.monotonic() + PATIENCE
    while stand.nodes.ask(f"count {number} {number + 1}")["said"][0] < size and time.monotonic() < deadline:
        time.sleep(0.002)
    stand.nodes.ask(f"still {number} {number + 1}")
    written(stand, had + size)
    time.sleep(1.0)  # segments are being closed


def first_byte(stand: Stand, number: int) -> dict[str, float]:
    """From the dial to the first byte of the transcript, one client after the other."""
    waits = []
    for _ in range(TIMES):
        with stand.watchers(number, number + 1, lines=LINES) as watchers:
            waits.append(_all_have_one(watchers, 1)["max"])
    waits.sort()
    return {"p50 ms": waits[TIMES // 2] * 1e3, "max ms": waits[-1] * 1e3}


def crowd(stand: Stand, clients: int, lines: int) -> dict[str, float]:
    """Until the last of them is in or, if they want lines, has its first."""
    with stand.watchers(1, 2, clients, window=clients, lines=lines, patience=20) as watchers:
        seconds = watchers.greeting["seconds"]
        found = _all_have_one(watchers, clients) if lines else {"max": seconds, "p50": seconds}
    return {"s": found["max"], "ms each": found["max"] / clients * 1e3}


def _all_have_one(watchers: Program, clients: int) -> dict[str, float]:
    deadline = time.monotonic() + PATIENCE
    while (found := watchers.ask("firsts"))["firsts"] < clients and time.monotonic() < deadline:
        time.sleep(0.005)
    return found
