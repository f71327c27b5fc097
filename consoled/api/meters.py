"""The meters: what the daemon counts as it happens, for Prometheus.

`daemon` makes one `Meters` and hands it to whoever counts; `census` adds what need not be counted because it is known
anyway, and `metrics` is the face that shows both.  Nothing in here is called for each piece of a console's output.  A
label's values come from the code, never from a client: each would be a series that lives as long as the daemon.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from consoled import __version__
from consoled.core.attachment import Attachment

DURATIONS: Final = (1, 10, 60, 600, 3600, 6 * 3600, 24 * 3600)
"""In seconds: sessions last from a look to days."""
LATENCIES: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
"""In seconds: from what nobody notices to what nobody puts up with."""


@dataclass(slots=True)
class Departed:
    """What clients that are gone had got; those that are here know it themselves."""

    bytes_out: int = 0
    missed: int = 0
    skips: int = 0

    def add(self, attachment: Attachment) -> None:
        """One is gone."""
        self.bytes_out += attachment.bytes_out
        self.missed += attachment.missed
        self.skips += attachment.skips


class Meters:
    """Everything that is counted, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.departed = Departed()
        ProcessCollector(registry=registry)
        build = Gauge("consoled_build_info", "Which consoled this is.", ["version"], registry=registry)
        build.labels(__version__).set(1)
        self.sessions = Gauge("consoled_sessions", "Open sessions.", ["face"], registry=registry)
        self.session_seconds = Histogram(
            "consoled_session_seconds", "How long sessions lasted.", ["face"], registry=registry, buckets=DURATIONS
        )
        self.upgrades = Counter(
            "consoled_upgrades",
            "Requests for a WebSocket by the HTTP status of their answer.",
            ["result"],
            registry=registry,
        )
        self.handshakes = Histogram(
            "consoled_handshake_seconds",
            "From a request for a WebSocket to its answer.",
            registry=registry,
            buckets=LATENCIES,
        )
        self.logins = Counter(
            "consoled_logins",
            "Logins: accepted, refused, unknown (it could not be decided), throttled (too many failures).",
            ["result"],
            registry=registry,
        )
        self.echo = Histogram(
            "consoled_echo_seconds",
            "From a keystroke's way to the node to the node's next output on its way to the clients.",
            registry=registry,
            buckets=LATENCIES,
        )
        self.lag = Histogram(
            "consoled_reactor_lag_seconds",
            "How late the reactor is, measured once a second.",
            registry=registry,
            buckets=LATENCIES,
        )
        # What is not there before it has happened once has, for Prometheus, not increased then.
        for result in ("accepted", "refused", "unknown", "throttled"):
            self.logins.labels(result)
        for status in ("101", "400", "401", "403", "404", "429", "503"):
            self.upgrades.labels(status)
        # RFD 189's, for the CloudAPI face.
        self.console_requests = Counter(
            "consoled_cloudapi_console_requests", "Requests for a machine's console.", registry=registry
        )
        self.cloudapi_upgrades = Counter(
            "consoled_cloudapi_upgrades", "What became of them: success or failure.", ["result"], registry=registry
        )
        self.errors = Counter(
            "consoled_cloudapi_errors",
            "Refusals by their code, and sessions that failed by their message.",
            ["type"],
            registry=registry,
        )
