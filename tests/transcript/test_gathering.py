"""What nobody waits for is gathered, a flood does not wait for its turn's end, and a slow disk holds floods back."""

import pytest

from consoled.core.stream import NOW
from consoled.transcript.scribe import HANDFUL, HUNG, LOT, LOTS

from .fakes import Daemon, result_of
from .test_transcript import active, everything

KIB = 1024


class Told:
    """What the scribe said of pressure, and which consoles were told that their bytes are written."""

    def __init__(self):
        self.pressure = []
        self.written = []


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def daemon(tmp_path, told):
    daemon = Daemon(tmp_path / "d")
    daemon.archive._scribe._pressed = told.pressure.append
    daemon.start()
    yield daemon
    daemon.disk.die()


def opened(daemon, told, name="x1"):
    return daemon.open(name, on_written=lambda: told.written.append(name))


def test_bytes_that_nobody_waits_for_are_gathered_and_can_be_read_meanwhile(daemon, told):
    one, two = opened(daemon, told, "x1"), opened(daemon, told, "x2")
    daemon.writer.patience.clear()
    assert one.append(b"a", within=0.05)
    daemon.clock.advance(0.03)
    assert one.append(b"b", within=0.05)
    assert two.append(b"c", within=0.05)
    assert everything(one) == (b"ab", [])
    assert (active(daemon), told.written, daemon.writer.patience) == (b"", [], [])
    daemon.clock.advance(0.02)
    assert (active(daemon), active(daemon, "x2")) == (b"ab", b"c")
    assert (told.written, daemon.writer.patience) == (["x1", "x2"], [0.05])


def test_whoever_is_waited_for_goes_at_once_and_alone(daemon, told):
    one, two = opened(daemon, told, "x1"), opened(daemon, told, "x2")
    one.append(b"a", within=0.05)
    two.append(b"b", within=0.05)
    one.append(b"c")
    daemon.turn()
    assert (active(daemon), active(daemon, "x2"), told.written) == (b"ac", b"", ["x1"])
    one.append(b"d", within=0.05)
    daemon.clock.advance(0.05)
    assert (active(daemon), active(daemon, "x2"), told.written) == (b"acd", b"b", ["x1", "x2", "x1"])


def test_the_earliest_promise_is_kept(daemon, told):
    one, two = opened(daemon, told, "x1"), opened(daemon, told, "x2")
    one.append(b"a", within=0.05)
    two.append(b"b", within=0.005)
    one.append(b"c", within=0.05)
    daemon.clock.advance(0.005)
    assert (active(daemon), active(daemon, "x2")) == (b"ac", b"b")
    two.append(b"d", within=0.005)
    one.append(b"e", within=0.05)
    daemon.clock.advance(0.005)
    assert (active(daemon), active(daemon, "x2")) == (b"ace", b"bd")


def test_what_is_gathered_is_shown_in_time_while_the_disk_is_busy_with_something_else(daemon, told):
    one, two = opened(daemon, told, "x1"), opened(daemon, told, "x2")
    assert one.append(b"a", within=0.05)
    daemon.writer.held = True
    two.reopen()
    daemon.turn()
    assert (len(daemon.writer.jobs), told.written) == (1, [])
    daemon.clock.advance(0.05)
    assert told.written == ["x1"]
    daemon.writer.release()
    daemon.turn()
    assert active(daemon) == b"a"


def crowd(daemon, told, count):
    names = [f"x{number:03}" for number in range(count)]
    for name in names:
        opened(daemon, told, name).append(b"a", within=0.05)
    daemon.writer.patience.clear()
    return names


def test_a_crowd_is_visited_in_lots_and_an_echo_comes_between(daemon, told):
    typed_at = opened(daemon, told, "echo")
    names = crowd(daemon, told, 3 * LOT)
    shown = []
    daemon.clock.callLater(0.05, lambda: (typed_at.append(b"e", within=NOW), shown.extend(told.written)))
    daemon.clock.advance(0.05)
    assert (shown, active(daemon, "echo")) == (names[:LOT], b"e")
    assert told.written == names
    assert len(daemon.writer.patience) == 1 + 3


def test_a_crowd_however_large_is_visited_in_so_many_lots(daemon, told):
    names = crowd(daemon, told, 3 * LOTS)
    daemon.clock.advance(0.05)
    assert told.written == names
    assert len(daemon.writer.patience) == LOTS


def test_whoever_stands_in_a_lot_and_cannot_wait_goes_with_this_turn(daemon, told):
    crowd(daemon, told, 3 * LOT)
    last = opened(daemon, told, "last")
    last.append(b"a", within=0.05)
    daemon.clock.callLater(0.05, lambda: last.append(b"b"))
    daemon.clock.advance(0.05)
    assert (told.written.index("last"), told.written.count("last")) == (LOT, 1)
    assert len(daemon.writer.patience) == 1 + 3  # the first was for its opening
    assert active(daemon, "last") == b"ab"


def test_nobody_in_a_lot_waits_for_a_disk_that_became_slow(daemon, told):
    names = crowd(daemon, told, 3 * LOT)
    daemon.writer.held = True
    daemon.clock.advance(0.05)
    assert told.written == names
    assert len(daemon.writer.jobs) == 1
    daemon.writer.release()
    daemon.turn()
    assert {active(daemon, name) for name in names} == {b"a"}


