"""The directory as a whole: possession, opening, health, retention, and the real threads."""

import errno
import os
import shutil
import subprocess
import sys
import textwrap
import threading

import msgspec
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from consoled.transcript.archive import Archive
from consoled.transcript.directory import DirectoryInUse
from consoled.transcript.settings import TranscriptSettings
from consoled.units import Duration, FilePath, Size, units

from .fakes import Daemon, result_of


def test_a_second_daemon_is_refused(tmp_path):
    first, second = Daemon(tmp_path), Daemon(tmp_path)
    first.start()
    with pytest.raises(DirectoryInUse, match="another consoled is writing its transcripts here"):
        second.start()
    first.end()
    third = Daemon(tmp_path)
    third.start()
    third.end()


def test_names(tmp_path):
    daemon = Daemon(tmp_path)
    daemon.start()
    with pytest.raises(ValueError, match="no slash"):
        daemon.archive.open("../x")
    daemon.open("x1")
    with pytest.raises(ValueError, match="open already"):
        daemon.archive.open("x1")
    daemon.end()


def test_thousands_are_opened_in_batches_that_nobody_waits_for(tmp_path):
    daemon = Daemon(tmp_path)
    daemon.start()
    daemon.writer.patience.clear()
    opened = [daemon.archive.open(f"n{n}") for n in range(500)]
    daemon.writer.held = True
    daemon.turn()
    assert daemon.writer.patience == [0]
    daemon.writer.release()
    for _ in range(10):
        daemon.turn()
    assert {result_of(each).head for each in opened} == {0}
    assert set(daemon.writer.patience) == {0}
    daemon.end()


