"""Which bytes came between two times: against a plain list of when each came, through everything that can happen."""

import errno
import math
import os
import shutil
import struct
import tempfile
from array import array
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from twisted.internet.defer import Deferred

from consoled.transcript import times as times_module
from consoled.transcript.almanac import LEAD
from consoled.transcript.time_file import HEADER, rounds, stamped
from consoled.transcript.times import LITTLE, SLOW, SPACING, Times

from .fakes import Daemon, Died, result_of

FIT = SLOW + SPACING + 0.1
"""Seconds by which an answer may be too long at either end, while all is well."""


class Line:
    """A daemon with one console, whose clock and whose clock on the wall go together until somebody sets the latter."""

    def __init__(self, path, wall=None, **settings):
        self.path = Path(path)
        self.daemon = Daemon(path, **{"max_size": 4096, **settings})
        if wall is not None:
            self.daemon.wall.now = wall
        self.daemon.start()
        self.transcript = self.daemon.open()

    @property
    def now(self):
        return self.daemon.wall.now

    def say(self, data):
        self.transcript.append(data)
        self.daemon.turn()
        for file in self.path.glob("console.*"):
            if file.stat().st_mtime > self.now + 1e6:  # the kernel has no other clock than the wall's
                os.utime(file, (self.now, self.now))

    def wait(self, seconds):
        self.daemon.wall.now += seconds
        self.daemon.clock.advance(seconds)

    def span(self, since=0.0, until=1e12):
        return result_of(self.transcript.span(since, until))

    def said(self, since=0.0, until=1e12):
        span = self.span(since, until)
        found, at = b"", span.begin
        while at < span.end:
            at, data = result_of(self.transcript.read(at, span.end - at))
            found, at = found + data[: span.end - at], at + len(data)
        return found

    @property
    def side_files(self):
        return sorted((self.path / ".times").iterdir())


def test_the_question_of_the_night(tmp_path):
    line = Line(tmp_path)
    began = line.now
    for minute in range(60):
        line.say(b"minute %d\n" % minute)
        line.wait(60)
    for _ in range(2):
        assert line.said(began + 55 * 60, began + 56 * 60) == b"minute 55\n"
        assert line.said(began + 55 * 60 + 30, began + 55 * 60 + 40) == b""
        assert line.said(began + 55 * 60 - 1) == b"".join(b"minute %d\n" % minute for minute in range(55, 60))
        assert line.said(until=began + 61) == b"minute 0\nminute 1\n"
        assert line.said() == b"".join(b"minute %d\n" % minute for minute in range(60))
        assert line.said(began - 5000, began - 1) == line.said(line.now + 1) == b""
        span = line.span(began + 60, began + 61)
        assert span.since == began + 60
        assert began + 60 <= span.until <= began + 61 + SPACING
        line.daemon.end()
        line = Line(tmp_path, line.now + 3600)


def test_the_newest_is_found_before_it_is_saved(tmp_path):
    line = Line(tmp_path)
    line.say(b"old\n")
    line.wait(20)
    line.say(b"new\n")
    assert not line.side_files
    assert line.said(line.now - 1) == b"new\n"
    assert line.said(0, line.now - 1) == b"old\n"
    line.wait(LEAD)
    [file] = line.side_files
    assert file.read_bytes().startswith(HEADER)
    assert (len(file.read_bytes()) - len(HEADER)) % 16 == 0
    assert line.said(line.now - LEAD - 1) == b"new\n"


def test_a_console_that_says_nothing_costs_nothing(tmp_path):
    line = Line(tmp_path)
    line.say(b"hello\n")
    line.wait(LEAD)
    size = line.side_files[0].stat().st_size
    calls = line.daemon.disk.calls
    line.wait(LEAD)
    assert line.daemon.disk.calls <= calls + 1, "a look at the path, and no more"
    line.daemon.keeper.held = True
    line.wait(100_000)
    assert line.side_files[0].stat().st_size == size
    assert size <= len(HEADER) + 2 * 16


