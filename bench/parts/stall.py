"""(f) One watcher of many stops reading during a flood, and reads again."""

from __future__ import annotations

import time

from bench.machine import Trouble
from bench.run import Run, drained, window
from bench.servers import Stand

PART = "stall"
WATCHERS = 20


def run(bench: Run) -> None:
    stands = bench.stands(PART, 2)
    bench.turns(PART, f"1 of {WATCHERS} stops during a flood", stands, stall, bench.seconds / 2 + 0.5)


def stall(stand: Stand, seconds: float) -> dict[str, float]:
    """Three stretches: all read; one does not; it reads again while the flood goes on.

    `others`, `others later`: what the others get in the second and third, as a share of what they got in the first.
    `grown MiB`: what the server's memory gained in the second.  `stalled lost`: the share of the stream that the one
    has not got when all is over, and that an `other` has not got.  `caught up s`: how long after the flood.
    """
    others = f"0 {WATCHERS - 1}"
    one = f"{WATCHERS - 1} {WATCHERS}"
    with stand.watchers(0, 1, WATCHERS) as watchers:
        began = stand.nodes.ask("mark")["said"]
        stand.nodes.ask("flood 0 1")
        time.sleep(0.5)
        first = window(stand, seconds, watchers, of=others)
        if not first["bytes"]:
            raise Trouble("its watchers got nothing for a while: the disk is busy")
        size = stand.memory
        watchers.ask(f"stall {one}")
        second = window(stand, seconds, watchers, of=others)
        size = stand.memory - size
        watchers.ask(f"go {one}")
        third = window(stand, seconds, watchers, of=others)
        stand.nodes.ask("still 0 1")
        stopped = time.monotonic()
        end = drained(watchers, 60.0, of=one)
        spent = time.monotonic() - stopped
        rest = drained(watchers, of=others)
        said = stand.nodes.ask("mark")["said"] - began
    stand.forget()
    return {
        "MB/s": first["bytes"] / 1e6,
        "others": second["bytes"] / first["bytes"],
        "others later": third["bytes"] / first["bytes"],
        "grown MiB": size / 2**20,
        "stalled lost": max(0.0, 1 - end["bytes"] / said),
        "others lost": max(0.0, 1 - rest["least"] / said),
        "caught up s": spent,
    }