def test_a_directory_that_cannot_be_made_is_no_reason_not_to_start(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    daemon = Daemon(tmp_path / "file" / "d")
    daemon.start()
    transcript = daemon.open(on_loss=lambda count: None)
    assert "Not a directory" in transcript.trouble
    assert (daemon.archive.troubled, transcript.head) == (1, 0)
    assert daemon.archive.unready == "The directory of the transcripts cannot be written to", "and not only at upkeep"
    transcript.append(b"<started>\n", own=True)
    transcript.append(b"early words")
    daemon.clock.advance(5)
    assert result_of(transcript.read(0, 99)) == (0, b"<started>\nearly words")
    (tmp_path / "file").unlink()
    daemon.clock.advance(5)
    daemon.turn()
    assert transcript.trouble is None
    assert daemon.archive.unready is None
    assert (tmp_path / "file/d/console.x1").read_bytes() == b"<started>\nearly words"
    assert result_of(transcript.read(0, 99)) == (0, b"<started>\nearly words")
    daemon.end()


def test_files_that_could_not_be_read_at_the_start_are_gone_on_with(tmp_path):
    """Until the next start our offsets are our own; on disk everything is one stream."""
    daemon = Daemon(tmp_path)
    daemon.start()
    daemon.open().append(b"last week\n")
    daemon.turn()
    daemon.end()
    daemon = Daemon(tmp_path)
    daemon.disk.faults["open"] = OSError(errno.EACCES, os.strerror(errno.EACCES))
    daemon.start()
    transcript = daemon.open()
    transcript.append(b"today\n", own=True)
    daemon.turn()
    daemon.disk.faults.clear()
    daemon.clock.advance(5)
    daemon.turn()
    assert (transcript.start, transcript.head, list(transcript.marks)) == (0, 6, [(0, 6)])
    assert result_of(transcript.read(0, 99)) == (0, b"today\n")
    assert result_of(transcript.line_start(6, 5)) == 0
    daemon.end()
    daemon = Daemon(tmp_path)
    daemon.start()
    transcript = daemon.open()
    assert result_of(transcript.read(0, 99)) == (0, b"last week\ntoday\n")
    assert list(transcript.marks) == [(10, 16)]
    daemon.end()


def test_a_disk_that_hangs_at_the_start_delays_it_by_ten_seconds_at_most(tmp_path):
    daemon = Daemon(tmp_path)
    daemon.open_before = Daemon(tmp_path)
    daemon.open_before.start()
    daemon.open_before.open().append(b"before\n")
    daemon.open_before.turn()
    daemon.open_before.end()
    daemon.writer.held = True
    started, opened = daemon.archive.start(), daemon.archive.open("x1")
    daemon.clock.advance(9.9)
    assert not started.called
    daemon.clock.advance(0.2)
    assert result_of(started) is None
    transcript = result_of(opened)
    assert "no answer from the disk" in transcript.trouble
    assert "no answer from the disk" in result_of(daemon.archive.open("x2")).trouble, "and the next one does not wait"
    transcript.append(b"after\n")
    daemon.writer.release()
    daemon.turn()
    assert transcript.trouble is None
    assert result_of(transcript.read(0, 9)) == (0, b"after\n")
    assert (tmp_path / "console.x1").read_bytes() == b"before\nafter\n"
    daemon.end()


def test_one_budget_for_the_directory_counts_consoles_that_are_no_more(tmp_path):
    daemon = Daemon(tmp_path, max_size=4096)
    daemon.start()
    for name, lines in (("gone", 6), ("loud", 4), ("quiet", 2)):
        transcript = daemon.open(name)
        for _ in range(lines):
            transcript.append(b"x" * 4095 + b"\n")
            daemon.turn()
    daemon.end()
    (tmp_path / "console.loud.1").write_bytes(b"z" * 100_000)  # logrotate's: not ours to count or remove
    (tmp_path / "other").write_bytes(b"z" * 100_000)
    times = sum(file.stat().st_size for file in (tmp_path / ".times").iterdir())
    assert 0 < times < 4096
    daemon = Daemon(tmp_path, max_size=4096, max_total=7 * 4096 + times)
    daemon.start()
    loud, quiet = daemon.open("loud"), daemon.open("quiet")
    daemon.clock.advance(3)
    sizes = {name: len(list(tmp_path.glob(f"console.{name}.0*"))) for name in ("gone", "loud", "quiet")}
    assert sizes == {"gone": 1, "loud": 2, "quiet": 1}
    assert (tmp_path / "console.loud.1").exists()
    assert loud.start == 4096
    assert quiet.start == 0
    daemon.end()


def test_closed_segments_are_compressed_soon_after_a_rotation(tmp_path):
    daemon = Daemon(tmp_path, max_size=4096, compress=True)
    daemon.start()
    transcript = daemon.open()
    daemon.clock.advance(5)
    for _ in range(3):
        transcript.append(b"x" * 4095 + b"\n")
        daemon.turn()
    daemon.clock.advance(3)
    assert sorted(file.name for file in tmp_path.glob("console.x1.*")) == [
        "console.x1.00000000000000000000.gz",
        "console.x1.00000000000000004096.gz",
    ]
    assert result_of(transcript.read(4096, 9999)) == (4096, b"x" * 4095 + b"\n")
    daemon.end()
    daemon = Daemon(tmp_path, max_size=4096)
    daemon.start()
    assert result_of(daemon.open().read(0, 9999)) == (0, b"x" * 4095 + b"\n")
    daemon.end()


def test_both_forms_of_a_segment_are_resolved(tmp_path):
    daemon = Daemon(tmp_path, max_size=4096)
    daemon.start()
    daemon.open().append(b"x" * 5000)
    daemon.turn()
    daemon.end()
    (tmp_path / "console.x1.00000000000000000000.gz").write_bytes(b"half")
    (tmp_path / ".index/.x1.00000000000000000000.gz").write_bytes(b"a quarter")
    daemon = Daemon(tmp_path, max_size=4096)
    daemon.start()
    assert result_of(daemon.open().read(0, 9999)) == (0, b"x" * 4096)
    assert not list(tmp_path.glob("*.gz"))
    assert sorted(file.name for file in (tmp_path / ".index").iterdir()) == [".lock", "x1"]
    daemon.end()


def test_upkeep_that_takes_its_time_delays_nobody_and_ends_with_the_daemon(tmp_path):
    daemon = Daemon(tmp_path, max_size=4096, compress=True)
    daemon.start()
    transcript = daemon.open()
    daemon.keeper.held = True
    daemon.clock.advance(3)
    transcript.append(b"x" * 5000)
    daemon.turn()
    assert len((tmp_path / "console.x1").read_bytes()) == 5000 - 4096
    daemon.end()
    daemon.keeper.release()
    assert not list(tmp_path.glob("*.gz"))
    assert not daemon.clock.getDelayedCalls()


def test_the_same_trouble_of_many_is_logged_once(tmp_path):
    from twisted.logger import globalLogPublisher

    events = []

    def observe(event):
        if event["log_namespace"].startswith("consoled.transcript.desk"):
            events.append(event["log_format"])

    daemon = Daemon(tmp_path)
    daemon.start()
    transcripts = [daemon.open(f"n{n}") for n in range(10)]
    globalLogPublisher.addObserver(observe)
    try:
        daemon.disk.faults["write"] = OSError(errno.ENOSPC, "full")
        for _ in range(3):
            for transcript in transcripts:
                transcript.append(b"data")
            daemon.clock.advance(5)
        assert (len(events), daemon.archive.troubled) == (1, 10)
        daemon.disk.faults.clear()
        daemon.clock.advance(5)
        daemon.turn()
    finally:
        globalLogPublisher.removeObserver(observe)
    assert (len(events), daemon.archive.trouble) == (2, None)
    daemon.end()


def test_settings_are_checked():
    def parse(text):
        return msgspec.toml.decode(text, type=TranscriptSettings, dec_hook=units("/etc"))

    settings = parse('directory = "/x"\nmax_size = "1 MiB"\nkeep_for = "7d"\nmax_total = "20 GiB"')
    assert (settings.max_size, settings.keep_for) == (1 << 20, 7 * 86400)
    for bad in ('directory = ""', 'directory = "/x"\nmax_size = 7', 'directory = "/x"\nkeep = -1',
                'directory = "/x"\nunknown = 1'):  # fmt: skip
        with pytest.raises(msgspec.ValidationError):
            parse(bad)
    assert isinstance(settings.max_unwritten, Size)
    assert isinstance(settings.max_age, Duration)


# ------------------------------------------------------------------------------------------------ real threads


def later(seconds):
    done = Deferred()
    reactor.callLater(seconds, done.callback, None)
    return done


@pytest_twisted.inlineCallbacks
def test_with_the_reactor_and_real_threads(tmp_path):
    archive = Archive.in_reactor(TranscriptSettings(directory=FilePath(tmp_path), max_size=Size(8192)), reactor)
    yield archive.start()
    transcripts = []
    for n in range(20):
        transcripts.append((yield archive.open(f"n{n}")))
    stream = b""
    for n in range(200):
        data = b"line %d\n" % n * 20
        stream += data
        for transcript in transcripts:
            transcript.append(data)
        yield later(0)
    for transcript in transcripts:
        at, found = transcript.start, b""
        while at < transcript.head:
            at, data = yield transcript.read(at, 5000)
            found += data
            at += len(data)
        assert found == stream
        start = yield transcript.line_start(transcript.head, 3)
        assert stream[start:] == b"line 199\n" * 3
    yield archive.close()
    for n in range(20):
        files = [*sorted(tmp_path.glob(f"console.n{n}.*")), tmp_path / f"console.n{n}"]
        assert b"".join(file.read_bytes() for file in files) == stream


@pytest_twisted.inlineCallbacks
def test_a_disk_that_hangs_for_real_stops_neither_the_reactor_nor_the_end(tmp_path):
    archive = Archive.in_reactor(TranscriptSettings(directory=FilePath(tmp_path)), reactor)
    yield archive.start()
    transcript = yield archive.open("x1")
    thaw, write = threading.Event(), archive._directory.disk.write

    def frozen(fd, data):
        thaw.wait()
        return write(fd, data)

    archive._directory.disk.write = frozen
    try:
        transcript.append(b"frozen")
        yield later(0)
        transcript.append(b" words")
        yield later(0)  # the reactor turns
        found = yield transcript.read(0, 99)
        assert found == (0, b"frozen words")
        yield archive.close()
    finally:
        thaw.set()
    yield transcript.gone
    assert (tmp_path / "console.x1").read_bytes() == b"frozen words"


def test_kill_nine_right_after_the_turn(tmp_path):
    """What a client has been sent is in the file: the bytes go to a pipe as they would to a client."""
    program = textwrap.dedent("""
        import os, signal, sys
        from twisted.internet import reactor
        from consoled.transcript.archive import Archive
        from consoled.transcript.settings import TranscriptSettings

        archive = Archive.in_reactor(TranscriptSettings(directory=sys.argv[1]), reactor)

        def opened(transcript):
            def speak(n=0):
                data = b"line %d\\n" % n
                transcript.append(data)
                # Twisted's transports write when the reactor next looks at sockets: after all due calls.
                reactor.callLater(0, reactor.callLater, 0, seen, data, n)
            def seen(data, n):
                os.write(1, data)
                if n == 50:
                    os.kill(os.getpid(), signal.SIGKILL)
                speak(n + 1)
            speak()

        archive.start().addCallback(lambda _: archive.open("x1")).addCallback(opened)
        reactor.run()
    """)
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, timeout=60)
    assert done.returncode == -9
    assert done.stdout.count(b"\n") == 51
    assert (tmp_path / "console.x1").read_bytes().startswith(done.stdout)


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 256 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"mounting a tmpfs is not permitted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_real_full_disk_fills_up_and_is_emptied_again(small_disk):
    daemon = Daemon(small_disk, max_size=64 * 1024)
    daemon.start()
    transcript = daemon.open()
    stream = b""
    while transcript.trouble is None:
        data = b"%06d " % len(stream) * 1000
        transcript.append(data)
        stream += data
        daemon.turn()
    assert "No space left on device" in transcript.trouble
    transcript.append(b"the last words\n", own=True)
    stream += b"the last words\n"
    sorted(small_disk.glob("console.x1.0*"))[0].unlink()
    daemon.clock.advance(5)
    daemon.turn()
    assert transcript.trouble is None
    files = [*sorted(small_disk.glob("console.x1.0*")), small_disk / "console.x1"]
    data = b"".join(file.read_bytes() for file in files)
    assert data == stream[-len(data) :]
    at, data = result_of(transcript.read(0, 1 << 20))
    assert data == stream[at : at + len(data)]
    assert at > 0
    daemon.end()


@pytest.mark.parametrize("place", [".times", ".index", "."])
def test_a_directory_that_somebody_removed_is_made_again_when_files_are_opened(tmp_path, place):
    daemon = Daemon(tmp_path / "d")
    daemon.start()
    transcript = daemon.open()
    shutil.rmtree(tmp_path / "d" / place)
    transcript.reopen()
    daemon.turn()
    assert (tmp_path / "d" / place).is_dir()
    assert transcript.trouble is None
    daemon.end()
