"""The meters: what the daemon counts, for Prometheus.

`tap` makes one `Meters` and hands it to whoever counts; `metrics` is the face that shows them.  A label's values come
from the code, never from a client: each would be a series that lives as long as the daemon.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

DURATIONS: Final = (1, 10, 60, 600, 3600, 6 * 3600, 24 * 3600)
"""In seconds: sessions last from a look to days."""


class Meters:
    """Everything that is counted, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.sessions = Gauge("consoled_sessions", "Open sessions.", ["face"], registry=registry)
        self.session_seconds = Histogram(
            "consoled_session_seconds", "How long sessions lasted.", ["face"], registry=registry, buckets=DURATIONS
        )
        # RFD 189's, for the CloudAPI face.
        self.console_requests = Counter(
            "consoled_cloudapi_console_requests", "Requests for a machine's console.", registry=registry
        )
        self.upgrades = Counter(
            "consoled_cloudapi_upgrades", "What became of them: success or failure.", ["result"], registry=registry
        )
        self.errors = Counter(
            "consoled_cloudapi_errors",
            "Refusals by their code, and sessions that failed by their message.",
            ["type"],
            registry=registry,
        )
