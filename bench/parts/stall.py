"""(f) One watcher of many stops reading during a flood, and reads again."""

from __future__ import annotations

import time
from statistics import median

from bench.machine import Program, Trouble
from bench.run import Run, drained, window
from bench.stand import Stand

PART = "stall"
WATCHERS = 20
ROUNDS = 5
"""More than of others: what 19 get in one stretch and in the next differs by a tenth in itself."""
LATEST = 60.0
"""Seconds for the one that stopped to get all of it."""
LOOKS = 24
"""At the memory, in each stretch: in a flood it goes up and down by tens of MiB with nobody stopped."""


def run(bench: Run) -> None:
    stands = bench.stands(PART, 2)
    rounds = 1 if bench.quick else ROUNDS
    seconds = max(bench.seconds, 0.8)
    case = f"1 of {WATCHERS} stops during a flood"
    bench.turns(PART, case, stands, stall, seconds, rounds=rounds, memory=1 << 30)


def stall(stand: Stand, seconds: float) -> dict[str, float]:
    """Three stretches: all read; one does not; it reads again while the flood goes on.

    `others`, `others later`: what the others get in the second and third, as a share of what they got in the first.
    `grown MiB`: how much larger the server was in the second.  `stalled lost`: the share of the stream that the one
    has not got when all is over, and that an `other` has not got.  `caught up s`: how long after the flood.
    """
    others = f"0 {WATCHERS - 1}"
    one = f"{WATCHERS - 1} {WATCHERS}"
    with stand.watchers(0, 1, WATCHERS) as watchers:
        began = stand.nodes.ask("mark")["said"]
        stand.nodes.ask("flood 0 1")
        time.sleep(0.5)
        first, usual = _stretch(stand, seconds, watchers, others)
        if not first["bytes"]:
            raise Trouble("its watchers got nothing for a while: the disk is busy")
        watchers.ask(f"stall {one}")
        second, size = _stretch(stand, seconds, watchers, others)
        watchers.ask(f"go {one}")
        third = window(stand, seconds, watchers, of=others)
        stand.nodes.ask("still 0 1")
        end = drained(watchers, LATEST, of=one)
        if end["behind"] >= LATEST:
            raise Trouble(f"the one that stopped still reads after {LATEST:g} s")
        rest = drained(watchers, of=others)
        said = stand.nodes.ask("mark")["said"] - began
    stand.forget()
    return {
        "MB/s": first["bytes"] / 1e6,
        "others": second["bytes"] / first["bytes"],
        "others later": third["bytes"] / first["bytes"],
        "grown MiB": (size - usual) / 2**20,
        "stalled lost": max(0.0, 1 - end["bytes"] / said),
        "others lost": max(0.0, 1 - rest["least"] / said),
        "caught up s": end["behind"],
    }


def _stretch(stand: Stand, seconds: float, watchers: Program, of: str) -> tuple[dict[str, float], float]:
    """What a `window` finds, and the median of the server's memory meanwhile."""
    sizes = []

    def weigh(seconds: float) -> None:
        for _ in range(LOOKS):
            time.sleep(seconds / LOOKS)
            sizes.append(stand.memory)

    return window(stand, seconds, watchers, of=of, meanwhile=weigh), median(sizes)
