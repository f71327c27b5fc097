"""One console's files against a plain byte string: rotations, restarts, intruders, and death at every system call."""

import errno
import gzip
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from consoled.transcript.directory import DirectoryInUse
from consoled.transcript.names import check_name, parse_segment
from consoled.transcript.settings import TranscriptSettings
from consoled.transcript.upkeep import Upkeep

from .fakes import Died, Life


def names(path):
    return sorted(file.name for file in Path(path).iterdir() if file.is_file())


def concatenation(path):
    """All files of the console in the order of the stream, the active one last."""
    parts = []
    for name in sorted(names(path), key=lambda name: (name == "console.x1", name)):
        if name == "console.x1" or parse_segment(name):
            data = (Path(path) / name).read_bytes()
            parts.append(gzip.decompress(data) if name.endswith(".gz") else data)
    return b"".join(parts)


def pack_or_remove(life, path, keep):
    """A pass of upkeep that compresses, and keeps `keep` segments (0: all)."""
    wanted = TranscriptSettings(directory=str(path), compress=not keep, keep=keep)
    Upkeep(life.directory, wanted, lambda: 1000.0).run([life.files])


class Machine(RuleBasedStateMachine):
    """Any interleaving.  The model: every byte that ever was, which of them are gone, and which are marked."""

    @initialize(max_size=st.integers(8, 64))
    def begin(self, max_size):
        self.path = tempfile.mkdtemp(prefix="consoled-")
        self.max_size = max_size
        self.stream = b""
        self.gone = set()
        self.marked = set()
        self.life = Life(self.path, max_size=max_size).open()

    def teardown(self):
        if hasattr(self, "path"):
            if not self.life.disk.dead:
                self.life.disk.die()
            shutil.rmtree(self.path)

    def live_on(self):
        """A new process after the death of the last; nothing that was acknowledged may be missing."""
        least = len(self.stream)
        self.life.disk.die()
        self.life = Life(self.path, max_size=self.max_size).open()
        return least

    def cut_back(self, least, tried):
        """After a death in the middle of a write, some of what was tried is there."""
        head = self.life.files.head
        assert least <= head <= len(tried)
        self.stream = tried[:head]
        self.marked = {at for at in self.marked if at < head}
        self.gone = {at for at in self.gone if at < head}

    @rule(data=st.binary(min_size=1, max_size=100) | st.sampled_from([b"a\n" * 9, b"line\n"]), own=st.booleans(),
          lost=st.sampled_from([0, 0, 0, 5, 70]), death=st.none() | st.integers(1, 30))  # fmt: skip
    def append(self, data, own, lost, death):
        before = len(self.stream)
        tried = self.stream + b"?" * lost + data
        at = before + lost
        self.gone |= set(range(before, at))
        if own:
            self.marked |= set(range(at, at + len(data)))
        self.life.disk.die_at(death)
        try:
            self.life.files.write(at, data, [(at, at + len(data))] if own else [])
            self.stream = tried
            self.life.disk.die_at(None)
        except Died:
            self.cut_back(self.live_on(), tried)

    @rule(death=st.none() | st.integers(1, 25))
    def restart(self, death):
        self.life.disk.die_at(death)
        try:
            self.life.end()
        except Died:
            pass
        self.life.disk.die()
        self.life = Life(self.path, max_size=self.max_size)
        self.life.disk.die_at(death)
        try:
            self.life.open()
            self.life.disk.die_at(None)
        except Died:
            self.life = Life(self.path, max_size=self.max_size).open()
        assert self.life.files.head == len(self.stream)
        found = {at for start, stop in self.life.files.marks_found for at in range(start, stop)}
        oldest = self.life.files.view.oldest
        assert {at for at in found if at >= oldest} == {at for at in self.marked if at >= oldest}

    @rule(death=st.none() | st.integers(1, 6))
    def fail_once(self, death):
        """An error in the middle of a write, a rotation or an opening; the next attempt goes on."""
        at, left = len(self.stream), [death or 0]

        def trouble(*_):
            left[0] -= 1
            if left[0] == 0:
                raise OSError(errno.EIO, "trouble")

        for name in ("open", "rename", "write", "fstat", "stat"):
            self.life.disk.faults[name] = trouble
        data = b"0123456789\n" * 8
        try:
            self.life.files.write(at, data)
        except OSError:
            self.life.disk.faults.clear()
            head = self.life.files.head
            assert at <= head <= at + len(data)
            self.life.files.write(head, data[head - at :])
        self.life.disk.faults.clear()
        self.stream += data

    @rule(death=st.none() | st.integers(1, 40), keep=st.sampled_from([0, 0, 1, 3]))
    def keep_house(self, death, keep):
        self.life.disk.die_at(death)
        try:
            pack_or_remove(self.life, self.path, keep)
            self.life.disk.die_at(None)
        except Died:
            self.live_on()
            assert self.life.files.head == len(self.stream)
        view = self.life.files.view
        if keep:
            self.gone |= set(range(view.oldest))

    @rule(how=st.sampled_from(["moved", "removed", "copytruncated", "replaced", "reopened"]), then=st.booleans())
    def intrude(self, how, then):
        """Somebody does something to the active file; we may write before we look."""
        active, view = Path(self.path, "console.x1"), self.life.files.view
        if how == "moved":
            active.rename(active.with_name("console.x1.1"))
        elif how == "removed":
            active.unlink()
        elif how == "replaced":
            Path(self.path, "new").write_bytes(b"something else entirely")
            Path(self.path, "new").rename(active)
        elif how == "copytruncated":
            os.truncate(active, 0)
        head = len(self.stream)
        if then:
            self.life.files.write(head, b"x\n")
            self.stream += b"x\n"
        after = self.life.files.view.same_active(view)
        self.life.files.look() if how != "reopened" else self.life.files.reopen()
        if how in ("moved", "removed", "replaced"):
            # What was written before we noticed went with the file, unless writing made us notice.
            self.gone |= set(range(view.start, len(self.stream) if after else head))
        elif how == "copytruncated":
            self.gone |= set(range(view.start, head))

    @rule()
    def scribble(self):
        """Somebody appends to the active file: the stream's bytes are found all the same."""
        with Path(self.path, "console.x1").open("ab") as file:
            file.write(b"<scribbled>")
        self.life.files.write(len(self.stream), b"next\n")
        self.stream += b"next\n"

    @invariant()
    def everything_that_is_not_gone_can_be_read(self):
        if not hasattr(self, "path"):
            return
        expected = []
        for at in range(len(self.stream)):
            if at not in self.gone:
                if expected and expected[-1][0] + len(expected[-1][1]) == at:
                    expected[-1][1] += self.stream[at : at + 1]
                else:
                    expected.append([at, self.stream[at : at + 1]])
        assert self.life.pieces() == [tuple(piece) for piece in expected]
        assert concatenation(self.path) == b"".join(piece for _, piece in expected)


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)


