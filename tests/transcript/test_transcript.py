"""The reactor's side: queue, patience, loss, trouble, and the seam's promises; on a Clock, without threads."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consoled.core.seams import Transcript as Seam

from .fakes import Daemon, result_of

KIB = 1024


@pytest.fixture
def daemon(tmp_path):
    daemon = Daemon(tmp_path / "d")
    daemon.start()
    yield daemon
    daemon.disk.die()


def everything(transcript, at=0):
    """All that can be read from `at` on, and the gaps."""
    parts, gaps = [], []
    while True:
        found, data = result_of(transcript.read(at, 50_000))
        if found > at:
            gaps.append((at, found))
        if not data:
            return b"".join(parts), gaps
        parts.append(data)
        at = found + len(data)


def active(daemon, name="x1"):
    return Path(daemon.archive._directory.active(name)).read_bytes()


def test_it_is_what_the_core_expects(daemon):
    transcript: Seam = daemon.open()
    assert (transcript.head, transcript.start, transcript.trouble, len(transcript.marks)) == (0, 0, None, 0)


def test_bytes_are_in_the_file_before_the_turn_ends(daemon):
    transcript = daemon.open()
    transcript.append(b"one ")
    transcript.append(b"two")
    assert active(daemon) == b""
    assert result_of(transcript.read(0, 99)) == (0, b"one two")
    daemon.turn()
    assert active(daemon) == b"one two"
    assert everything(transcript) == (b"one two", [])
    assert transcript.head == 7


def test_one_batch_for_all_consoles_of_a_turn(daemon):
    transcripts = [daemon.open(f"x{n}") for n in range(5)]
    visits = len(daemon.writer.patience)
    for transcript in transcripts:
        transcript.append(b"data")
        transcript.append(b"more")
    daemon.turn()
    assert daemon.writer.patience[visits:] == [0.05]


def test_marks_are_known_at_once_and_after_a_restart(tmp_path, daemon):
    transcript = daemon.open()
    transcript.append(b"<hello>\n", own=True)
    transcript.append(b"node says\n")
    transcript.append(b"<bye>\n", own=True)
    assert list(transcript.marks) == [(0, 8), (18, 24)]
    daemon.turn()
    daemon.end()
    transcript = (again := Daemon(tmp_path / "d")).start() or again.open()
    assert list(transcript.marks) == [(0, 8), (18, 24)]
    assert (transcript.start, transcript.head) == (0, 24)
    again.end()


def test_a_killed_daemon_has_lost_nothing_that_was_in_its_turn(tmp_path, daemon):
    transcript = daemon.open()
    transcript.append(b"last words")
    daemon.turn()
    transcript.append(b" unheard")
    daemon.disk.die()
    again = Daemon(tmp_path / "d")
    again.start()
    assert everything(again.open()) == (b"last words", [])
    again.end()


def test_nobody_is_told_before_the_disk_has_it(daemon, tmp_path):
    on_disk = []
    transcript = daemon.open(on_written=lambda: on_disk.append((tmp_path / "d" / "console.x1").read_bytes()))
    assert transcript.append(b"one")
    assert transcript.append(b"two")
    assert on_disk == []
    daemon.turn()
    assert on_disk == [b"onetwo"]
    daemon.turn()
    assert len(on_disk) == 1


def test_a_slow_disk_is_waited_for_once(daemon):
    written = []
    transcript = daemon.open(on_written=lambda: written.append(1))
    daemon.writer.held = True
    assert transcript.append(b"one")
    daemon.turn()
    assert written == [1]  # its time is over
    assert not transcript.append(b"two")
    daemon.turn()
    daemon.writer.release()
    daemon.turn()
    assert written == [1]
    assert transcript.append(b"three")
    daemon.turn()
    assert written == [1, 1]


def test_a_failing_disk_is_not_waited_for(daemon):
    written = []
    transcript = daemon.open(on_written=lambda: written.append(1))
    daemon.disk.faults["write"] = OSError(28, "No space left on device")
    assert transcript.append(b"one")
    daemon.turn()
    assert written == [1]
    assert not transcript.append(b"two")
    daemon.turn()
    assert written == [1]


def test_the_reactor_waits_for_a_slow_disk_once_and_then_no_more(daemon):
    transcript = daemon.open()
    daemon.writer.patience.clear()
    daemon.writer.held = True
    transcript.append(b"a")
    daemon.turn()
    transcript.append(b"b")
    daemon.turn()
    transcript.append(b"c")
    daemon.turn()
    assert daemon.writer.patience == [0.05]
    daemon.writer.one()
    assert daemon.writer.patience == [0.05, 0]
    assert active(daemon) == b"a"
    assert everything(transcript) == (b"abc", [])
    daemon.writer.release()
    assert active(daemon) == b"abc"
    transcript.append(b"d")
    daemon.turn()
    assert daemon.writer.patience == [0.05, 0, 0.05]
    assert active(daemon) == b"abcd"


def test_a_disk_that_is_slow_every_time_is_not_waited_for_every_time(daemon):
    transcript = daemon.open()
    daemon.writer.patience.clear()
    daemon.disk.faults["write"] = lambda *_: daemon.clock.advance(0.06) if daemon.writer.patience else None
    daemon.writer.held = True
    for _ in range(10):
        transcript.append(b"x")
        daemon.turn()
        daemon.writer.one()
    assert sum(daemon.writer.patience) == 0.05
    daemon.disk.faults.clear()
    transcript.append(b"x")
    daemon.turn()
    daemon.writer.release()
    transcript.append(b"x")
    daemon.turn()
    assert daemon.writer.patience[-1] == 0.05


def test_a_hung_disk_loses_the_newest_counts_them_and_goes_on_behind_the_gap(tmp_path, daemon):
    losses = []

    def lost(count):
        losses.append((count, transcript.head))
        transcript.append(b"<lost %d>\n" % count, own=True)

    transcript = daemon.open(on_loss=lost)
    transcript.append(b"first\n")
    daemon.turn()
    daemon.writer.held = True
    chunk = b"x" * 64 * KIB
    for _ in range(20):
        transcript.append(chunk)
        daemon.turn()
    assert transcript.lost == 4 * 64 * KIB
    transcript.append(b"<event>\n", own=True)  # an own line that is lost is marked all the same: the ring has it
    assert transcript.head == 6 + 20 * 64 * KIB + 8
    assert daemon.archive._scribe.unwritten == 16 * 64 * KIB
    daemon.clock.advance(6)
    assert "no answer from the disk for 6 s" in transcript.trouble
    assert "no answer" in daemon.archive.trouble
    assert losses == []
    daemon.writer.release()
    daemon.turn()
    count = 4 * 64 * KIB + 8
    assert losses == [(count, 6 + 20 * 64 * KIB + 8)]
    transcript.append(b"alive\n")
    daemon.turn()
    assert transcript.trouble is None
    gap = (6 + 16 * 64 * KIB, 6 + 20 * 64 * KIB + 8)
    assert everything(transcript) == (b"first\n" + 16 * chunk + b"<lost %d>\nalive\n" % count, [gap])
    assert active(daemon) == b"<lost %d>\nalive\n" % count
    assert list(transcript.marks)[-1] == (gap[1] - 8, gap[1] + 14)
    assert f"lost {gap[0]} {gap[1]}\n" in (tmp_path / "d/.index/x1").read_text()
    head = transcript.head
    daemon.end()
    again = Daemon(tmp_path / "d")
    again.start()
    transcript = again.open()
    assert transcript.head == head
    assert everything(transcript)[1] == [gap]
    assert (gap[1], gap[1] + 14) in list(transcript.marks)
    again.end()


def test_the_bound_of_all_consoles_together(tmp_path):
    daemon = Daemon(tmp_path, max_unwritten_total=128 * KIB)
    daemon.start()
    losses = []
    first, second, third = (daemon.open(name, losses.append) for name in ("a", "b", "c"))
    daemon.writer.held = True
    for transcript in (first, second):
        transcript.append(b"x" * 60 * KIB)
    daemon.turn()
    third.append(b"y" * 10 * KIB)  # nothing of its own is waiting, and there is no room
    assert (first.lost, second.lost, third.lost) == (0, 0, 10 * KIB)
    daemon.writer.release()
    daemon.turn()
    assert losses == [10 * KIB]
    third.append(b"z")
    daemon.turn()
    assert everything(third) == (b"z", [(0, 10 * KIB)])
    assert daemon.archive.lost == 10 * KIB
    daemon.end()


def test_a_burst_within_one_turn_is_no_reason_to_lose_anything(daemon):
    transcript = daemon.open()
    for _ in range(100):
        transcript.append(b"x" * 64 * KIB)
    daemon.turn()
    assert transcript.lost == 0
    assert len(active(daemon)) == 100 * 64 * KIB


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_a_failing_write_is_tried_again_and_told_once(daemon, number):
    transcript = daemon.open()
    transcript.append(b"<up>\n", own=True)
    transcript.append(b"before ")
    daemon.turn()
    # A real short write reports how much it took; then comes the error.
    daemon.disk.most_per_write = 3
    calls = []
    daemon.disk.faults["write"] = lambda fd, data: (
        calls.append(fd) or ((_ for _ in ()).throw(OSError(number, os.strerror(number))) if len(calls) > 1 else None)
    )
    transcript.append(b"during")
    daemon.turn()
    assert active(daemon) == b"<up>\nbefore dur"
    assert os.strerror(number) in transcript.trouble
    assert "console.x1" in transcript.trouble
    assert daemon.archive.trouble.endswith(f"{os.strerror(number)} (consoles: 1)")
    for _ in range(10):
        transcript.append(b"!")
        daemon.turn()
    daemon.clock.advance(4.9)
    assert len(calls) == 2
    daemon.clock.advance(0.2)
    assert len(calls) == 3
    assert everything(transcript) == (b"<up>\nbefore during!!!!!!!!!!", [])
    daemon.disk.faults.clear()
    daemon.disk.most_per_write = None
    daemon.clock.advance(5)
    daemon.turn()
    assert transcript.trouble is None
    assert daemon.archive.trouble is None
    assert active(daemon) == b"<up>\nbefore during!!!!!!!!!!"
    assert transcript.lost == 0


def test_a_vanished_directory_is_noticed_within_a_second_or_so(daemon):
    transcript = daemon.open(on_loss=lambda count: pytest.fail("what somebody removes is not lost by us"))
    transcript.append(b"gone\n")
    daemon.turn()
    shutil.rmtree(daemon.archive._directory.path)
    transcript.append(b"gone too\n")
    daemon.turn()
    daemon.clock.advance(1)
    daemon.turn()
    transcript.append(b"kept\n")
    daemon.turn()
    assert active(daemon) == b"kept\n"
    assert everything(transcript) == (b"kept\n", [(0, 14)])
    assert transcript.start == 14


def test_logrotate_with_create(daemon, tmp_path):
    transcript = daemon.open()
    transcript.append(b"old\n")
    daemon.turn()
    path = tmp_path / "d/console.x1"
    path.rename(tmp_path / "d/console.x1.1")
    path.touch()
    transcript.append(b"still old\n")
    daemon.turn()
    daemon.archive.reopen()
    daemon.turn()
    transcript.append(b"new\n")
    daemon.turn()
    assert (tmp_path / "d/console.x1.1").read_bytes() == b"old\nstill old\n"
    assert path.read_bytes() == b"new\n"
    assert transcript.head == 18
    assert everything(transcript) == (b"new\n", [(0, 14)])


def test_logrotate_with_copytruncate(daemon, tmp_path):
    transcript = daemon.open()
    transcript.append(b"old\n")
    daemon.turn()
    os.truncate(tmp_path / "d/console.x1", 0)
    transcript.append(b"new\n")
    daemon.turn()
    assert active(daemon) == b"new\n"
    assert everything(transcript) == (b"new\n", [(0, 4)])


def test_retention_moves_the_start_and_the_marks(tmp_path):
    daemon = Daemon(tmp_path, max_size=4096, keep=2)
    daemon.start()
    transcript = daemon.open()
    for _ in range(5):
        transcript.append(b"<own>\n", own=True)
        transcript.append(b"x" * 4095 + b"\n")
        daemon.turn()
    daemon.clock.advance(3)
    view = transcript.files.view
    assert len(view.closed) == 2
    assert transcript.start == view.closed[0].start > 0
    assert 0 < len(transcript.marks) < 5
    assert all(stop > transcript.start for _, stop in transcript.marks)
    assert everything(transcript)[1] == [(0, transcript.start)]
    daemon.end()


def test_lines(daemon):
    transcript = daemon.open()
    transcript.append(b"one\ntwo\nthr")
    daemon.turn()
    daemon.writer.held = True
    transcript.append(b"ee\nfour\nfi")
    daemon.turn()
    head = transcript.head
    assert [result_of(transcript.line_start(head, n)) for n in range(7)] == [head, 19, 14, 8, 4, 0, 0]
    assert result_of(transcript.line_start(19, 1)) == 14
    assert result_of(transcript.line_start(0, 3)) == 0
    assert result_of(transcript.line_start(head + 10, 1)) == 19
    daemon.writer.release()


def test_a_read_beyond_the_end_says_so(daemon):
    transcript = daemon.open()
    transcript.append(b"12345")
    assert result_of(transcript.read(5, 10)) == (5, b"")
    assert result_of(transcript.read(9, 10)) == (9, b"")
    daemon.turn()
    assert result_of(transcript.read(5, 10)) == (5, b"")


def test_close_is_bounded_when_the_disk_hangs(daemon):
    transcript = daemon.open()
    daemon.writer.held = True
    transcript.append(b"never")
    daemon.turn()
    closed = []
    daemon.archive.close().addCallback(closed.append)
    daemon.clock.advance(2)
    assert closed == []
    daemon.clock.advance(1)
    assert closed == [None]
    daemon.writer.release()  # the disk comes back: what was waiting is written all the same
    assert active(daemon) == b"never"
    assert not daemon.clock.getDelayedCalls()


def test_close_does_not_wait_for_a_full_disk(daemon):
    transcript = daemon.open()
    daemon.disk.faults["write"] = OSError(errno.ENOSPC, "full")
    transcript.append(b"never")
    daemon.turn()
    daemon.end()
    assert daemon.archive.lost == 5


def test_close_writes_what_is_pending_and_lets_go(daemon, tmp_path):
    transcript = daemon.open()
    transcript.append(b"pending")
    closed = transcript.close()
    transcript.append(b"too late")
    daemon.turn()
    assert result_of(closed) is None
    assert result_of(transcript.close()) is None
    assert active(daemon) == b"pending"
    assert not daemon.disk.fds - {daemon.archive._directory._lock}
    assert daemon.open().head == 7 + 8  # what came too late was seen by somebody: its offsets are not used again
    daemon.end()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(
                ["append", "append", "append", "turn", "hold", "one", "release", "fail", "heal", "restart", "reopen"]
            ),
            st.integers(1, 40_000),
            st.booleans(),
        ),
        max_size=40,
    )
)  # fmt: skip
def test_any_interleaving_gives_the_stream_or_a_truthful_gap(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("any")
    stream, marked = bytearray(), set()
    lost = 0

    def begin():
        daemon = Daemon(path, max_size=50_000, max_unwritten=65536)
        daemon.start()
        return daemon, daemon.open()

    def append(size, own):
        data = (b"%d " % len(stream) * size)[:size]
        if own:
            marked.update((len(stream), len(stream) + size - 1))
        transcript.append(data, own)
        stream.extend(data)

    daemon, transcript = begin()
    for what, size, own in steps:
        if what == "append":
            append(size, own)
        elif what == "turn":
            daemon.turn()
        elif what == "hold":
            daemon.writer.held = True
        elif what == "one" and daemon.writer.jobs:
            daemon.writer.one()
        elif what == "release":
            daemon.writer.release()
        elif what == "fail":
            daemon.disk.faults["write"] = OSError(errno.ENOSPC, "full")
        elif what == "heal":
            daemon.disk.faults.clear()
            daemon.clock.advance(5)
        elif what == "reopen":
            transcript.reopen()
        elif what == "restart":
            daemon.disk.faults.clear()
            daemon.writer.release()
            daemon.turn()
            daemon.end()
            assert daemon.archive._scribe.unwritten == 0
            lost += daemon.archive.lost
            daemon, transcript = begin()
            # A mark of bytes that were lost is of use only as long as the ring has them.
            marked = {at for at in marked if result_of(transcript.read(at, 1))[0] == at}
        assert transcript.head == len(stream)
        at, kept = transcript.start, 0
        while at < transcript.head:
            found, data = result_of(transcript.read(at, 30_000))
            assert stream[found : found + len(data)] == data
            at = found + len(data)
            kept += len(data)
        assert kept == len(stream) - lost - daemon.archive.lost
        for at in marked:
            assert transcript.marks.run(at, 1) == (1, True)
    daemon.disk.faults.clear()
    daemon.writer.release()
    daemon.clock.advance(5)
    daemon.turn()
    daemon.end()
    data = (
        b"".join(file.read_bytes() for file in sorted(path.glob("console.x1.*"))) + (path / "console.x1").read_bytes()
    )
    assert len(data) == len(stream) - lost - daemon.archive.lost
