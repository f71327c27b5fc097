"""Several checkers for one sort of credentials."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import CancelledError, Deferred

from consoled.auth.credentials import BearerToken, IBearerToken
from consoled.auth.first_of import FirstOf
from consoled.core.access import CannotKnow, Unauthenticated, User

ALICE, BOB = User("alice", ("viewer",), None, "one"), User("bob", ("viewer",), None, "two")
NO, NOT_EITHER = UnauthorizedLogin("unknown token"), Unauthenticated("no JWT")
DOUBT, OTHER_DOUBT = CannotKnow("no keys"), CannotKnow("no answer")


class Checker:
    """Says one thing, now or when asked to."""

    credentialInterfaces = (IBearerToken,)

    def __init__(self, says: Any, late: bool) -> None:
        self.says = says
        self.late = late
        self.asked: list[Any] = []
        self.waiting: Deferred[Any] = Deferred()

    def requestAvatarId(self, credentials: Any) -> Any:
        self.asked.append(credentials)
        if self.late:
            return self.waiting
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    def speak(self) -> None:
        if self.asked and not self.waiting.called:
            self.waiting.errback(self.says) if isinstance(self.says, Exception) else self.waiting.callback(self.says)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("says", "verdict", "asked"),
    [
        ([ALICE], ALICE, 1),
        ([ALICE, BOB], ALICE, 1),
        ([NO, BOB], BOB, 2),
        ([NOT_EITHER, BOB], BOB, 2),
        ([DOUBT, BOB], BOB, 2),
        ([NO, NOT_EITHER], NOT_EITHER, 2),
        ([NOT_EITHER, NO], NO, 2),
        ([DOUBT, NO], DOUBT, 2),
        ([NO, DOUBT], DOUBT, 2),
        ([DOUBT, OTHER_DOUBT], OTHER_DOUBT, 2),
        ([KeyError("oops"), BOB], KeyError, 1),
    ],
)
def test_who_is_asked_and_whose_word_counts(late: bool, says: list[Any], verdict: Any, asked: int) -> None:
    checkers = [Checker(one, late) for one in says]
    first_of = FirstOf(IBearerToken, checkers)
    assert first_of.credentialInterfaces == (IBearerToken,)
    outcome: list[Any] = []
    token = BearerToken(b"x")
    first_of.requestAvatarId(token).addCallbacks(outcome.append, lambda failure: outcome.append(failure.value))
    for checker in checkers:
        checker.speak()
    assert outcome[0] == verdict or type(outcome[0]) is verdict
    assert [checker.asked for checker in checkers] == [[token]] * asked + [[]] * (len(says) - asked)


def test_whoever_is_being_asked_is_interrupted_and_nobody_else_is_asked() -> None:
    checkers = [Checker(NO, late=False), Checker(ALICE, late=True), Checker(BOB, late=False)]
    asking = FirstOf(IBearerToken, checkers).requestAvatarId(BearerToken(b"x"))
    failures: list[Any] = []
    asking.addErrback(failures.append)
    asking.cancel()
    assert failures[0].check(CancelledError)
    assert checkers[1].waiting.called
    assert not checkers[2].asked
