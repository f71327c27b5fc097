"""journald's protocol: every record is read back as it was, and large ones come as a file."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoled.journal import Journal, datagram

SEALED = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def parsed(data: bytes) -> dict[str, str]:
    """A datagram by journald's rules."""
    found, at = {}, 0
    while at < len(data):
        end = data.index(b"\n", at)
        name, is_short, value = data[at:end].partition(b"=")
        at = end + 1
        if not is_short:
            [length] = struct.unpack_from("<Q", data, at)
            value = data[at + 8 : at + 8 + length]
            at += 8 + length + 1
            assert data[at - 1 : at] == b"\n"
        assert name.decode() not in found
        found[name.decode()] = value.decode()
    return found


class Journald:
    """The other end of the socket."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(30)

    def read(self) -> dict[str, str]:
        """The next record, however it comes."""
        data, others, _, _ = self.socket.recvmsg(1 << 25, socket.CMSG_SPACE(4))
        for _, _, content in others:
            assert not data
            [file] = array.array("i", content)
            assert fcntl.fcntl(file, fcntl.F_GET_SEALS) == SEALED
            with os.fdopen(file, "rb") as large:
                large.seek(0)
                data = large.read()
        return parsed(data)

    def end(self) -> None:
        self.socket.close()
        Path(self.path).unlink(missing_ok=True)


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    journald = Journald(tmp_path / "socket")
    yield journald
    journald.end()


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True), st.text()))
def test_what_goes_in_comes_out(fields: dict[str, str]) -> None:
    assert parsed(datagram(fields)) == fields


def test_half_a_character_is_spelled_out() -> None:
    assert parsed(datagram({"MESSAGE": "\ud800"})) == {"MESSAGE": "\\ud800"}


@pytest.mark.parametrize("size", [10, 100_000, 5_000_000, 20_000_000])
def test_short_and_long(journald: Journald, size: int) -> None:
    journal = Journal(journald.path, 5)
    journal.send(datagram({"MESSAGE": "x" * size}))
    assert journald.read() == {"MESSAGE": "x" * size}
    journal.close()


def test_nobody_is_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="is journald there"):
        Journal(str(tmp_path / "socket"), 5)


def test_one_that_does_not_read_is_not_waited_for(journald: Journald) -> None:
    journal = Journal(journald.path, 0)
    with pytest.raises(BlockingIOError):
        for _ in range(100_000):
            journal.send(b"MESSAGE=x\n")
    with pytest.raises(BlockingIOError):
        journal.send(b"MESSAGE=" + b"x" * 20_000_000 + b"\n")
    journal.close()
