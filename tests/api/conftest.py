"""The fixtures of the faces' tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import txaio
from twisted.logger import LogEvent, LogLevel, eventAsText, globalLogPublisher

from consoled.api.session import Session  # autobahn chooses txaio's framework
from tests.api.cloud import Cloud
from tests.api.world import World
from tests.backends.stream_fakes import network

assert Session


@pytest.fixture
def log() -> Iterator[list[LogEvent]]:
    """Every event of every logger.  A test that expects a failure in it takes it out."""
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)
    assert not failures(events)


def failures(events: list[LogEvent]) -> list[str]:
    """What went wrong according to the log, with its traceback."""
    return [
        eventAsText(event, includeTraceback=True)
        for event in events
        if "log_failure" in event or event.get("isError") or event["log_level"] >= LogLevel.error
    ]


@pytest.fixture
def empty(tmp_path: Path, log: list[LogEvent], monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world that has not begun.  At its end nothing runs, nothing failed, and no token was ever seen again."""
    yield from day(World(tmp_path), log, monkeypatch)


@pytest.fixture
def cloud(tmp_path: Path, log: list[LogEvent], monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A data centre of Triton's; it has begun, and its end is the same."""
    with network() as net:
        yield from day(Cloud(tmp_path, net).begin(), log, monkeypatch)


def day(world: Any, log: list[LogEvent], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """One day of a world."""
    monkeypatch.setattr(txaio.config, "loop", world.clock)
    yield world
    world.stop()
    world.clock.pump([600.0] * 6)
    assert not world.clock.getDelayedCalls()
    for seen in (json.dumps(world.records), *map(eventAsText, log), *(str(c.messages) for c in world.clients)):
        assert "canary" not in seen


@pytest.fixture
def world(empty: World) -> World:
    """A world that has begun."""
    return empty.begin()