def test_one_that_dribbles_costs_little_and_a_flood_hardly_anything(tmp_path):
    line = Line(tmp_path, max_size=1 << 20)
    for _ in range(6000):
        line.say(b".")
        line.wait(0.1)
    assert line.side_files[0].stat().st_size <= 16 * (600 / SLOW + 600 / LEAD + 2)
    before = line.side_files[0].stat().st_size
    for _ in range(600):
        line.say(b"x" * 1000)
        line.wait(0.1)
    assert line.side_files[0].stat().st_size - before <= 16 * (60 / SPACING + 60 / LEAD + 3)


def test_segments_take_their_times_with_them(tmp_path):
    line = Line(tmp_path, keep=2, compress=True)
    began = line.now
    for number in range(12):
        line.say(b"%02d " % number * 500 + b"\n")
        line.wait(100)
    kept = {int(file.name.split(".")[2]) for file in line.path.glob("console.x1.0*")}
    assert any(file.name.endswith(".gz") for file in line.path.iterdir())
    known = {int(file.name.rpartition(".")[2]) for file in line.side_files}
    assert known == kept | {line.transcript.files.view.start}
    assert len(known) == 3
    line.wait(60)
    assert b"11 11" in line.said(began + 1100)
    assert line.said(began, began + 100) == b"", "it is known to be gone"
    line.daemon.end()


def test_what_lies_on_both_sides_of_a_rotation(tmp_path):
    line = Line(tmp_path)
    line.say(b"x" * 3000)
    line.wait(0.5)
    line.say(b"y" * 3000)
    said = line.now
    for _ in range(2):
        assert line.said(said, said + 0.01).endswith(b"y" * 3000)
        line.wait(LEAD)
    assert len(line.side_files) == 2
    line.daemon.end()


def test_an_older_transcript_is_known_by_its_files(tmp_path):
    line = Line(tmp_path)
    began = line.now
    for number in range(8):
        line.say(b"%d" % number * 2000 + b"\n")
        line.wait(100)
    line.daemon.end()
    shutil.rmtree(tmp_path / ".times")
    for file in tmp_path.glob("console.x1.0*"):  # what the kernel's clock had said
        number = max(int(byte) for byte in set(file.read_text()) - {"\n"})
        os.utime(file, (began + 100 * number, began + 100 * number))
    line = Line(tmp_path, began + 10_000)
    span = line.span(began + 320, began + 330)
    assert line.said(began + 320, began + 330) == b"".join(b"%d" % n * 2000 + b"\n" for n in (3, 4, 5))
    assert (span.since, span.until) == (began + 200, began + 500)
    span = line.span(began, began + 10)
    assert (span.begin, span.since) == (0, None), "when it began is not known"
    line.say(b"new\n")
    assert line.said(began + 9_999) == b"new\n"
    line.wait(10)
    line.say(b"newer\n")
    assert line.said(began + 10_010) == b"newer\n"


def test_side_files_that_belong_to_nothing_are_removed(tmp_path):
    line = Line(tmp_path)
    for number in range(4):
        line.say(b"%d" % number * 4000)
        line.wait(100)
    line.daemon.end()
    [gone, *_] = sorted(tmp_path.glob("console.x1.0*"))
    gone.unlink()
    foreign = tmp_path / ".times" / "notes"
    foreign.write_text("somebody's")
    before = len(line.side_files)
    line = Line(tmp_path, line.now)
    assert len(line.side_files) == before - 1
    assert foreign.exists()


@pytest.mark.parametrize("how", ["moved", "copytruncated"])
def test_a_file_that_logrotate_takes_away(tmp_path, how):
    line = Line(tmp_path)
    line.say(b"before\n")
    line.wait(LEAD)
    [old] = line.side_files
    active = tmp_path / "console.x1"
    if how == "moved":
        active.rename(tmp_path / "elsewhere")
        line.daemon.archive.reopen()
    else:
        os.truncate(active, 0)
    line.daemon.turn()
    line.say(b"after\n")
    line.wait(LEAD)
    [new] = line.side_files
    assert new != old
    assert line.said(line.now - LEAD - 1) == b"after\n"


