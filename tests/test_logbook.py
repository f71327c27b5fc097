"""The daemon's log as records of journald's: their fields, and what happens when nobody takes them."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger, LogLevel, LogPublisher, eventAsText

from consoled.logbook import LONGEST, Edge, Logbook, LogSettings, fields, goes_to_journal
from tests.test_journal import Journald

SECRET = "hunter2"


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    journald = Journald(tmp_path / "socket")
    yield journald
    journald.end()


class Log:
    """A logger whose only observer is a logbook."""

    def __init__(self, path: str) -> None:
        self.spilled: list[str] = []
        self.is_deaf = False
        self.book = Logbook(self._spill, path)
        self.logger = Logger(namespace=__name__, observer=LogPublisher(self.book))

    def _spill(self, text: str) -> bool:
        if not self.is_deaf:
            self.spilled.append(text)
        return not self.is_deaf


@pytest.fixture
def log(journald: Journald) -> Iterator[Log]:
    log = Log(journald.path)
    yield log
    log.book.close()


def test_a_record(journald: Journald, log: Log) -> None:
    log.logger.warn("console {name}: {why}", name="x1000c0", why="no route \x1b[31m", password=SECRET)
    record = journald.read()
    assert Path(record.pop("CODE_FILE")).name == "test_logbook.py"
    assert int(record.pop("CODE_LINE"))
    assert record == {
        "MESSAGE": "console x1000c0: no route \\x1b[31m",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "consoled",
        "SYSLOG_FACILITY": "3",
        "LOGGER": "tests.test_logbook",
        "CODE_FUNC": "test_a_record",
        "CONSOLED_CONSOLE": "x1000c0",
        "CONSOLED_WHY": "no route \\x1b[31m",
    }
    assert not log.spilled


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("console {name}: {line}", "CONSOLED_CONSOLE"),
        ("the transcript of {name} has lost bytes", "CONSOLED_CONSOLE"),
        ("source {name}: left out", "CONSOLED_SOURCE"),
        ("machine {name}: cannot be looked after", "CONSOLED_MACHINE"),
        ("a job of the thread {name}", None),
        ("{name}", None),
    ],
)
def test_whose_name_it_is(journald: Journald, log: Log, text: str, field: str | None) -> None:
    log.logger.info(text, name="n1", line="")
    found = {name: value for name, value in journald.read().items() if name.startswith("CONSOLED_")}
    assert found == ({field: "n1"} if field else {})


@pytest.mark.parametrize(
    ("level", "priority"),
    [*zip(("debug", "info", "warn", "error", "critical"), "76432", strict=True)],
)
def test_priorities(journald: Journald, log: Log, level: str, priority: str) -> None:
    log.logger.emit(LogLevel.levelWithName(level), "so")
    assert journald.read()["PRIORITY"] == priority


def test_a_traceback_is_one_record(journald: Journald, log: Log) -> None:
    try:
        raise ValueError("\x1b]0;pwned\x07")
    except ValueError:
        log.logger.failure("it broke")
    record = journald.read()
    first, *lines, last = record["MESSAGE"].splitlines()
    assert (first, lines[0], record["PRIORITY"]) == ("it broke", "Traceback (most recent call last):", "2")
    assert last == "builtins.ValueError: \\x1b]0;pwned\\x07"


def test_a_record_is_bounded(journald: Journald, log: Log) -> None:
    log.logger.info("{text}", text="x" * (LONGEST + 5), why="y" * 5000)
    record = journald.read()
    assert len(record["MESSAGE"]) == LONGEST
    assert len(record["CONSOLED_WHY"]) == 256


def test_what_says_nothing_is_not_sent(journald: Journald, log: Log) -> None:
    log.logger.info()
    log.logger.info("something")
    assert journald.read()["MESSAGE"] == "something"


def test_what_cannot_be_shown_is_said(journald: Journald, log: Log) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    log.logger.info("{it}", it=Broken())
    assert "Unable to format event" in journald.read()["MESSAGE"]
    log.logger.info("fine", why=Broken())
    assert journald.read()["MESSAGE"] == "fine"


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none() | st.binary()))
def test_no_event_makes_a_field_that_is_not_known(event: dict[str, Any]) -> None:
    found = fields(event | {"log_level": LogLevel.info}, "message", None)
    known = ("ADDRESS", "CONSOLE", "COUNT", "HOST", "ISSUER", "MACHINE", "PATH", "REASON", "SECONDS", "SOURCE")
    allowed = {f"CONSOLED_{name}" for name in (*known, "VERSION", "WHY")}
    assert set(found) <= allowed | {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "SYSLOG_FACILITY", "LOGGER"}
    assert all(value.isprintable() and len(value) <= 1600 for value in found.values())


def test_an_event_that_was_kept_for_later_has_no_place_in_the_code() -> None:
    import sys

    assert "CODE_LINE" not in fields({"log_namespace": "consoled.link"}, "x", sys._getframe())


def test_threads(journald: Journald, log: Log) -> None:
    threads = [threading.Thread(target=log.logger.info, args=("{n}",), kwargs={"n": n}) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(journald.read()["MESSAGE"] for _ in threads) == list("01234567")


# ---------------------------------------------------------------------------------------------- nobody takes it


def test_there_is_no_journald(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "socket"))
    log.logger.error("one")
    assert log.spilled == ["one"]
    journald = Journald(tmp_path / "socket")
    log.logger.error("two")
    assert journald.read()["MESSAGE"] == "two"
    journald.end()
    log.logger.error("three")
    assert log.spilled == ["one", "three"]
    journald = Journald(tmp_path / "socket")
    log.logger.error("four")
    assert journald.read()["MESSAGE"] == "four"
    journald.end()
    log.book.close()


def test_another_journald_at_the_same_path_loses_nothing(journald: Journald, log: Log) -> None:
    log.logger.info("one")
    assert journald.read()["MESSAGE"] == "one"
    journald.end()
    journald.__init__(Path(journald.path))  # type: ignore[misc]
    log.logger.info("two")
    assert journald.read()["MESSAGE"] == "two"
    assert not log.spilled


def test_a_journald_that_does_not_read_and_an_edge_that_is_full(journald: Journald, log: Log) -> None:
    sent = 0
    while not log.spilled:
        log.logger.info("number {n}", n=sent)
        sent += 1
    assert log.spilled == [f"number {sent - 1}"]
    log.is_deaf = True
    for _ in range(3):
        log.logger.info("lost")
    assert log.book.lost == 3
    read = [journald.read()["MESSAGE"] for _ in range(sent - 1)]
    assert read == [f"number {n}" for n in range(sent - 1)]
    log.logger.info("after")
    assert [journald.read()["MESSAGE"] for _ in range(2)] == ["after", "3 lines of the log were lost"]
    assert log.book.lost == 0


def test_the_edge_writes_lines() -> None:
    read, write = os.pipe()
    with os.fdopen(read) as reader, os.fdopen(write, "w") as writer:
        edge = Edge(writer)
        assert edge("two\nlines \x1b[31m")
        assert os.read(reader.fileno(), 100) == b"two\nlines \\x1b[31m\n"
        while edge("x" * 10_000):
            pass
        assert len(os.read(reader.fileno(), 1 << 20)) > 4096
    assert not edge("it is closed")


# ---------------------------------------------------------------------------------------------- whether at all


def test_where_standard_error_goes() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        info = os.fstat(ours.fileno())
        stream = {"JOURNAL_STREAM": f"{info.st_dev}:{info.st_ino}"}
        assert goes_to_journal(LogSettings(), stream, ours.fileno())
        assert not goes_to_journal(LogSettings(), stream, theirs.fileno()), "redirected since"
        assert not goes_to_journal(LogSettings(), {}, ours.fileno())
        assert not goes_to_journal(LogSettings(journal=False), stream, ours.fileno())
        assert goes_to_journal(LogSettings(journal=True), {}, ours.fileno())
    assert not goes_to_journal(LogSettings(), stream, 1_000_000)


def test_it_is_the_same_text_as_elsewhere(journald: Journald, log: Log) -> None:
    kept: list[Any] = []
    Logger(namespace="x", observer=kept.append).info("{a} of {b}", a=1, b=["two"])  # type: ignore[arg-type]
    log.book(kept[0])
    assert journald.read()["MESSAGE"] == eventAsText(kept[0], includeTimestamp=False, includeSystem=False)
