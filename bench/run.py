"""One run of the benchmark: which servers stand, whose turn it is, and what was found.

A part asks for `stands`, goes through them in `turns`, and `notes` what it measured; whatever goes wrong in a turn is
noted too and ends that turn only.  Servers that are not measured stand by, silent.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench.machine import Program, Tools, Trouble, rest
from bench.servers import SERVERS, Relay
from bench.stand import Stand

FREE = 4 << 30
"""Bytes that must be free on the disk."""


@dataclass(frozen=True)
class Note:
    """What one turn found, or why it found nothing."""

    part: str
    case: str
    server: str
    values: dict[str, float] = field(default_factory=dict)
    trouble: str = ""


@dataclass
class Run:
    """The options, and the notes."""

    tools: Tools
    place: Path
    servers: Sequence[str]
    rounds: int = 3
    seconds: float = 2.0
    """How long a measurement lasts."""
    quick: bool = False
    descriptors: int = 1024
    """How many a process may have open."""
    deadline: float = float("inf")
    """When nothing new is begun any more, by the monotonic clock."""
    watchers: Sequence[int] = (1, 10, 100, 1000)
    began: float = field(default_factory=time.monotonic)
    notes: list[Note] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    """What a reader must know about them."""
    _standing: list[Stand] = field(default_factory=list)

    # ------------------------------------------------------------------------------------------- who

    def stands(
        self, part: str, count: int, *, but: Sequence[str] = (), relays: Sequence[tuple[int, bool]] = (), **options: Any
    ) -> list[Stand]:
        """Every server with `count` consoles, except those in `but`; and `relays`: bytes at once, whether with a log.

        They stay until a part wants others: conserver takes its time to start.
        """
        kinds = [SERVERS[name] for name in self.servers if name in SERVERS and name not in but]
        makes: dict[tuple[Any, ...], Callable[[], Stand]]
        makes = {kind.key(count, options): partial(kind, self.tools, self.place, count, **options) for kind in kinds}
        if "relay" in self.servers:
            for size, log in relays:
                how: dict[str, Any] = {"size": size, "log": log}
                makes[Relay.key(1, how)] = partial(Relay, self.tools, self.place, **how)
        standing = {stand.key(stand.count, stand.options): stand for stand in self._standing if stand.alive}
        self.close(but=[standing[key] for key in makes if key in standing])
        for key, make in makes.items():
            if key not in standing:
                self.say(f"{part}: {key[0]} with {key[1]} consoles")
                try:
                    self.check()
                    standing[key] = make()
                except Trouble as trouble:
                    self.failed(part, f"{key[1]} consoles", key[0], trouble)
        self._standing = [standing[key] for key in makes if key in standing]
        return self._standing

    def close(self, but: Sequence[Stand] = ()) -> None:
        """End whoever stands."""
        for stand in [stand for stand in self._standing if stand not in but]:
            self._standing.remove(stand)
            stand.stop()

    def turns(
        self,
        part: str,
        case: str,
        stands: Sequence[Any],
        measure: Callable[..., dict[str, float]],
        *details: Any,
        rounds: int = 0,
        memory: int = 0,
        **more: Any,
    ) -> None:
        """Call `measure` with each stand in turn, and each time another one first: in `rounds`, or those of the run.

        `memory`: how many bytes a turn finds ready for what it writes.
        """
        failed: set[str] = set()
        for turn in range(rounds or self.rounds):
            first = turn % max(1, len(stands))
            for stand in (*stands[first:], *stands[:first]):
                if stand.name in failed:
                    continue
                try:
                    self.check()
                    rest(memory)
                    self.note(part, case, stand.name, measure(stand, *details, **more))
                except Trouble as trouble:
                    failed.add(stand.name)
                    self.failed(part, case, stand.name, trouble)

    def check(self) -> None:
        """Whether there is time and room to go on.  Raises `Trouble`."""
        if time.monotonic() > self.deadline:
            raise Trouble("the run has had its time")
        if shutil.disk_usage(self.place).free < FREE:
            raise Trouble(f"less than {FREE >> 30} GiB are free in {self.place}")

    # ------------------------------------------------------------------------------------------- what

    def note(self, part: str, case: str, server: str, values: dict[str, float]) -> None:
        self.notes.append(Note(part, case, server, values))
        shown = "  ".join(f"{key}={value:.4g}" for key, value in values.items())
        self.say(f"{part} | {case} | {server:10} {shown}")

    def failed(self, part: str, case: str, server: str, trouble: Trouble) -> None:
        self.notes.append(Note(part, case, server, trouble=str(trouble)))
        self.say(f"{part} | {case} | {server:10} - ({trouble})")

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:5.0f} s  {text}", file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------------- how


def window(
    stand: Stand,
    seconds: float,
    watchers: Program | None = None,
    *,
    of: str = "",
    meanwhile: Callable[[float], object] = time.sleep,
) -> dict[str, float]:
    """What happens in so many seconds, each second; `of` says which watchers count, `meanwhile` lets them pass.

    `processor`: the share of one core that the server used; `load`: the share that the load used, which must be less
    than all of its core if the server's limit is to be seen.  `said`: bytes of the nodes; `bytes`: of the watchers.
    """
    silent = {"t": 0.0, "bytes": 0, "cpu": 0.0}

    def look() -> tuple[dict[str, float], ...]:
        server = {"t": time.monotonic(), "cpu": stand.processor}
        return server, stand.nodes.ask("mark"), watchers.ask(f"mark {of}") if watchers is not None else silent

    def rate(which: int, key: str) -> float:  # each by the moments at which it was asked itself
        spent = after[which]["t"] - before[which]["t"]
        return (after[which][key] - before[which][key]) / spent if spent else 0.0

    before = look()
    meanwhile(seconds)
    after = look()
    return {
        "processor": rate(0, "cpu"),
        "said": rate(1, "said"),
        "bytes": rate(2, "bytes"),
        "load": rate(1, "cpu") + rate(2, "cpu"),
    }


def drained(watchers: Program, patience: float = 20.0, *, of: str = "") -> dict[str, Any]:
    """What they have, once nothing more comes; `behind`: the seconds until then, `patience` if it did not end."""
    began, last = time.monotonic(), -1
    while True:
        found = watchers.ask(f"mark {of}")
        behind = time.monotonic() - began
        if found["payload"] == last or behind > patience:
            return found | {"behind": min(behind, patience)}
        last = found["payload"]
        time.sleep(0.15)


def written(stand: Stand, size: int, patience: float = 30.0) -> float:
    """When at least `size` bytes are in the logs."""
    deadline = time.monotonic() + patience
    while (found := stand.logged()) < size:
        if time.monotonic() > deadline:
            raise Trouble(f"{size - found} of {size} bytes are not in the logs after {patience:g} s")
        time.sleep(0.005)
    return time.monotonic()