def test_a_disk_that_does_not_take_them_is_asked_again(tmp_path):
    line = Line(tmp_path)
    line.say(b"one\n")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refuse(path, flags):
        if ".times" in path:
            raise full

    line.daemon.disk.faults["open"] = refuse
    line.wait(LEAD)
    line.say(b"two\n")
    line.wait(200)
    assert not line.side_files
    assert line.said(line.now - 201) == b"two\n"
    line.daemon.disk.faults.clear()
    line.wait(LEAD + 16)
    assert len(line.side_files) == 1
    assert line.said(line.now - 201 - LEAD - 16) == b"two\n"
    line.daemon.end()
    line = Line(tmp_path, line.now)
    assert line.said(line.now - 201 - LEAD - 16) == b"two\n"


def test_many_are_saved_one_share_after_the_other(tmp_path):
    daemon = Daemon(tmp_path)
    daemon.start()
    transcripts = [daemon.open(f"n{n}") for n in range(100)]
    for transcript in transcripts:
        transcript.append(b"hello\n")
    daemon.turn()
    saved = []
    daemon.clock.advance(LEAD)
    for _ in range(60):
        saved.append(len(list((tmp_path / ".times").iterdir())))
        daemon.clock.advance(1)
    assert saved[0] == 100 // 16 + 1
    assert saved[-1] == 100
    assert max(after - before for before, after in pairwise(saved)) <= 7
    daemon.end()


def test_one_batch_at_a_time_however_long_it_takes(tmp_path):
    daemon = Daemon(tmp_path)
    jobs = []

    def in_thread(function, *args):
        jobs.append((function, args, Deferred()))
        return jobs[-1][2]

    daemon.archive._desk.almanac._in_thread = in_thread
    daemon.start()
    slow, other = daemon.open("x1"), daemon.open("x2")
    slow.append(b"one\n")
    daemon.turn()
    daemon.clock.advance(LEAD)
    assert len(jobs) == 1
    slow.append(b"two\n")
    other.append(b"three\n")
    daemon.turn()
    daemon.clock.advance(1000)
    assert len(jobs) == 1
    function, args, done = jobs[0]
    done.callback(function(*args))
    daemon.clock.advance(LEAD)
    assert len(jobs) == 2
    daemon.end()
    function, args, done = jobs[1]
    done.callback(function(*args))  # behind what the last visit has saved
    assert not [call for call in daemon.clock.getDelayedCalls() if call.func == daemon.archive._desk.almanac._save]
    for name in ("x1", "x2"):
        [file] = (tmp_path / ".times").glob(f"{name}.*")
        records = list(struct.iter_unpack(">QQ", file.read_bytes()[16:]))
        assert records == sorted(records)


def test_what_was_written_and_not_saved_when_the_daemon_ends(tmp_path):
    line = Line(tmp_path)
    line.say(b"one\n")
    line.wait(15)
    line.say(b"last words\n")
    line.daemon.end()
    line = Line(tmp_path, line.now + 1000)
    assert line.said(line.now - 1001, line.now - 999) == b"last words\n"


def test_the_last_minute_of_a_daemon_that_was_killed_ended_with_its_last_byte(tmp_path):
    line = Line(tmp_path)
    began = line.now
    line.say(b"one\n")
    line.wait(15)
    line.say(b"last words\n")
    line.daemon.disk.die()
    line = Line(tmp_path, began + 1000)
    line.say(b"again\n")
    for _ in range(2):
        assert line.said(began + 20) == b"again\n"
        assert line.said(began, began + 20) == b"one\nlast words\n"
        line.wait(LEAD)
    line.daemon.end()


# ---------------------------------------------------------------------------------------------- anything at all


