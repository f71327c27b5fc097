"""The fleet's plans: at once, or in turns with the rest of the daemon."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from consoled.backends.tcp import TcpSettings
from consoled.config import HubSettings
from consoled.core.faults import NotOpen
from consoled.core.hub import Hub
from consoled.core.status import Dialing
from consoled.core.tally import Tally
from consoled.fleet import EACH_TURN, LOT, Fleet, Plan
from consoled.parking import Parking
from consoled.transcript.archive import Archive
from consoled.transcript.settings import TranscriptSettings
from tests.fakes import FakeTranscript, around, result

MANY = 3 * EACH_TURN + 1


class Counted(TcpSettings, tag="tcp", frozen=True, kw_only=True):
    """Its backend is counted, or cannot be made."""

    made: list[str]
    is_wrong: bool = False

    def backend(self, around: Any) -> Any:
        if self.is_wrong:
            raise ValueError("no such thing")
        self.made.append(self.name)
        return super().backend(around)


def consoles(made: list[str], wrong: int = -1) -> list[Counted]:
    return [Counted(name=f"n{number}", address="bmc:1", made=made, is_wrong=number == wrong) for number in range(MANY)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fleet(clock: Clock) -> Fleet:
    nobody: Any = None
    transcript = TranscriptSettings(directory="/nowhere")
    return Fleet(Hub(), around(clock), HubSettings(), transcript, Tally(), nobody, lambda seconds: None)


def test_in_turns_it_is_the_same_plan(fleet: Fleet, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    settings = consoles(made)
    seen = [0]
    call_later = clock.callLater
    monkeypatch.setattr(clock, "callLater", lambda *args: (seen.append(len(made)), call_later(*args))[1])
    found: list[Plan] = []
    Deferred.fromCoroutine(fleet.plan_in_turns(settings)).addCallback(found.append)
    clock.advance(0)
    seen.append(len(made))
    assert len(seen) == MANY // EACH_TURN + 2
    assert max(after - before for before, after in pairwise(seen)) <= EACH_TURN
    [plan], whole = found, fleet.plan(settings)
    assert (plan.settings, plan.added, plan.changed, plan.removed) == (whole.settings, whole.added, (), ())
    assert list(plan.backends) == list(whole.backends) == [one.name for one in settings]


@pytest.mark.parametrize("needed", [None, {f"n{MANY - 1}"}])
def test_one_that_cannot_be_made_fails_all_of_it_however_late_it_comes(
    fleet: Fleet, clock: Clock, needed: set[str] | None
) -> None:
    settings = consoles([], wrong=MANY - 1)
    with pytest.raises(ValueError, match=f"console n{MANY - 1}: no such thing"):
        fleet.plan(settings, needed)
    failed: list[str] = []
    planning = Deferred.fromCoroutine(fleet.plan_in_turns(settings, needed))
    planning.addErrback(lambda failure: failed.append(failure.getErrorMessage()))
    clock.advance(0)
    assert failed == [f"console n{MANY - 1}: no such thing"]


def test_one_that_is_not_needed_is_left_out(fleet: Fleet, clock: Clock) -> None:
    found: list[Plan] = []
    Deferred.fromCoroutine(fleet.plan_in_turns(consoles([], wrong=3), {"n1"})).addCallback(found.append)
    clock.advance(0)
    assert "n3" not in found[0].settings
    assert len(found[0].backends) == MANY - 1


class SlowArchive:
    """Its transcripts are open when the test says so."""

    def __init__(self) -> None:
        self.opening: dict[str, Deferred[FakeTranscript]] = {}

    def start(self) -> Deferred[None]:
        return succeed(None)

    def open(self, name: str, *_: object) -> Deferred[FakeTranscript]:
        self.opening[name] = Deferred()
        return self.opening[name]

    def opened(self) -> None:
        """All that were asked for by now are open."""
        opening, self.opening = self.opening, {}
        for one in opening.values():
            one.callback(FakeTranscript())


def test_a_lot_is_dialled_while_the_next_is_opened_and_clients_come_after_the_last(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, hub = SlowArchive(), Hub()
    monkeypatch.setattr(Archive, "in_reactor", lambda *_: archive)
    parking = Parking(Path("/nowhere/parked.json"), lambda *_: succeed(None))
    transcript = TranscriptSettings(directory="/nowhere")
    fleet = Fleet(hub, around(clock), HubSettings(), transcript, Tally(), parking, lambda seconds: None)
    plan = fleet.plan(TcpSettings(name=f"n{number}", address="bmc:1") for number in range(2 * LOT + 1))
    opening = Deferred.fromCoroutine(fleet.open(plan))
    for lot in range(3):
        assert (len(hub), len(archive.opening)) == (lot * LOT, 1 if lot == 2 else LOT)
        assert all(isinstance(console.link.status, Dialing) for console in hub)
        with pytest.raises(NotOpen):
            hub.find("n0")
        archive.opened()
    result(opening)
    assert len(hub) == 2 * LOT + 1
    assert hub.find(f"n{2 * LOT}") in list(hub)
