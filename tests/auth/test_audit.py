"""The audit's records: their fields, and nothing in them that a terminal would obey."""

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger, capturedLogs, eventAsText

from consoled.auth.audit import Audit, Record
from consoled.auth.sinks import to_log
from consoled.core import access
from consoled.core.access import Action, User

ALICE = User("alice", ("operator", "viewer"), None, "tokens", "192.0.2.7:40112")


class Book:
    def __init__(self) -> None:
        self.records: list[Record] = []
        self.audit: access.Audit = Audit(self.records.append, lambda: 1_700_000_000.5)


def test_the_records() -> None:
    book = Book()
    book.audit.accepted(ALICE)
    book.audit.refused("192.0.2.9:1", "unknown token", checker="tokens")
    book.audit.refused(ALICE.origin, "not the tenant's", ALICE, "tail", "x1")
    book.audit.attached(ALICE, "interact", "x1")
    book.audit.detached(ALICE, "interact", "x1", 12.34567, 1000, 0)
    book.audit.noted("took", ALICE, "x1", losers="bob@192.0.2.8")
    book.audit.noted("took", ALICE, "x1", losers="")
    book.audit.noted("reload", added=3)
    at = {"timestamp": "2023-11-14T22:13:20.500Z"}
    alice = {"account": "alice", "roles": "operator,viewer", "remoteAddress": "192.0.2.7", "remotePort": 40112}
    session = {"verb": "interact", "machine": "x1"}
    stranger = {"remoteAddress": "192.0.2.9", "remotePort": 1}
    assert book.records == [
        at | {"action": "accepted"} | alice | {"proof": "tokens"},
        at | {"action": "refused"} | stranger | {"checker": "tokens", "why": "unknown token"},
        at | {"action": "refused"} | alice | {"verb": "tail", "machine": "x1", "why": "not the tenant's"},
        at | {"action": "attached"} | alice | session,
        at | {"action": "detached"} | alice | session | {"seconds": 12.346, "toClient": 1000, "toNode": 0},
        at | {"action": "took"} | alice | {"machine": "x1", "losers": "bob@192.0.2.8"},
        at | {"action": "took"} | alice | {"machine": "x1"},
        at | {"action": "reload", "added": 3},
    ]


@pytest.mark.parametrize(
    ("origin", "address", "port"),
    [
        ("192.0.2.7:40112", "192.0.2.7", 40112),
        ("192.0.2.7", "192.0.2.7", None),
        ("[2001:db8::7]:40112", "2001:db8::7", 40112),
        ("2001:db8::7", "2001:db8::7", None),
        ("[::ffff:192.0.2.7]:40112", "192.0.2.7", 40112),
        ("::ffff:192.0.2.7", "192.0.2.7", None),
        ("::ffff:a:b", "::ffff:a:b", None),
        ("local", "local", None),
        ("192.0.2.7:4\u0661", "192.0.2.7:4\u0661", None),
        ("a\x1b[2J:1", r"a\x1b[2J", 1),
    ],
)
def test_where_somebody_comes_from(origin: str, address: str, port: int | None) -> None:
    book = Book()
    book.audit.refused(origin, "no")
    [record] = book.records
    assert record["remoteAddress"] == address
    assert record.get("remotePort") == port


@given(st.text(st.characters()), st.text(st.characters()), st.text(st.characters()))
def test_what_a_client_sends_stays_on_one_line_of_the_log(name: str, why: str, console: str) -> None:
    with capturedLogs() as events:
        Audit(to_log(Logger()), lambda: 0.0).refused(name, why, User(name, (name,), None, "x"), "tail", console)
    [event] = events
    line = eventAsText(event, includeTimestamp=False, includeSystem=False)
    assert line.isprintable()
    assert json.loads(line.removeprefix("audit "))["action"] == "refused"


@given(st.text(st.characters()), st.sampled_from(get_args(Action)))
def test_no_detail_is_obeyed_by_a_terminal(text: str, action: Action) -> None:
    book = Book()
    book.audit.noted(action, User(text, (text,), None, text, text), text, how=text)
    [record] = book.records
    assert all(value.isprintable() for value in record.values() if isinstance(value, str))
