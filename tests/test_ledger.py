"""The ledger: a disk that is full, hangs or is moved away costs lines at worst, and never the reactor's time."""

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs, eventAsText

from consoled.ledger import FilePage, Ledger, timestamp

LIMIT = 30.0


class Disk:
    """One page after the other; the test says how it goes."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.pages = 0
        self.open = 0
        self.error: OSError | None = None
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.waits = threading.Event()

    def __call__(self) -> "Disk":
        self.pages += 1
        self.open += 1
        return self

    def write(self, line: bytes) -> None:
        self.waits.set()
        assert self.goes_on.wait(LIMIT)
        if self.error is not None:
            raise self.error
        self.lines.append(line)

    def close(self) -> None:
        self.open -= 1


async def until(condition: Callable[[], object]) -> None:
    deadline = reactor.seconds() + LIMIT
    while not condition():
        assert reactor.seconds() < deadline
        await deferLater(reactor, 0.005)


def ledger(page, **more) -> Ledger:
    return Ledger("the book", page, reactor.callFromThread, **more)


@pytest_twisted.ensureDeferred
async def test_lines_are_written_in_their_order():
    disk = Disk()
    book = ledger(disk)
    lines = [b"%d\n" % number for number in range(1000)]
    assert all(book.append(line) for line in lines)
    await book.close()
    assert disk.lines == lines
    assert book.trouble is None
    await until(lambda: disk.open == 0)


@pytest_twisted.ensureDeferred
async def test_closing_one_that_has_nothing_to_do():
    disk = Disk()
    await ledger(disk).close()
    assert disk.pages == 0


@pytest_twisted.ensureDeferred
async def test_a_full_disk_is_tried_again_and_costs_nothing():
    disk = Disk()
    disk.error = OSError(28, "No space left on device")
    book = ledger(disk)
    with capturedLogs() as events:
        book.append(b"1\n")
        book.append(b"2\n")
        await until(lambda: book.trouble)
        assert book.trouble == "the book cannot be written: No space left on device"
        disk.error = None
        book.reopen()  # cuts the wait short
        await until(lambda: book.trouble is None)
        await book.close()
    assert disk.lines == [b"1\n", b"2\n"]
    said = [eventAsText(event, includeTimestamp=False, includeSystem=False) for event in events]
    assert said == [
        "the book cannot be written and is tried every few seconds: No space left on device",
        "the book is written again; 0 lines were lost",
    ]


@pytest_twisted.ensureDeferred
async def test_a_hanging_disk_loses_what_does_not_fit_and_says_how_much():
    disk = Disk()
    disk.goes_on.clear()
    lost: list[int] = []
    book = ledger(disk, waiting=30, recovered=lost.append)
    with capturedLogs() as events:
        taken = [book.append(b"a line.10.\n"[:10]) for _ in range(5)]
        assert taken == [True, True, True, False, False]
        assert not book.has_room(1)
        assert book.trouble == "the book is not written fast enough"
        disk.goes_on.set()
        await until(lambda: lost)
    assert lost == [2]
    assert book.trouble is None
    await until(lambda: book.has_room(30))
    await book.close()
    assert len(disk.lines) == 3
    said = [eventAsText(event, includeTimestamp=False, includeSystem=False) for event in events]
    assert said == [
        "the book is not written fast enough, and lines are lost",
        "the book is written again; 2 lines were lost",
    ]


@pytest_twisted.ensureDeferred
async def test_the_line_that_says_how_much_was_lost_is_not_lost_itself():
    disk = Disk()
    steps = threading.Semaphore(0)
    disk.goes_on.wait = lambda limit: steps.acquire(timeout=limit)
    told: list[int] = []

    def recovered(lost: int) -> None:
        told.append(lost)
        book.append(b"%d lines were lost\n" % lost)

    book = ledger(disk, waiting=30, recovered=recovered)
    for _ in range(5):
        book.append(b"ten bytes\n")
    steps.release()
    await until(lambda: told)  # with room for ten bytes
    assert book.trouble == "the book is not written fast enough"
    steps.release(10)
    await until(lambda: len(disk.lines) == 4)
    assert disk.lines[-1] == b"2 lines were lost\n"
    assert set(told) == {2}
    await until(lambda: book.trouble is None)
    await book.close()


@pytest_twisted.ensureDeferred
async def test_closing_while_the_disk_fails_gives_up_and_says_so():
    disk = Disk()
    disk.error = OSError(5, "Input/output error")
    book = ledger(disk)
    book.append(b"1\n")
    book.append(b"2\n")
    await until(lambda: book.trouble)
    with capturedLogs() as events:
        await book.close()
    assert "the last 2 lines are lost" in eventAsText(events[-1])
    assert disk.lines == []


@pytest_twisted.ensureDeferred
async def test_closing_while_the_disk_hangs_is_for_the_caller_to_limit():
    disk = Disk()
    disk.goes_on.clear()
    book = ledger(disk)
    book.append(b"1\n")
    closed = book.close()
    assert not closed.called
    closed.cancel()
    closed.addErrback(lambda _: None)
    disk.goes_on.set()
    await until(lambda: disk.lines and not disk.open)  # what fires late disturbs nobody


@pytest_twisted.ensureDeferred
async def test_the_page_is_opened_anew_when_it_was_moved_away():
    disk = Disk()
    book = ledger(disk)
    book.append(b"1\n")
    await until(lambda: disk.lines)
    pages = disk.pages
    book.reopen()
    await until(lambda: not disk.open)
    book.append(b"2\n")
    await book.close()
    assert disk.pages > pages


@pytest_twisted.ensureDeferred
async def test_a_check_says_what_is_wrong(tmp_path: Path):
    (tmp_path / "a file").touch()
    await ledger(lambda: FilePage(str(tmp_path / "new" / "book"), 0o640)).check()
    with pytest.raises(OSError, match="a file"):
        await ledger(lambda: FilePage(str(tmp_path / "a file" / "book"), 0o640)).check()


def test_without_a_thread_the_next_line_tries_again(monkeypatch: pytest.MonkeyPatch):
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    book = ledger(Disk())
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert book.append(b"1\n")
    started: list[threading.Thread] = []
    monkeypatch.setattr(threading.Thread, "start", lambda thread: started.append(thread))
    assert book.append(b"2\n")
    assert len(started) == 1


# ------------------------------------------------------------------------------------------------------- files


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_has_its_mode_whatever_the_umask(tmp_path: Path):
    path = tmp_path / "logs" / "audit.log"
    for umask in (0o077, 0o000):
        before = os.umask(umask)
        try:
            FilePage(str(path), 0o640).close()
        finally:
            os.umask(before)
        assert mode(path) == 0o640
        path.unlink()


def test_a_file_that_is_there_is_only_narrowed(tmp_path: Path):
    path = tmp_path / "book"
    path.write_text("before\n")
    for there, then in ((0o666, 0o640), (0o600, 0o600)):
        path.chmod(there)
        page = FilePage(str(path), 0o640)
        page.write(b"now\n")
        page.close()
        assert mode(path) == then
    assert path.read_text() == "before\nnow\nnow\n"


def test_a_torn_line_stands_alone(tmp_path: Path):
    path = tmp_path / "book"
    path.write_text('{"torn": ')
    page = FilePage(str(path), 0o640)
    page.write(b"{}\n")
    page.close()
    assert path.read_text() == '{"torn": \n{}\n'


def test_what_is_no_file_is_refused(tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError, match="not a regular file"):
        FilePage(str(tmp_path / "fifo"), 0o640)
    with pytest.raises(IsADirectoryError):
        FilePage(str(tmp_path / "directory"), 0o640)


def test_a_file_that_was_removed_is_noticed(tmp_path: Path):
    path = tmp_path / "book"
    page = FilePage(str(path), 0o640)
    path.unlink()
    with pytest.raises(OSError, match="has been removed"):
        page.write(b"1\n")
    page.close()


def test_a_disk_that_takes_a_part_only_has_taken_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "book"
    page = FilePage(str(path), 0o640)
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    with pytest.raises(OSError, match="a part of a line"):
        page.write(b"a line\n")
    monkeypatch.undo()
    page.close()
    page = FilePage(str(path), 0o640)
    page.write(b"a line\n")
    page.close()
    assert path.read_text() == "a l\na line\n"


def test_timestamp():
    assert timestamp(1_700_000_000.5) == "2023-11-14T22:13:20.500Z"


@pytest_twisted.ensureDeferred
async def test_the_thread_ends_when_there_is_nothing_to_do_and_another_takes_its_place(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("consoled.ledger.LINGER", 0)
    disk = Disk()
    book = ledger(disk)
    for line in (b"1\n", b"2\n"):
        book.append(line)
        await until(lambda: not disk.open and not any(one.name == "the book" for one in threading.enumerate()))
    assert disk.lines == [b"1\n", b"2\n"]
    assert disk.pages == 2
