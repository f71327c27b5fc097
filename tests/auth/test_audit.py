"""The audit log: one line each, and nothing in it that a terminal would obey."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger, capturedLogs, eventAsText

from consoled.auth.audit import LONGEST, Audit, Record, printable, to_log
from consoled.core import access
from consoled.core.access import User

ALICE = User("alice", "operator", None, "tokens", "192.0.2.7:40112")


class Book:
    def __init__(self) -> None:
        self.records: list[Record] = []
        self.audit: access.Audit = Audit(self.records.append, lambda: 1_700_000_000.5)


def test_the_records() -> None:
    book = Book()
    book.audit.accepted(ALICE)
    book.audit.refused("192.0.2.9:1", "unknown token")
    book.audit.refused(ALICE.origin, "not the tenant's", ALICE, "tail", "x1")
    book.audit.attached(ALICE, "interact", "x1")
    book.audit.detached(ALICE, "interact", "x1", 12.34567, 1000, 0)
    at = {"timestamp": "2023-11-14T22:13:20.500+00:00"}
    alice = {"user": "alice", "role": "operator", "remoteAddress": "192.0.2.7:40112"}
    session = {"verb": "interact", "console": "x1"}
    assert book.records == [
        at | {"action": "accepted"} | alice | {"proof": "tokens"},
        at | {"action": "refused", "remoteAddress": "192.0.2.9:1", "why": "unknown token"},
        at | {"action": "refused"} | alice | {"verb": "tail", "console": "x1", "why": "not the tenant's"},
        at | {"action": "attached"} | alice | session,
        at | {"action": "detached"} | alice | session | {"seconds": 12.346, "toClient": 1000, "toNode": 0},
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, Zoë, 日本", "plain text, Zoë, 日本"),
        ("\x1b]0;pwned\x07", r"\x1b]0;pwned\x07"),
        ("a\r\nb", r"a\r\nb"),
        ("a\u2028b\u0085c\u00a0d", r"a\u2028b\x85c\xa0d"),
        ("\u202eabc\ufeff", r"\u202eabc\ufeff"),
        ("\ud800", r"\ud800"),
        ("\\x1b", r"\\x1b"),
        ("", ""),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters(), max_size=LONGEST))
def test_printable_is_printable_and_loses_nothing(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert "".join(ast_unescape(shown)) == text


def ast_unescape(shown: str) -> list[str]:
    """The inverse, by another road."""
    out, at = [], 0
    widths = {"x": 2, "u": 4, "U": 8}
    while at < len(shown):
        if shown[at] != "\\":
            out.append(shown[at])
            at += 1
        elif shown[at + 1] in widths:
            width = widths[shown[at + 1]]
            out.append(chr(int(shown[at + 2 : at + 2 + width], 16)))
            at += 2 + width
        else:
            out.append({"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}[shown[at + 1]])
            at += 2
    return out


def test_the_length_is_bounded() -> None:
    assert printable("a" * LONGEST) == "a" * LONGEST
    assert printable("a" * (LONGEST + 1)) == "a" * (LONGEST - 3) + "..."


@given(st.text(st.characters()), st.text(st.characters()), st.text(st.characters()))
def test_what_a_client_sends_stays_on_one_line_of_the_log(name: str, why: str, console: str) -> None:
    with capturedLogs() as events:
        Audit(to_log(Logger()), lambda: 0.0).refused("::1", why, User(name, "viewer", None, "x"), "tail", console)
    [event] = events
    line = eventAsText(event, includeTimestamp=False, includeSystem=False)
    assert line.isprintable()
    assert json.loads(line.removeprefix("audit "))["action"] == "refused"
