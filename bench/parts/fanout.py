"""(c) One console and many watchers: at full speed, and at a console's real pace."""

from __future__ import annotations

import time

from bench.machine import Program
from bench.run import Run, drained, window
from bench.servers import Stand

PART = "fanout"
RELAYS = (262144, 8192)
"""The relay reads as much at once as consoled does in a flood, and as the peers do."""
PACES = {"11.5 KB/s": (11520, 4), "200 KB/s": (200_000, 32)}
"""Bytes a second, and lines at once: a serial line at 115,200 baud in packets of an IPMI console, and a fast one."""


def run(bench: Run) -> None:
    stands = bench.stands(PART, 2, relays=RELAYS)
    for each in bench.watchers:
        bench.turns(PART, f"flood, K={each}", stands, flood, each, bench.seconds, once=each > 100)
    servers = [stand for stand in stands if stand.count > 1]
    for name in ("200 KB/s",) if bench.quick else PACES:
        bench.turns(PART, f"{name}, K=100", servers, pace, 100, name, bench.seconds)
    if not bench.quick:
        bench.turns(PART, "11.5 KB/s, K=1000", servers, pace, 1000, "11.5 KB/s", bench.seconds, once=True)


def flood(stand: Stand, each: int, seconds: float, *, tls: bool = False) -> dict[str, float]:
    """Delivered bytes a second, all watchers together; processor seconds for each megabyte delivered; what is lost."""
    with stand.watchers(0, 1, each, tls=tls) as watchers:
        stand.nodes.ask("flood 0 1")
        time.sleep(0.3)
        found = window(stand, seconds, watchers)
        return _end(stand, watchers, found)


def pace(stand: Stand, each: int, name: str, seconds: float) -> dict[str, float]:
    rate, burst = PACES[name]
    with stand.watchers(0, 1, each) as watchers:
        stand.nodes.ask(f"pace 0 1 {rate} {burst}")
        time.sleep(0.3)
        found = window(stand, max(seconds, 1.0), watchers)
        return _end(stand, watchers, found)


def _end(stand: Stand, watchers: Program, found: dict[str, float]) -> dict[str, float]:
    stand.nodes.ask("still 0 1")
    end = drained(watchers)
    watchers.stop()
    stand.forget()
    return {
        "MB/s": found["bytes"] / 1e6,
        "CPU s/MB": found["processor"] / max(found["bytes"] / 1e6, 1e-9),
        "CPU": found["processor"],
        "lost": (end["lost"] + end["closed"]) / max(1, end["bytes"] + end["lost"]),
        "repeated": end["again"],
        "load CPU": found["load"],
    }
