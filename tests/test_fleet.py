"""The fleet's plans: at once, or in turns with the rest of the daemon."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from consoled.backends.tcp import TcpSettings
from consoled.config import HubSettings
from consoled.core.hub import Hub
from consoled.core.tally import Tally
from consoled.fleet import EACH_TURN, Fleet, Plan
from consoled.transcript.settings import TranscriptSettings
from tests.fakes import around

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