def story(life, path, acknowledged, marked):
    """A life with everything in it; `acknowledged` grows by what `write` has taken, `marked` by what is ours of it."""

    def write(data, own=False, lost=0):
        at = len(acknowledged) + lost
        marked.update(range(at, at + len(data)) if own else ())
        life.files.write(at, data, [(at, at + len(data))] if own else [])
        acknowledged.extend(b"?" * lost + data)

    life.open()
    write(b"<hello>\n", own=True)
    for n in range(3):
        write(b"line %d of the first act\n" % n * 2)
    write(b"<gap>\n", own=True, lost=11)
    write(b"y" * 150)
    pack_or_remove(life, path, 0)
    write(b"<again>\n", own=True)
    pack_or_remove(life, path, 3)
    write(b"the end\n")
    life.end()


def test_death_before_every_single_system_call(tmp_path):
    everything, marked = bytearray(), set()
    life = Life(tmp_path / "whole")
    story(life, tmp_path / "whole", everything, marked)
    assert life.disk.calls > 150
    for k in range(1, life.disk.calls + 1):
        path = tmp_path / str(k)
        life, acknowledged = Life(path), bytearray()
        life.disk.die_at(k)
        with pytest.raises(Died):
            story(life, path, acknowledged, set())
        life = Life(path).open()
        head = life.files.head
        assert len(acknowledged) <= head <= len(everything)
        pieces = life.pieces()
        for at, data in pieces:
            assert everything[at : at + len(data)] == data
        assert concatenation(path) == b"".join(data for _, data in pieces)
        found = {at for start, stop in life.files.marks_found for at in range(start, stop)}
        kept = range(life.files.view.oldest, head)
        assert {at for at in found if at in kept} == {at for at in marked if at in kept}
        assert all(at < head for at in found)
        # And life goes on: nothing of the last one is in the way.
        life.files.write(head, b"new life\n")
        assert life.pieces()[-1][1].endswith(b"new life\n")
        assert not [file for file in (path / ".index").iterdir() if file.name not in (".lock", "x1")]
        life.end()
        life = Life(path).open()
        assert life.files.head == head + 9
        life.disk.die()
        shutil.rmtree(path)


