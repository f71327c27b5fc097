"""What holds for every test against a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.real import Spawned


@pytest.fixture(autouse=True)
def no_server_is_left() -> Iterator[None]:
    """End what a test started and, because something else went wrong, did not come to end."""
    yield
    for server in list(Spawned.running):
        server.end()