class Machine(RuleBasedStateMachine):
    """Any interleaving.  The model: when each byte of the stream came, as the clock on the wall had it."""

    @initialize(keep=st.sampled_from([0, 3]), compress=st.booleans())
    def begin(self, keep, compress):
        self.path = tempfile.mkdtemp(prefix="consoled-")
        self.settings = {"keep": keep, "compress": compress}
        self.line = Line(self.path, **self.settings)
        self.came = []
        self.is_shaky = self.was_set_back = self.was_killed = False
        self.began = self.latest = self.line.now
        self.saved = self.said_before = 0

    def teardown(self):
        if hasattr(self, "path"):
            self.line.daemon.disk.die()
            shutil.rmtree(self.path)

    @rule(data=st.sampled_from([1, 10, 80, 300, 3000, 10_000]), then=st.sampled_from([0, 0.02, 0.5, 1, 3]))
    def say(self, data, then):
        self.line.say(b"x" * data)
        self.came += [self.line.now] * data
        self.wait(then)

    @rule(seconds=st.sampled_from([0.3, 2, 9, 12, 50, 4000]))
    def wait(self, seconds):
        self.line.wait(seconds)
        self.latest = max(self.latest, self.line.now)
        if seconds >= 50:
            self.saved = len(self.came)
            self.is_shaky &= self.saved == self.said_before  # no time by the new clock has been saved

    @rule(seconds=st.sampled_from([0.004, 0.9, 5, 100, 5000]))
    def set_back(self, seconds):
        self.line.daemon.wall.now -= seconds
        self.is_shaky = self.was_set_back = True
        self.said_before = len(self.came)
        self.began = min(self.began, self.line.now)

    @rule(well=st.booleans(), torn=st.integers(0, 15), garbage=st.sampled_from([b"", b"\0" * 5, b"\0" * 40]),
          after=st.sampled_from([0, 0.5, 100]))  # fmt: skip
    def restart(self, well, torn, garbage, after):
        if well:
            self.line.daemon.end()
        else:
            self.was_killed = True
            self.line.daemon.disk.die()
            if self.is_shaky:
                # Then nobody can know by which clock it came.
                self.came[self.saved :] = [None] * (len(self.came) - self.saved)
            if self.line.side_files and not self.was_set_back:
                with self.line.side_files[-1].open("r+b") as file:
                    size = os.fstat(file.fileno()).st_size
                    if not garbage:
                        file.truncate(max(size - torn, 0))
                    elif size % 16 == 0:  # a sector is on the platter or not, and no record lies in two of them
                        file.seek(0, 2)
                        file.write(garbage)
        self.line = Line(self.path, self.line.now + after, **self.settings)
        self.say(1, 0)

    @rule(begin=st.floats(-0.1, 1.1), length=st.sampled_from([0.01, 1, 7, 60, 600, 100_000]))
    def ask(self, begin, length):
        since = self.began + begin * (self.latest - self.began)
        self.check(since, since + length)

    @rule(which=st.floats(0, 0.999), before=st.sampled_from([0, 0.001, 0.5]), length=st.sampled_from([0.001, 1, 30]))
    def ask_about_a_byte(self, which, before, length):
        if self.came and (time := self.came[int(which * len(self.came))]) is not None:
            self.check(time - before, time - before + length)

    def check(self, since, until):
        span, oldest = self.line.span(since, until), self.line.transcript.start
        inside = [
            at for at, time in enumerate(self.came) if time is not None and since <= time < until and at >= oldest
        ]
        assert 0 <= span.begin <= span.end <= len(self.came)
        if inside:
            assert span.begin <= inside[0]
            assert inside[-1] < span.end
        served = [time for time in self.came[span.begin : span.end] if time is not None]
        if served and not self.was_set_back:
            assert (span.since or 0) <= min(served) + 1
            assert max(served) <= span.until + 1
        if served and not self.was_set_back and not self.was_killed:
            early = [time for time in served if time < since]
            late = [time for time in served if time >= until]
            assert not early or max(early) - min(early) <= FIT
            assert not late or max(late) - min(late) <= FIT

    @invariant()
    def nothing_is_wrong(self):
        if hasattr(self, "path"):
            assert self.line.transcript.trouble is None
            assert self.line.transcript.head == len(self.came)


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=80, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)


