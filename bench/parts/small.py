"""(b2) Many small reads: consoles that say a few 64-byte lines at a time, and nobody watches."""

from __future__ import annotations

import time

from bench.parts import ingest
from bench.run import Run, written
from bench.stand import Stand

PART = "small reads"
CASES = {200: (20_000, 3), 1000: (4_000, 1)}
"""Consoles: bytes a second of each, and lines at once.  Both are 62,500 lines a second in all.  conserver is not
asked for 1,000: it rests for 0.75 s after each process of 16 consoles."""
QUICK = {51: (20_000, 3)}
TICKS = {"apart": 0, "every 10 ms": 10}
"""No two consoles at the same moment, as nodes are that know nothing of each other; or all in one stroke."""


def run(bench: Run) -> None:
    for consoles, (rate, burst) in QUICK.items() if bench.quick else CASES.items():
        stands = bench.stands(PART, consoles, but=() if consoles < 1000 else ("conserver",))
        for how, tick in TICKS.items():
            case = f"{consoles} consoles, {consoles * rate / 64:,.0f} lines/s, {how}"
            bench.turns(PART, case, stands, lines, consoles, f"{rate} {burst} {tick}", bench.seconds)
        if consoles == 1000:
            case = ingest.case(consoles)
            bench.turns(ingest.PART, case, stands, ingest.flood, consoles, bench.seconds, memory=2 * ingest.MEMORY)


def lines(stand: Stand, consoles: int, how: str, seconds: float) -> dict[str, float]:
    """Processor time for each line, from the first until the last is in its file."""
    had, said = stand.logged(), stand.nodes.ask("mark")["said"]
    used, began = stand.processor, time.monotonic()
    stand.nodes.ask(f"pace 0 {consoles} {how}")
    time.sleep(seconds + 0.2)
    stand.nodes.ask(f"still 0 {consoles}")
    time.sleep(0.05)  # what is owed
    size = stand.nodes.ask("mark")["said"] - said
    spent = written(stand, had + size) - began
    used = stand.processor - used
    time.sleep(0.1)  # files are being renamed
    found = stand.tools.verify(stand.files(number) for number in range(consoles))
    stand.forget()
    return {
        "CPU us/line": used / size * 64 * 1e6,
        "CPU": used / spent,
        "lost": found["lost"] / (found["good"] + found["lost"]),
        "late s": spent - seconds - 0.25,
    }