def test_a_failing_disk_is_not_tried_sooner_for_whoever_is_waited_for(daemon, told):
    transcript = opened(daemon, told)
    daemon.disk.faults["write"] = OSError(5, "Input/output error")
    transcript.append(b"a", within=0.05)
    daemon.clock.advance(0.05)
    tries = len(daemon.writer.patience)
    assert not transcript.append(b"b")
    daemon.turn()
    assert len(daemon.writer.patience) == tries


def test_gathered_bytes_are_in_the_file_after_the_end(daemon, told):
    transcript = opened(daemon, told)
    transcript.append(b"last words", within=0.05)
    done = transcript.close()
    daemon.turn()
    result_of(done)
    assert active(daemon) == b"last words"


@pytest.mark.parametrize("within", [0.0, 0.05])
def test_a_flood_is_written_within_the_turn(daemon, told, within):
    one, two = opened(daemon, told, "x1"), opened(daemon, told, "x2")
    half = bytes(HANDFUL // 2)
    assert one.append(half, within=within)
    assert active(daemon) == b""
    assert not two.append(half, within=within)  # it is written already: whoever appended may show it
    assert (active(daemon), active(daemon, "x2")) == (half, half)
    assert told.written == ["x1"]


def flood(daemon, transcript):
    """More than half of the room of one console, for a disk that does not take it now."""
    daemon.writer.held = True
    for _ in range(5):
        transcript.append(bytes(128 * KIB))
        daemon.turn()


def test_a_disk_that_cannot_keep_up_holds_floods_back_until_it_has(daemon, told):
    transcript = opened(daemon, told)
    flood(daemon, transcript)
    assert told.pressure == [True]
    transcript.append(bytes(128 * KIB))
    assert told.pressure == [True]
    daemon.writer.release()
    assert told.pressure == [True, False]
    assert transcript.lost == 0
    daemon.clock.advance(2 * HUNG)
    assert told.pressure == [True, False]
    flood(daemon, transcript)
    assert told.pressure == [True, False, True]


def test_the_bound_of_all_together_counts_too(daemon, told):
    daemon.archive._scribe.bound = 100 * KIB
    transcripts = [opened(daemon, told, f"x{number}") for number in range(4)]
    daemon.writer.held = True
    for transcript in transcripts:
        transcript.append(bytes(30 * KIB))
        daemon.turn()
    assert told.pressure == [True]


def test_a_disk_that_hangs_holds_nobody_back_for_long(daemon, told):
    transcript = opened(daemon, told)
    flood(daemon, transcript)
    daemon.clock.advance(HUNG)
    assert told.pressure == [True, False]
    transcript.append(bytes(128 * KIB))
    assert told.pressure == [True, False]
    daemon.writer.release()
    flood(daemon, transcript)
    assert told.pressure == [True, False, True]


def test_a_quick_disk_holds_nobody_back(daemon, told):
    transcript = opened(daemon, told)
    for _ in range(20):
        transcript.append(bytes(900 * KIB))
    daemon.turn()
    assert told.pressure == []


def test_the_pressure_ends_with_the_daemon(daemon, told):
    transcript = opened(daemon, told)
    flood(daemon, transcript)
    daemon.archive.close()
    daemon.clock.advance(3)
    assert told.pressure == [True, False]


def test_the_echo_of_a_key_is_in_the_file_when_append_comes_back(daemon, told):
    one, two = opened(daemon, told, "x1"), opened(daemon, told, "x2")
    two.append(b"b", within=0.05)
    assert not one.append(b"a", within=-1.0)
    assert (active(daemon), active(daemon, "x2"), told.written) == (b"a", b"", [])
    one.append(b"b")
    assert not one.append(b"c", within=-1.0)
    assert (active(daemon), told.written) == (b"abc", ["x1"])


def test_the_echo_does_not_wait_for_a_disk_that_hangs(daemon, told):
    one = opened(daemon, told, "x1")
    daemon.writer.held = True
    one.append(b"a")
    daemon.turn()
    daemon.writer.patience.clear()
    assert not one.append(b"b", within=-1.0)
    assert daemon.writer.patience == []
    daemon.writer.release()
    daemon.turn()
    assert active(daemon) == b"ab"


def test_what_is_asked_for_at_the_end_is_done_before_it(daemon, told):
    one = opened(daemon, told, "x1")
    one.append(b"a", within=0.05)
    daemon.archive._scribe.stop()
    assert (active(daemon), daemon.writer.stopped) == (b"a", True)
    assert not daemon.archive._scribe._dirty


def test_what_was_under_way_at_the_end_does_not_keep_the_thread(daemon, told):
    one = opened(daemon, told, "x1")
    daemon.writer.held = True
    one.append(b"a")
    daemon.turn()
    one.append(b"b")
    daemon.archive._scribe.stop()
    assert not daemon.writer.stopped
    daemon.writer.release()
    daemon.turn()
    assert (active(daemon), daemon.writer.stopped) == (b"ab", True)
