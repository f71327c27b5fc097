"""Reads by offset and by line, while the files change under the reader."""

import errno
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consoled.transcript import reading
from consoled.transcript.reading import Reader, Unpacker
from consoled.transcript.settings import TranscriptSettings
from consoled.transcript.upkeep import Upkeep

from .fakes import Life


def upkeep(life, **wanted):
    return Upkeep(life.directory, TranscriptSettings(directory=life.directory.path, **wanted), lambda: 1000.0)


def line_start(stream, before, lines):
    """The definition: the byte at `before - 1` ends a line, whatever it is."""
    ends = [at for at in range(before - 1) if stream[at] == 10]
    return ends[-lines] + 1 if len(ends) >= lines else 0


@settings(max_examples=150, deadline=None)
@given(
    text=st.lists(st.sampled_from([b"\n", b"a", b"bc", b"def\n"]), max_size=80).map(b"".join),
    max_size=st.integers(4, 40),
    block=st.integers(1, 30),
    packed=st.booleans(),
    data=st.data(),
)
def test_lines_are_found_wherever_files_and_blocks_end(tmp_path_factory, text, max_size, block, packed, data):
    life = Life(tmp_path_factory.mktemp("lines"), max_size=max_size).open()
    written = data.draw(st.integers(0, len(text)))
    life.files.write(0, text[:written])
    if packed:
        upkeep(life, compress=True).run([life.files])
    old, reading._BLOCK = reading._BLOCK, block
    try:
        for before in {1, len(text) // 2, len(text) - 1, len(text)} - {0, -1}:
            tail = text[written:before]
            for lines in (1, 2, 5, 1000):
                found = life.reader.line_start(life.files, before, lines, written, tail)
                assert found == line_start(text, before, lines)
    finally:
        reading._BLOCK = old
        life.disk.die()


def test_lines_are_counted_across_a_hole(tmp_path):
    life = Life(tmp_path).open()
    life.files.write(0, b"one\ntwo\n")
    life.files.write(20, b"three\nfour\n")
    assert life.reader.line_start(life.files, 31, 1, 31, b"") == 26
    assert life.reader.line_start(life.files, 31, 2, 31, b"") == 8  # what is left of that line begins at 20
    assert life.reader.line_start(life.files, 31, 3, 31, b"") == 4
    assert life.reader.line_start(life.files, 31, 9, 31, b"") == 0


def test_ten_thousand_lines_of_a_big_file_take_a_few_reads(tmp_path):
    life = Life(tmp_path, max_size=1 << 30).open()
    line = b"x" * 79 + b"\n"
    life.files.write(0, line * 100_000)
    calls = life.disk.calls
    assert life.reader.line_start(life.files, 8_000_000, 10_000, 8_000_000, b"") == 7_200_000
    assert life.disk.calls - calls < 12


class Meddler:
    """Does something to the files in the middle of a reader's call."""

    def __init__(self, life, name, action):
        self.action = action
        life.disk.faults[name] = self
        self.life, self.name = life, name

    def __call__(self, *_):
        self.life.disk.faults.clear()
        self.action()


@pytest.mark.parametrize("call", ["open", "fstat", "pread"])
@pytest.mark.parametrize("change", ["rotate", "pack", "remove", "rotate and pack", "truncate"])
@pytest.mark.parametrize("offset", [0, 25, 45])
def test_whatever_happens_in_the_middle_of_a_read_the_bytes_are_right(tmp_path, call, change, offset):
    stream = b"".join(b"%03d:" % n for n in range(100))
    life = Life(tmp_path, max_size=20).open()
    life.files.write(0, stream[:50])
    head = [50]

    def meddle():
        if change == "truncate":
            os.truncate(life.files.path, 0)
        if "rotate" in change or change == "truncate":
            life.files.write(head[0], stream[head[0] : head[0] + 30])
            head[0] += 30
        if "pack" in change:
            upkeep(life, compress=True).run([life.files])
        if change == "remove":
            upkeep(life, keep=1).run([life.files])

    Meddler(life, call, meddle)
    at, data = life.reader.read(life.files, offset, 12, 50)
    assert data == stream[at : at + len(data)]
    assert at <= 50
    if change in ("rotate", "pack", "rotate and pack"):
        assert at == offset
        assert data


def test_a_reader_between_any_two_calls_of_a_rotation_finds_every_byte(tmp_path):
    life = Life(tmp_path, max_size=20).open()
    stream = b"".join(b"%03d:" % n for n in range(100))
    life.files.write(0, stream[:20])
    seen, reading = [], []

    def look(*_):
        if not reading:
            reading.append(True)
            end = life.files.head
            for at in range(end - 20, end, 3):
                seen.append((life.reader.read(life.files, at, 3, end)[1], stream[at : min(at + 3, end)]))
            reading.clear()

    calls = ("open", "rename", "fstat", "stat", "write", "close", "position")
    life.disk.faults.update(dict.fromkeys(calls, look))
    for at in range(20, 200, 20):
        life.files.write(at, stream[at : at + 20])
    assert len(seen) > 700
    for found, expected in seen:
        assert found
        assert expected.startswith(found)


def test_a_compressed_segment_is_unpacked_once_for_a_sequential_reader(tmp_path):
    life = Life(tmp_path, max_size=1000).open()
    life.files.write(0, b"0123456789" * 250)
    upkeep(life, compress=True).run([life.files])
    opened = []
    life.disk.faults["open"] = lambda path, flags: opened.append(path)
    assert life.pieces() == [(0, b"0123456789" * 250)]
    assert len([path for path in opened if path.endswith(".gz")]) == 2


def test_unpacked_segments_are_few_and_go_when_nobody_wants_them(tmp_path):
    now = [0.0]
    life = Life(tmp_path, max_size=10).open()
    life.files.write(0, b"0123456789" * 9)
    upkeep(life, compress=True).run([life.files])
    before = len(list(Path("/proc/self/fd").iterdir()))
    unpacker = Unpacker(lambda: now[0], most=3)

    def count():
        return len(list(Path("/proc/self/fd").iterdir())) - before

    for start in range(0, 80, 10):
        with unpacker.opened(life.files, start) as fd:
            assert os.pread(fd, 99, 0) == b"0123456789"
    assert count() == 3
    now[0] = 100.0
    with unpacker.opened(life.files, 0):
        unpacker.sweep(60)
        assert count() == 1
    unpacker.sweep(60)
    assert count() == 1
    unpacker.sweep(0)
    assert count() == 0
    with pytest.raises(FileNotFoundError), unpacker.opened(life.files, 777):
        pass
    assert not unpacker._entries


def test_a_damaged_compressed_segment_is_read_up_to_the_damage(tmp_path):
    life = Life(tmp_path, max_size=40).open()
    life.files.write(0, b"0123456789" * 5)
    upkeep(life, compress=True).run([life.files])
    packed = next(tmp_path.glob("*.gz"))
    packed.write_bytes(packed.read_bytes()[:-12])
    pieces = life.pieces()
    assert pieces[-1][1].endswith(b"0123456789")
    for at, data in pieces:
        assert (b"0123456789" * 5)[at : at + len(data)] == data


def test_a_file_that_cannot_be_read_is_a_hole(tmp_path):
    life = Life(tmp_path, max_size=20).open()
    life.files.write(0, b"0123456789" * 5)

    def broken(fd, length, at):
        if at == 0 and length == 7 and Path(f"/proc/self/fd/{fd}").readlink().name.endswith("00020"):
            raise OSError(errno.EIO, "broken")

    life.disk.faults["pread"] = broken
    assert life.pieces() == [(0, b"0123456789" * 2), (40, b"0123456789")]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_what_cannot_be_opened_for_want_of_a_descriptor_is_no_hole(tmp_path, monkeypatch, packed, number):
    life = Life(tmp_path, max_size=20).open()
    life.files.write(0, b"0123456789" * 5)
    if packed:
        upkeep(life, compress=True).run([life.files])
    whole = life.pieces()
    slept = []

    def scarce(*_, **__):
        raise OSError(number, "Too many open files")

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            life.disk.faults.clear()
            monkeypatch.undo()

    life.disk.faults["open"] = scarce
    monkeypatch.setattr(reading.tempfile, "TemporaryFile", scarce)
    life.reader = Reader(life.disk, Unpacker(lambda: 0.0), sleep)
    assert life.pieces() == whole == [(0, b"0123456789" * 5)]
    assert slept == [0.1, 0.2, 0.4]


def test_descriptors_are_not_waited_for_for_ever(tmp_path):
    life = Life(tmp_path).open()
    life.files.write(0, b"one\ntwo\n")
    life.disk.faults["open"] = OSError(errno.EMFILE, "Too many open files")
    slept = []
    patient = Reader(life.disk, Unpacker(lambda: 0.0), slept.append)
    for look in (lambda: patient.read(life.files, 0, 10, 8), lambda: patient.line_start(life.files, 8, 1, 8, b"")):
        with pytest.raises(OSError, match="Too many open files"):
            look()
    assert 1 < sum(slept) / 2 < 2


def test_a_reader_and_a_writer_at_full_speed(tmp_path):
    """With real threads: rotations, packing and removals all the while."""
    stream = b"".join(b"%07d\n" % n for n in range(40_000))
    life = Life(tmp_path, max_size=4096).open()
    keeper = upkeep(life, compress=True, keep=20)
    finished, wrong = threading.Event(), []

    def read():
        at = 0
        while not finished.is_set() or at < life.files.head:
            at, data = life.reader.read(life.files, at, 700, life.files.head)
            if stream[at : at + len(data)] != data:
                wrong.append(at)
            at += len(data)

    def keep():
        while not finished.is_set():
            keeper.run([life.files])

    threads = [threading.Thread(target=target) for target in (read, read, keep)]
    for thread in threads:
        thread.start()
    try:
        for at in range(0, len(stream), 1000):
            life.files.write(at, stream[at : at + 1000])
    finally:
        finished.set()
        for thread in threads:
            thread.join()
    assert not wrong
    keeper.run([life.files])
    assert len(life.files.view.closed) == 20
    assert all(segment.packed for segment in life.files.view.closed)
