"""What is remembered of links that operators have parked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, execute
from twisted.logger import capturedLogs, eventAsText

from consoled.core.status import Parked
from consoled.parking import Parking
from tests.fakes import EPOCH, result

ADA = Parked(EPOCH, "ada@h")
BOB = Parked(EPOCH + 1.5, "bob@h")


def at_once(*call: Any) -> Deferred[Any]:
    return execute(*call)


class Slowly:
    """A thread that takes its time."""

    def __init__(self) -> None:
        self.calls: list[tuple[Deferred[Any], Any]] = []

    def __call__(self, *call: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.calls.append((done, call))
        return done

    def work(self) -> None:
        done, (function, *arguments) = self.calls.pop(0)
        execute(function, *arguments).chainDeferred(done)


def opened(path: Path) -> Parking:
    parking = Parking(path, at_once)
    parking.open()
    return parking


def test_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state" / "parked.json"
    parking = opened(path)
    assert parking.find("x1") is None
    parking.remember("x1", ADA)
    parking.remember("x2", BOB)
    again = opened(path)
    assert (again.find("x1"), again.find("x2"), again.find("x3")) == (ADA, BOB, None)
    again.remember("x1", None)
    assert opened(path).find("x1") is None
    assert json.loads(path.read_text()) == {"x2": {"since": EPOCH + 1.5, "by": "bob@h"}}, "people can read it"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["parked.json"]


def test_what_is_known_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "parked.json"
    parking = opened(path)
    parking.remember("x1", None)
    assert not path.exists()
    parking.remember("x1", ADA)
    before = path.stat().st_ino
    parking.remember("x1", ADA)
    assert path.stat().st_ino == before


def test_the_last_word_counts(tmp_path: Path) -> None:
    path, thread = tmp_path / "parked.json", Slowly()
    parking = Parking(path, thread)
    for parked in (ADA, None, BOB, None, BOB):
        parking.remember("x1", parked)
    assert len(thread.calls) == 1, "one at a time"
    thread.work()
    closed = parking.close()
    assert not closed.called
    thread.work()
    result(closed)
    assert not thread.calls
    assert opened(path).find("x1") == BOB


def test_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    parking = Parking(tmp_path / "file" / "parked.json", at_once)
    with capturedLogs() as logs:
        parking.remember("x1", ADA)
    assert parking.trouble is not None
    assert parking.trouble.endswith("File exists: links that are parked would not be after a restart")
    assert len(logs) == 1
    assert parking.find("x1") == ADA
    (tmp_path / "file").unlink()
    result(parking.close())
    assert parking.trouble is None
    assert opened(tmp_path / "file" / "parked.json").find("x1") == ADA


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "\ufeff{}", '{"x1": 1}', '{"x1": {"since": "1", "by": "a"}}', "[" * 100_000,
        '{"x1": {"since": 1e300, "by": "a"}}', '{"x1": {"since": -1, "by": "a"}}', '{"x1": {"since": 1}}',
    ],
)  # fmt: skip
def test_garbage(tmp_path: Path, text: str) -> None:
    path = tmp_path / "parked.json"
    path.write_text(text)
    with capturedLogs() as logs:
        parking = opened(path)
    [said] = map(eventAsText, logs)
    assert f"no link is parked that was before, since {path} cannot be read: " in said
    assert parking.find("x1") is None
    parking.remember("x1", ADA)
    assert opened(path).find("x1") == ADA


@given(data=st.binary(max_size=60))
def test_any_garbage(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "parked-garbage.json"
    path.write_bytes(data)
    opened(path)


def test_a_directory_in_its_place(tmp_path: Path) -> None:
    with capturedLogs() as logs:
        opened(tmp_path)
    assert len(logs) == 1


def test_a_name_that_a_terminal_would_obey(tmp_path: Path) -> None:
    path = tmp_path / "parked.json"
    path.write_text('{"x1": {"since": 1, "by": "\\u001b[2Jada"}}')
    assert opened(path).find("x1") == Parked(1, r"\x1b[2Jada")
