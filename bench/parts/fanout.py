"""(c) One console and many watchers: at full speed, and at a console's real pace."""

from __future__ import annotations

import time

from bench.machine import Program
from bench.run import Run, drained, window
from bench.stand import Stand

PART = "fanout"
RELAYS = ((262144, False), (262144, True), (8192, False))
"""The relay reads as much at once as consoled does in a flood, and as the peers do; and once it writes a log."""
PACES = {"11.5 KB/s": (11520, 4), "200 KB/s": (200_000, 32)}
"""Bytes a second, and lines at once: a serial line at 115,200 baud in packets of an IPMI console, and a fast one."""
WATCHERS = (1, 10, 100, 1000)
"""At those paces.  100 of them are what a figure was set for; the others have one round each."""
LATEST = 5.0
"""Seconds to read what was sent in a flood; who takes longer is `behind` and not measured any further."""


def run(bench: Run) -> None:
    stands = bench.stands(PART, 2, relays=RELAYS[:1] if bench.quick else RELAYS)
    unlogged = [stand for stand in stands if not stand.options.get("log")]
    for each in bench.watchers:
        who = stands if each == 1 else unlogged  # the log is one copy of K + 2
        rounds, memory = 0 if each <= 100 else 1, 1 << 30 if each <= 10 else 1 << 28
        bench.turns(PART, f"flood, K={each}", who, flood, each, bench.seconds, rounds=rounds, memory=memory)
    servers = [stand for stand in stands if stand.count > 1]
    for name in ("200 KB/s",) if bench.quick else PACES:
        for each in (100,) if bench.quick else WATCHERS:
            rounds = 0 if each == 100 else 1
            bench.turns(PART, f"{name}, K={each}", servers, pace, each, name, bench.seconds, rounds=rounds)


def flood(stand: Stand, each: int, seconds: float, *, tls: bool = False) -> dict[str, float]:
    """Delivered bytes a second, all watchers together; processor seconds for each megabyte delivered; what is lost."""
    with stand.watchers(0, 1, each, tls=tls) as watchers:
        stand.nodes.ask("flood 0 1")
        time.sleep(0.2)
        found = window(stand, seconds, watchers)
        return _end(stand, watchers, found)


def pace(stand: Stand, each: int, name: str, seconds: float, *, tls: bool = False) -> dict[str, float]:
    rate, burst = PACES[name]
    with stand.watchers(0, 1, each, tls=tls) as watchers:
        stand.nodes.ask(f"pace 0 1 {rate} {burst}")
        time.sleep(0.2)
        found = window(stand, max(seconds, 1.0), watchers)
        return _end(stand, watchers, found)


def _end(stand: Stand, watchers: Program, found: dict[str, float]) -> dict[str, float]:
    stand.nodes.ask("still 0 1")
    end = drained(watchers, LATEST)
    watchers.stop()
    stand.forget()
    return {
        "MB/s": found["bytes"] / 1e6,
        "CPU s/MB": found["processor"] / max(found["bytes"] / 1e6, 1e-9),
        "CPU": found["processor"],
        "lost": (end["lost"] + end["closed"]) / max(1, end["bytes"] + end["lost"]),
        "repeated": end["again"],
        "behind s": end["behind"],
        "load CPU": found["load"],
    }
