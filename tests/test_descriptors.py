"""The budget of file descriptors, with limits of our own choice."""

from __future__ import annotations

import resource

import pytest
from twisted.logger import LogLevel, capturedLogs, eventAsText

from consoled.descriptors import RESERVE, raise_limit


class Limits:
    """`resource`, as far as it is asked."""

    RLIMIT_NOFILE = resource.RLIMIT_NOFILE
    RLIM_INFINITY = resource.RLIM_INFINITY

    def __init__(self, soft: int, hard: int) -> None:
        self.limits = (soft, hard)
        self.was_set: list[tuple[int, int]] = []

    def getrlimit(self, which: int) -> tuple[int, int]:
        assert which == self.RLIMIT_NOFILE
        return self.limits

    def setrlimit(self, which: int, limits: tuple[int, int]) -> None:
        assert which == self.RLIMIT_NOFILE
        self.was_set.append(limits)


def budget(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, consoles: int, clients: int
) -> tuple[list[tuple[int, int]], list[tuple[LogLevel, str]]]:
    limits = Limits(soft, hard)
    monkeypatch.setattr("consoled.descriptors.resource", limits)
    with capturedLogs() as logs:
        raise_limit(consoles, clients)
    return limits.was_set, [
        (event["log_level"], eventAsText(event, includeTimestamp=False, includeSystem=False)) for event in logs
    ]


def test_the_soft_limit_is_raised_to_the_hard_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert budget(monkeypatch, 1024, 524288, 1000, 10000) == ([(524288, 524288)], [])


def test_a_limit_that_is_as_high_as_it_can_be_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert budget(monkeypatch, 4096, 4096, 10, 10) == ([], [])


def test_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    infinite = resource.RLIM_INFINITY
    assert budget(monkeypatch, 1024, infinite, 10**6, 10**6) == ([(infinite, infinite)], [])


@pytest.mark.parametrize(("spare", "words"), [(0, []), (-1, [LogLevel.error])])
def test_consoles_that_cannot_fit(monkeypatch: pytest.MonkeyPatch, spare: int, words: list[LogLevel]) -> None:
    hard = 2 * 500 + RESERVE + spare
    _, said = budget(monkeypatch, hard, hard, 500, 0)
    assert [level for level, _ in said] == words
    if said:
        assert said[0][1] == f"500 consoles need 1064 file descriptors, and the limit is {hard}: raise LimitNOFILE"


@pytest.mark.parametrize(("spare", "words"), [(0, []), (-1, [LogLevel.warn])])
def test_clients_that_cannot_fit(monkeypatch: pytest.MonkeyPatch, spare: int, words: list[LogLevel]) -> None:
    hard = 2 * 500 + RESERVE + 200 + spare
    _, said = budget(monkeypatch, hard, hard, 500, 200)
    assert [level for level, _ in said] == words
    if said:
        assert said[0][1] == (
            f"200 clients beside 500 consoles need 1264 file descriptors, and the limit is {hard}: "
            "raise LimitNOFILE or lower hub.max_clients"
        )


def test_with_the_real_limits() -> None:
    """In this process: the soft limit becomes the hard one, and is put back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        raise_limit(1, 1)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
