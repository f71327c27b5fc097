"""The small values: states by their names, faults fit for a client's eyes, secrets that do not show."""

from __future__ import annotations

import pytest

from consoled.core import access, faults
from consoled.core.status import Closing, Dialing, Off, Up, Waiting, word


def test_every_state_has_a_word() -> None:
    states = (Off(), Dialing(1), Up(2), Waiting(3, "refused"), Closing(4))
    assert [word(state) for state in states] == ["off", "dialing", "up", "waiting", "closing"]


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (faults.ReadOnly(), "This session may only watch"),
        (faults.KeyboardHeld("bob@h"), "The keyboard is held by bob@h"),
        (faults.LinkDown("x1"), "Console [x1] is currently disconnected; the input was discarded"),
        (faults.NodeNotReading("x1"), "Console [x1] is not taking input; it was discarded"),
        (faults.NoBreak("x1"), "Console [x1] cannot send a break"),
        (access.Unauthenticated("wrong token"), "Authentication is required"),
        (access.Forbidden("tail", "not its tenant"), "User does not have permission to tail"),
        (access.CannotKnow("no answer"), "Permission cannot be checked at present; try again later"),
    ],
)
def test_a_fault_says_what_it_says_and_no_more(fault: faults.Fault, text: str) -> None:
    assert isinstance(fault, faults.Fault)
    assert str(fault) == text


def test_a_knock_does_not_show_its_credentials() -> None:
    knock = access.Knock("192.0.2.7:1", (b"Bearer canary-4711",))
    assert "canary" not in repr(knock)
    assert "canary" not in str(knock)