# ---------------------------------------------------------------------------------------------- the pure parts


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(0, (3 << 48) | 30))
def test_stamps_never_go_back_and_lose_nothing(times, last):
    knots = array("Q", (one for at, time in enumerate(times) for one in (at, time)))
    found = stamped(knots, last)
    stamps = list(found[1::2])
    assert [last, *stamps] == sorted([last, *stamps])
    assert list(found[::2]) == list(range(len(times)))
    assert [stamp & ((1 << 48) - 1) for stamp in stamps] == times
    runs = [run.knots() for run in rounds(stamped(knots))]
    assert [one for run in runs for one in run] == list(knots)
    assert all(list(run[1::2]) == sorted(run[1::2]) for run in runs)
    assert len(runs) == (sum(a > b for a, b in pairwise(times)) + 1 if times else 0)


def test_a_clock_that_is_set_back_all_the_time():
    knots = array("Q", (one for at in range(70_000) for one in (at, 2 - at % 2)))
    assert list(stamped(knots)[1::2]) == sorted(stamped(knots)[1::2])


def test_knots_that_nobody_takes_are_thinned_out(monkeypatch):
    monkeypatch.setattr(times_module, "MOST", 10)
    times, now, offset = Times(), 1000.0, 0
    for _ in range(1000):
        times.came(offset, now)
        now, offset = now + SPACING, offset + LITTLE
    knots = times.known(offset, now)
    assert len(knots) <= 22
    assert list(knots[::2]) == sorted(knots[::2])
    assert list(knots[-2:]) == [offset, int((1000 + 999 + SPACING) * 1000)]


def test_a_clock_before_its_time():
    times = Times()
    times.came(0, -5.0)
    times.came(1, 1e30)
    assert list(times.known(2, math.inf)) == [0, 1, 1, 1, 1, (1 << 48) - 1, 2, (1 << 48) - 1]


def test_what_is_in_a_side_file_as_documented(tmp_path):
    line = Line(tmp_path)
    began = int(line.now)
    line.say(b"x" * 300)
    line.wait(5)
    line.say(b"y" * 300)
    line.daemon.wall.now -= 1000
    line.say(b"z")
    line.wait(0.25)
    line.daemon.end()
    [file] = line.side_files
    assert file.name == "x1.00000000000000000000"
    header, *records = (file.read_bytes()[at : at + 16] for at in range(0, len(file.read_bytes()), 16))
    assert header == b"consoled-times 1"
    back = 1 << 48
    assert [struct.unpack(">QQ", record) for record in records] == [
        (0, began * 1000),
        (300, (began + 1) * 1000),
        (300, (began + 5) * 1000),
        (600, (began + 6) * 1000),
        (600, back | (began - 995) * 1000),
        (601, back | (began - 995) * 1000 + 250),
    ]


def test_death_in_the_middle_of_saving(tmp_path):
    for death in range(1, 12):
        path = tmp_path / str(death)
        line = Line(path)
        began = line.now
        line.say(b"one\n")
        line.wait(LEAD)
        line.say(b"two\n")
        line.daemon.disk.die_at(death)
        try:
            line.wait(LEAD)
            line.daemon.disk.die()
        except Died:
            pass
        line = Line(path, began + 100)
        line.say(b"three\n")
        line.wait(LEAD)
        assert line.said(began + 100, began + 110) in (b"three\n", b"two\nthree\n")
        assert line.said(began, began + 1) == b"one\n"
        assert line.said(began + LEAD, began + LEAD + 1) in (b"two\n", b"two\nthree\n")
        line.daemon.end()
