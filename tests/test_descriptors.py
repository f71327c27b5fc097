"""The budget of file descriptors: what is said at start, and who is refused when they run short."""

import os
import resource

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, capturedLogs

from consoled.descriptors import RESERVE, Doorman, raise_limit


@pytest.fixture
def limits(monkeypatch):
    """`limits(soft, hard)` pretends; what is set is in `limits.changes`."""

    def pretend(soft: int, hard: int) -> None:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))

    pretend.changes = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: pretend.changes.append(both))
    return pretend


@pytest.mark.parametrize(
    ("hard", "level", "text"),
    [
        (resource.RLIM_INFINITY, None, ""),
        (20 + RESERVE + 100, None, ""),
        (20 + RESERVE + 99, LogLevel.warn, f"need {20 + RESERVE + 100} file descriptors, and the limit is"),
        (20 + RESERVE - 1, LogLevel.error, f"10 consoles need {20 + RESERVE} file descriptors, and the limit is"),
    ],
)
def test_the_limit_is_raised_and_what_cannot_fit_is_said(limits, hard, level, text):
    limits(10, hard)
    with capturedLogs() as logs:
        raise_limit(10, 100)
    assert limits.changes == [(hard, hard)]
    assert [event["log_level"] for event in logs] == ([] if level is None else [level])
    for event in logs:
        assert text in event["log_format"].format(**event)


def test_a_limit_that_is_raised_already_is_left_alone(limits):
    limits(10_000, 10_000)
    raise_limit(10, 100)
    assert not limits.changes


def test_the_doorman_keeps_the_last_descriptors_and_says_so_once(limits):
    lowest = os.dup(0)
    os.close(lowest)
    doorman = Doorman(Factory.forProtocol(Protocol))

    def comes() -> bool:
        transport = StringTransport()
        doorman.buildProtocol(None).makeConnection(transport)
        return not transport.disconnected

    with capturedLogs() as logs:
        limits(lowest + RESERVE // 2, 10_000)
        assert comes()
        limits(lowest + RESERVE // 2 - 1, 10_000)
        assert not comes()
        assert not comes()
        assert [event["log_level"] for event in logs] == [LogLevel.error]
        limits(resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        assert comes()
