"""The census: what the daemon knows without counting, put together when Prometheus asks.

Consoles, links, clients and transcripts keep their own sums (an offset is a count of bytes); here they are added up.
`metrics` calls it for each scrape.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from consoled.api.meters import Departed
from consoled.core.console import Console
from consoled.core.hub import Hub
from consoled.core.status import Held, Parked, Status, Up, word
from consoled.core.tally import Tally

STATES: Final = tuple(kind.__name__.lower() for kind in (*get_args(Status), Held, Parked))


class Disk(Protocol):
    """What is wanted of `transcript.archive`."""

    @property
    def lost(self) -> int: ...

    @property
    def unwritten(self) -> int: ...

    @property
    def troubled(self) -> int: ...


class Census:
    """A collector of `prometheus_client`."""

    def __init__(self, hub: Hub, departed: Departed, tally: Tally, disk: Callable[[], Disk | None]) -> None:
        """`disk` gives the archive, if there is one yet."""
        self._hub = hub
        self._departed = departed
        self._tally = tally
        self._disk = disk
        self._known: dict[Console, Counter[str]] = {}
        """What each console had counted at the last look."""
        self._removed: Counter[str] = Counter()
        """What those had counted that are here no more: a counter never goes back."""

    def collect(self) -> Iterator[Any]:
        """Everything, as one page."""
        yield from self._links()
        yield from self._bytes()
        yield from self._clients()
        if (disk := self._disk()) is not None:
            yield _gauge("transcript_lag_bytes", "Bytes that wait for the disk.", disk.unwritten)
            yield _counter("transcript_lost_bytes", "Bytes that the disk did not take.", disk.lost)
            yield _gauge("transcripts_troubled", "Consoles whose transcript is not written.", disk.troubled)

    def _links(self) -> Iterator[Any]:
        consoles = GaugeMetricFamily("consoled_consoles", "Consoles by kind and state.", labels=["kind", "state"])
        found = Counter((console.kind, word(console.link.status)) for console in self._hub)
        for kind in sorted({kind for kind, _ in found}):
            for state in STATES:
                consoles.add_metric([kind, state], found[kind, state])
        yield consoles
        tally = self._tally
        attempts = (((kind,), count) for kind, count in tally.attempts.items())
        losses = (((kind,), count) for kind, count in tally.losses.items())
        yield _by("link_attempts", "Dials.", ["kind"], attempts)
        yield _by("link_failures", "Dials that failed, by reason.", ["kind", "reason"], tally.failures.items())
        yield _by("link_losses", "Connections that were lost.", ["kind"], losses)

    def _bytes(self) -> Iterator[Any]:
        here = {
            console: Counter(node=console.received_bytes, keys=console.sent_bytes, own=console.own_bytes)
            for console in self._hub
        }
        for console in self._known.keys() - here.keys():
            self._removed += self._known[console]
        self._known = here
        total = sum(here.values(), self._removed)
        yield _counter("node_received_bytes", "Bytes that nodes have said.", total["node"])
        yield _counter("node_sent_bytes", "Bytes that were typed and that nodes have got.", total["keys"])
        yield _counter("transcript_bytes", "Bytes of transcripts, with our own lines.", total["node"] + total["own"])

    def _clients(self) -> Iterator[Any]:
        clients = GaugeMetricFamily("consoled_clients", "Attached clients.", labels=["face", "mode"])
        here = [attachment for console in self._hub for attachment in console.attachments]
        found = Counter((one.client.face, "interact" if one.interactive else "tail") for one in here)
        for labels, count in found.items():
            clients.add_metric(labels, count)
        yield clients
        gone = self._departed
        yield _counter("client_sent_bytes", "Bytes of consoles that clients got.",
                       gone.bytes_out + sum(one.bytes_out for one in here))  # fmt: skip
        yield _counter("client_skips", "Times that a client fell behind what is kept.",
                       gone.skips + sum(one.skips for one in here))  # fmt: skip
        yield _counter("client_skipped_bytes", "Bytes that clients never got for that.",
                       gone.missed + sum(one.missed for one in here))  # fmt: skip
        yield _gauge("client_lag_bytes", "How far all clients together are behind.",
                     sum(one.console.head - one.cursor for one in here))  # fmt: skip


def each(consoles: Iterable[Console]) -> Iterator[Any]:
    """The series of single consoles, where they are wanted."""
    up = GaugeMetricFamily("consoled_console_up", "Whether its link is up.", labels=["console", "kind"])
    said = CounterMetricFamily("consoled_console_received_bytes", "Bytes that it has said.", labels=["console"])
    last = GaugeMetricFamily("consoled_console_last_output_seconds", "When it last spoke.", labels=["console"])
    clients = GaugeMetricFamily("consoled_console_clients", "Its attached clients.", labels=["console"])
    for console in consoles:
        up.add_metric([console.name, console.kind], isinstance(console.link.status, Up))
        said.add_metric([console.name], console.received_bytes)
        clients.add_metric([console.name], len(console.attachments))
        if console.last_output is not None:
            last.add_metric([console.name], console.last_output)
    yield from (up, said, last, clients)


def _gauge(name: str, what: str, value: float) -> Any:
    return GaugeMetricFamily(f"consoled_{name}", what, value)


def _counter(name: str, what: str, value: float) -> Any:
    return CounterMetricFamily(f"consoled_{name}", what, value)


def _by(name: str, what: str, labels: list[str], values: Iterable[tuple[tuple[str, ...], int]]) -> Any:
    family = CounterMetricFamily(f"consoled_{name}", what, labels=labels)
    for value, count in values:
        family.add_metric(value, count)
    return family
