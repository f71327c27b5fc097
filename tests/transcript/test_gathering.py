"""What nobody waits for is gathered, a flood does not wait for its turn's end, and a slow disk holds floods back."""

from collections import Counter

import pytest

from consoled.core.stream import NOW
from consoled.transcript.appointments import TICK
from consoled.transcript.scribe import APART, HANDFUL, HUNG, LOOK

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
    assert two.append(b"c", within=0.05)
    daemon.clock.advance(0.03)
    assert one.append(b"b", within=0.05)
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
    assert (active(daemon), active(daemon, "x2")) == (b"", b"b")
    two.append(b"d", within=0.005)
    one.append(b"e", within=0.005)
    daemon.clock.advance(0.005)
    assert (active(daemon), active(daemon, "x2")) == (b"ace", b"bd")
    daemon.clock.advance(0.05)
    assert sorted(told.written) == ["x1", "x2", "x2"]


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


def test_an_echo_comes_between_those_whose_time_is_over(daemon, told):
    """Even if the reactor is late: what has been due for some milliseconds is not all written and shown in one turn."""
    typed_at = opened(daemon, told, "echo")
    names = [f"x{number}" for number in range(5)]
    for number, name in enumerate(names):
        opened(daemon, told, name).append(b"a", within=0.05 + number / 1000)
    daemon.writer.patience.clear()
    seen = []
    daemon.clock.callLater(0.054, lambda: (typed_at.append(b"e", within=NOW), seen.extend(told.written)))
    daemon.clock.advance(0.054)
    assert (seen, active(daemon, "echo")) == (["x0"], b"e")
    assert told.written == names


def test_the_files_that_were_written_are_looked_at_one_after_the_other(daemon, told):
    """Else there would be a turn each second that takes as long as all the consoles are many."""
    files = [opened(daemon, told, f"x{number}") for number in range(100)]
    for file in files:
        file.append(b"a")
    daemon.turn()
    looks = Counter()
    daemon.disk.faults["stat"] = lambda path: looks.update([round(daemon.clock.seconds(), 3)])
    daemon.clock.pump([TICK] * round((LOOK + 0.1) / TICK))
    assert looks.total() == 100
    assert max(looks.values()) <= TICK / APART + 1


def test_a_reactor_that_is_late_does_not_fall_further_behind(daemon, told):
    names = [f"x{number}" for number in range(40)]
    for number, name in enumerate(names):
        opened(daemon, told, name).append(b"a", within=0.05 + number / 1000)
    daemon.writer.patience.clear()
    daemon.clock.advance(0.5)
    assert told.written == names
    assert len(daemon.writer.patience) == 1


def test_what_was_gathered_is_shown_in_time_though_room_is_needed_while_the_disk_hangs(daemon, told):
    one, two = opened(daemon, told, "x1"), opened(daemon, told, "x2")
    daemon.writer.held = True
    two.append(b"a")
    daemon.turn()
    assert one.append(b"b", within=0.05)
    two.append(bytes(HANDFUL))
    daemon.clock.advance(0.05)
    assert "x1" in told.written


def test_a_look_takes_nobodys_time_away(daemon, told):
    one, two = opened(daemon, told, "x1"), opened(daemon, told, "x2")
    one.append(b"a")
    daemon.clock.advance(0)
    told.written.clear()
    daemon.clock.advance(LOOK - 0.02)
    daemon.writer.held = True
    two.append(b"a")
    daemon.turn()
    assert one.append(b"b", within=0.05)
    daemon.clock.advance(0.05)
    assert "x1" in told.written


def test_a_write_that_failed_makes_nobody_wait_for_a_look(daemon, told):
    one = opened(daemon, told)
    daemon.writer.held = True
    one.append(b"a")
    daemon.turn()
    one.look(0.9)
    daemon.disk.faults["write"] = OSError(5, "Input/output error")
    daemon.writer.release()
    daemon.turn()
    told.written.clear()
    waits = one.append(b"b", within=0.005)
    daemon.clock.advance(0.005)
    assert not waits or told.written


def test_a_fault_in_showing_one_console_stops_no_other(daemon, told):
    def fail():
        raise RuntimeError

    one, two = daemon.open("x1", on_written=fail), opened(daemon, told, "x2")
    one.append(b"a")
    two.append(b"b")
    daemon.turn()
    assert (active(daemon), active(daemon, "x2"), told.written) == (b"a", b"b", ["x2"])
    one.append(b"c", within=0.05)
    daemon.clock.advance(0.05)
    assert active(daemon) == b"ac"


def test_looks_are_waited_for_so_that_nothing_is_shown_before_it_is_written(daemon, told):
    one = opened(daemon, told)
    one.append(b"a")
    daemon.turn()
    daemon.writer.patience.clear()
    daemon.clock.advance(LOOK)
    assert daemon.writer.patience == [0.05]


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