def test_an_error_in_every_single_system_call(tmp_path):
    """Instead of dying the call fails; the next attempt goes on where it came to, and nothing is there twice."""
    data = b"0123456789\n" * 20
    life = Life(tmp_path / "count")
    life.disk.most_per_write = 17
    life.open()
    life.files.write(0, data, [(0, 11)])
    calls = life.disk.calls
    for k in range(1, calls + 1):
        path = tmp_path / str(k)
        life = Life(path)
        life.disk.most_per_write = 17
        left = [k]

        def trouble(*_, left=left, k=k):
            left[0] -= 1
            if left[0] == 0:
                raise OSError(errno.ENOSPC if k % 2 else errno.EIO, "trouble")

        life.disk.faults.update(dict.fromkeys(("open", "write", "stat", "fstat", "rename", "lock", "listing"), trouble))
        done = False
        for _ in range(3):
            try:
                if not life.files.known:
                    life.files.open()
                life.files.write(life.files.head, data[life.files.head :], [(0, 11)])
                done = True
                break
            except OSError:
                continue
        assert done
        life.disk.faults.clear()
        assert life.pieces() == [(0, data)]
        life.disk.die()
        again = Life(path).open()
        assert again.files.head == len(data)
        assert again.files.marks_found == ((0, 11),)
        again.disk.die()


def test_the_files_are_named_as_promised_and_for_the_group_only(tmp_path):
    life = Life(tmp_path / "d", max_size=10).open()
    life.files.write(0, b"one\ntwo\nthree\nfour\n")
    assert names(tmp_path / "d") == ["console.x1", "console.x1.00000000000000000000", "console.x1.00000000000000000008"]
    assert (tmp_path / "d" / "console.x1").read_bytes() == b"four\n"
    assert (tmp_path / "d" / "console.x1").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o750


def test_a_cut_comes_after_a_line_where_one_ends_nearby(tmp_path):
    life = Life(tmp_path, max_size=10).open()
    life.files.write(0, b"12345")
    life.files.write(5, b"678901234\nafter")  # no line ends in the room: the next one is near
    life.files.write(20, b"!")
    assert (tmp_path / "console.x1.00000000000000000000").read_bytes() == b"12345678901234\n"
    life.files.write(21, b"z" * 9000)
    assert all(segment.size <= 15 for segment in life.files.view.closed)


def test_rotation_by_age(tmp_path):
    now = [1000.0]
    life = Life(tmp_path, max_size=10**6, max_age=60, wall=lambda: now[0]).open()
    life.files.write(0, b"old\n")
    now[0] += 30
    life.end()
    life = Life(tmp_path, max_size=10**6, max_age=60, wall=lambda: now[0]).open()  # its age is not forgotten
    now[0] += 31
    life.files.look()
    life.files.write(4, b"new\n")
    assert (tmp_path / "console.x1").read_bytes() == b"new\n"
    now[0] += 61
    life.files.write(8, b"newer\n")
    assert (tmp_path / "console.x1").read_bytes() == b"newer\n"
    assert concatenation(tmp_path) == b"old\nnew\nnewer\n"


def test_offsets_go_on_when_all_closed_segments_are_gone(tmp_path):
    life = Life(tmp_path, max_size=10).open()
    life.files.write(0, b"a line\n" * 10)
    life.end()
    for file in tmp_path.glob("console.x1.*"):
        file.unlink()
    life = Life(tmp_path).open()
    assert life.files.head == 70
    assert life.files.view.oldest == 63


@pytest.mark.parametrize("own", [False, True])
def test_a_new_stream_has_its_index_before_its_first_byte(tmp_path, own):
    life = Life(tmp_path, wall=lambda: 1234.0).open()
    index = tmp_path / ".index" / "x1"
    assert not index.exists()

    def look(fd, data):
        if data == b"hello\n":
            assert index.read_text().startswith("consoled-index 1\nstart 0 1234\n")
            assert ("mark 0 6\n" in index.read_text()) == own
            looked.append(True)

    looked = []
    life.disk.faults["write"] = look
    life.files.write(0, b"hello\n", [(0, 6)] if own else [])
    assert looked
    life.disk.die()
    assert Life(tmp_path).open().files.head == 6


def test_the_directory_of_the_indexes_goes(tmp_path):
    life = Life(tmp_path).open()
    life.files.write(0, b"before\n", [(0, 7)])
    shutil.rmtree(tmp_path / ".index")
    life.files.reopen()
    life.files.write(7, b"after\n", [(7, 13)])
    assert concatenation(tmp_path) == b"before\nafter\n"
    with pytest.raises(DirectoryInUse):
        Life(tmp_path).open()
    life.disk.die()
    assert Life(tmp_path).open().files.marks_found[-1] == (7, 13)


