"""The record of input: all that the node gets and nothing else, or no input at all."""

import json
import stat
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.task import deferLater

from consoled.core.faults import LinkDown, NotRecorded
from consoled.core.status import Up
from consoled.transcript.input_file import WAITING, InputFile
from tests.fakes import EPOCH, Desk


def input_file(directory: Path) -> InputFile:
    return InputFile("x1", str(directory), lambda: EPOCH, reactor.callFromThread)


def lines(directory: Path) -> list[Any]:
    text = (directory / "input.x1").read_bytes()
    assert all(0x20 <= byte < 0x7F or byte == 0x0A for byte in text), "a terminal may obey it"
    return [json.loads(line) for line in text.splitlines()]


@pytest_twisted.ensureDeferred
async def test_what_is_typed_is_written_down(tmp_path: Path) -> None:
    record = input_file(tmp_path)
    desk = Desk(input_record=record)
    desk.link.status = Up(EPOCH)
    alice = desk.sit_down("alice").attachment
    alice.write(b"root\r")
    alice.write("Zo\u00eb\x1b[A\x7f\x9b".encode())
    alice.write(b"\xff\x00")
    await record.close()
    place = {"timestamp": "2026-11-21T23:45:01.000Z", "account": "alice", "remoteAddress": "10.0.0.1"}
    assert lines(tmp_path) == [
        {**place, "input": "root\r"},
        {**place, "input": "Zo\u00eb\x1b[A\x7f\x9b"},
        {**place, "base64": "/wA="},
    ]
    assert stat.S_IMODE((tmp_path / "input.x1").stat().st_mode) == 0o600


@pytest_twisted.ensureDeferred
async def test_what_does_not_reach_the_node_is_not_written_down(tmp_path: Path) -> None:
    record = input_file(tmp_path)
    desk = Desk(input_record=record)
    alice = desk.sit_down("alice").attachment
    desk.link.refusal = LinkDown("x1")
    with pytest.raises(LinkDown):
        alice.write(b"root\r")
    desk.link.refusal = None
    alice.write(b"x")
    await record.close()
    assert [line["input"] for line in lines(tmp_path)] == ["x"]


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_written_down_does_not_reach_the_node(tmp_path: Path) -> None:
    record = input_file(tmp_path)
    (tmp_path / "input.x1").mkdir()
    desk = Desk(input_record=record)
    alice = desk.sit_down("alice").attachment
    alice.write(b"1")  # nobody knows yet
    while record.trouble is None:
        await deferLater(reactor, 0.005)
    with pytest.raises(NotRecorded, match="cannot be recorded at present; it was discarded"):
        alice.write(b"2")
    assert desk.link.written == [b"1"]
    assert alice.bytes_in == 1
    (tmp_path / "input.x1").rmdir()
    record.reopen()
    while record.trouble is not None:
        await deferLater(reactor, 0.005)
    alice.write(b"3")
    await record.close()
    assert [line["input"] for line in lines(tmp_path)] == ["1", "3"]
    assert desk.link.written == [b"1", b"3"]


def test_more_than_may_wait_is_refused(tmp_path: Path) -> None:
    record = input_file(tmp_path)
    with pytest.raises(NotRecorded):
        record.admit(WAITING)
    record.admit(WAITING // 8)


@given(st.binary(max_size=2000))
def test_what_was_admitted_fits(data: bytes) -> None:
    record = InputFile("x1", "/nonexistent", lambda: EPOCH, lambda *_: None)
    taken: list[bytes] = []
    record._ledger.append = lambda line: taken.append(line) or True  # type: ignore[method-assign, func-returns-value]
    record.typed("\U0001f600" * 99, "\x7f" * 99, data)
    [line] = taken
    assert len(line) <= len(data) * 6 + 2048
    found = json.loads(line)
    assert (found["input"].encode() if "input" in found else b64decode(found["base64"])) == data


def test_without_a_record_nothing_is_written(tmp_path: Path) -> None:
    desk = Desk()
    desk.sit_down("alice").attachment.write(b"root\r")
    assert desk.link.written == [b"root\r"]
    assert not list(tmp_path.iterdir())
