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
from consoled.core.sources import SORTS, SourceState, SourceStates
from consoled.core.status import Held, Parked, Status, Up, word
from consoled.core.tally import REASONS, Tally

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

    def __init__(
        self,
        hub: Hub,
        departed: Departed,
        tally: Tally,
        disk: Callable[[], Disk | None],
        sources: SourceStates = list,
    ) -> None:
        """`disk` gives the archive, if there is one yet."""
        self._hub = hub
        self._departed = departed
        self._tally = tally
        self._disk = disk
        self._sources = sources
        self._places: set[tuple[str, str]] = set()
        """The faces and modes of all clients that were seen: what is 0 again is said, and does not vanish."""

    def collect(self) -> Iterator[Any]:
        """Everything, as one page."""
        yield from self._links()
        yield from self._bytes()
        yield from self._clients()
        yield from _of_sources(self._sources())
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
        kinds = sorted({kind for kind, _ in found} | tally.attempts.keys())
        attempts = (((kind,), tally.attempts[kind]) for kind in kinds)
        failures = (((kind, reason), tally.failures[kind, reason]) for kind in kinds for reason in REASONS)
        losses = (((kind,), tally.losses[kind]) for kind in kinds)
        yield _by("link_attempts", "Dials.", ["kind"], attempts)
        yield _by("link_failures", "Dials that failed, by reason.", ["kind", "reason"], failures)
        yield _by("link_losses", "Connections that were lost.", ["kind"], losses)

    def _bytes(self) -> Iterator[Any]:
        hub, gone = self._hub, self._hub.gone
        received = gone.received + sum(console.received_bytes for console in hub)
        sent = gone.sent + sum(console.sent_bytes for console in hub)
        own = gone.own + sum(console.own_bytes for console in hub)
        yield _counter("node_received_bytes", "Bytes that nodes have said.", received)
        yield _counter("node_sent_bytes", "Bytes that were typed and that nodes have got.", sent)
        yield _counter("transcript_bytes", "Bytes of transcripts, with our own lines.", received + own)

    def _clients(self) -> Iterator[Any]:
        clients = GaugeMetricFamily("consoled_clients", "Attached clients.", labels=["face", "mode"])
        here = [attachment for console in self._hub for attachment in console.attachments]
        found = Counter((one.client.face, "interact" if one.interactive else "tail") for one in here)
        self._places |= found.keys()
        for place in sorted(self._places):
            clients.add_metric(place, found[place])
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


def _of_sources(states: Iterable[SourceState]) -> Iterator[Any]:
    """The sources of consoles, by the names that the configuration gives them."""
    asked = CounterMetricFamily("consoled_source_asked", "Times that it was asked.", labels=["source"])
    failures = CounterMetricFamily(
        "consoled_source_failures", "Times that it gave no good answer, by reason.", labels=["source", "reason"]
    )
    good = GaugeMetricFamily(
        "consoled_source_last_answer_timestamp_seconds", "When it gave its last good answer.", labels=["source"]
    )
    gives = GaugeMetricFamily("consoled_source_consoles", "Consoles that it gives.", labels=["source"])
    left_out = GaugeMetricFamily("consoled_source_left_out", "Entries that make no console.", labels=["source"])
    failing = GaugeMetricFamily("consoled_source_failing", "Whether its last answer was none.", labels=["source"])
    held = GaugeMetricFamily(
        "consoled_source_held_back", "Whether an answer waits for an operator's word.", labels=["source"]
    )
    for one in states:
        asked.add_metric([one.name], one.asked.times)
        for sort in SORTS:
            failures.add_metric([one.name, sort], one.asked.failures[sort])
        if one.asked.good_at is not None:
            good.add_metric([one.name], one.asked.good_at)
        gives.add_metric([one.name], one.consoles)
        left_out.add_metric([one.name], one.left_out)
        failing.add_metric([one.name], one.failures > 0)
        held.add_metric([one.name], one.held is not None)
    yield from (asked, failures, good, gives, left_out, failing, held)


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