@pytest.mark.parametrize("packed", [False, True])
def test_a_lost_index_costs_the_marks_and_nothing_else(tmp_path, packed):
    life = Life(tmp_path, max_size=10).open()
    life.files.write(0, b"a line\n" * 10)
    if packed:
        pack_or_remove(life, tmp_path, 0)
    life.end()
    (tmp_path / ".index" / "x1").unlink()
    life = Life(tmp_path).open()
    assert life.pieces() == [(0, b"a line\n" * 10)]


def test_an_active_file_that_went_while_we_were_away_leaves_a_hole(tmp_path):
    life = Life(tmp_path).open()
    life.files.write(0, b"first\n")
    life.end()
    (tmp_path / "console.x1").rename(tmp_path / "console.x1.1")
    life = Life(tmp_path).open()
    assert life.files.head == 6
    life.files.write(6, b"second\n")
    assert life.pieces() == [(6, b"second\n")]


def test_the_whole_directory_goes(tmp_path):
    life = Life(tmp_path / "a" / "b", max_size=20).open()
    life.files.write(0, b"some lines\n" * 4)
    shutil.rmtree(tmp_path / "a")
    life.files.look()
    life.files.write(44, b"more\n")
    assert (tmp_path / "a" / "b" / "console.x1").read_bytes() == b"more\n"
    assert life.pieces() == [(44, b"more\n")]
    life.end()
    assert Life(tmp_path / "a" / "b").open().files.head == 49


def test_another_directory_with_a_longer_stream_is_mounted_over(tmp_path):
    place, other = tmp_path / "place", tmp_path / "other"
    before = Life(other).open()
    before.files.write(0, b"z" * 100)
    before.end()
    life = Life(place).open()
    life.files.write(0, b"early\n")
    place.rename(tmp_path / "hidden")
    other.rename(place)
    life.files.look()
    assert life.files.head == 6
    life.files.write(6, b"late\n", [(6, 11)])
    assert life.pieces() == [(6, b"late\n")]
    life.end()
    again = Life(place, max_size=200).open()
    assert again.files.head == 105
    assert again.files.marks_found == ((100, 105),)
    assert again.pieces()[-1][1].endswith(b"zzlate\n")


@pytest.mark.parametrize("lost", [0, 5])
def test_a_file_that_is_moved_while_it_is_being_closed_leaves_a_hole_and_no_complaint(tmp_path, lost):
    life = Life(tmp_path, max_size=10).open()
    life.files.write(0, b"ten bytes\n")
    active = tmp_path / "console.x1"

    def move_first(old, new):
        if active.exists():
            active.rename(tmp_path / "console.x1.1")

    life.disk.faults["rename"] = move_first
    life.files.write(10 + lost, b"more\n")
    assert life.pieces() == [(10 + lost, b"more\n")]
    assert (tmp_path / "console.x1.1").read_bytes() == b"ten bytes\n"
    life.end()
    assert Life(tmp_path).open().files.head == 15 + lost


def test_a_stranger_in_the_place_of_the_active_file_is_put_aside(tmp_path):
    life = Life(tmp_path).open()
    life.files.write(0, b"mine\n")
    (tmp_path / "new").write_bytes(b"not ours")
    (tmp_path / "new").rename(tmp_path / "console.x1")
    life.files.look()
    assert (tmp_path / ".stray/x1.00000000000000000005").read_bytes() == b"not ours"
    assert life.pieces() == []


def test_what_a_stranger_appends_is_put_aside(tmp_path):
    life = Life(tmp_path).open()
    for n in range(3):
        life.files.write(n * 5, b"mine\n")
        with (tmp_path / "console.x1").open("ab") as file:
            file.write(b"not ours\n")
    life.files.look()
    assert (tmp_path / ".stray/x1").read_bytes() == b"not ours\n" * 3
    assert (tmp_path / "console.x1").read_bytes() == b"mine\n" * 3


def test_something_that_is_no_file_is_not_written_to(tmp_path):
    os.mkfifo(tmp_path / "console.x1")
    with pytest.raises(OSError, match="not a regular file"):
        Life(tmp_path).open()


def test_what_is_written_already_is_not_written_again(tmp_path):
    life = Life(tmp_path).open()
    life.files.write(0, b"12345")
    with pytest.raises(ValueError, match="written already"):
        life.files.write(3, b"45")


@pytest.mark.parametrize("name", ["", ".x", "a/b", "a\0b", "a\nb", "x" * 201, "x.00000000000000000001",
                                  "x.00000000000000000001.gz", "\udc80"])  # fmt: skip
def test_names_that_files_cannot_have(name):
    with pytest.raises(ValueError, match="cannot be a console's name"):
        check_name(name)


@pytest.mark.parametrize("name", ["x3000c0s1b0n0", "a b", "x.1", "x.0000000000000000001", "ä", "x..y"])
def test_names_that_they_can(name):
    assert check_name(name) == name
