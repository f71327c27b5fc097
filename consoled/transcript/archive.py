"""The archive: all transcripts of the daemon, in one directory.

`tap` makes one (`Archive.in_reactor`), starts it before the hub and closes it after; the hub opens a transcript for
each console; SIGUSR1 calls `reopen`; the health pages ask `trouble`, `troubled` and `lost`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from consoled.core.seams import Clock, Timer
from consoled.transcript.desk import Desk
from consoled.transcript.directory import Directory, DirectoryInUse
from consoled.transcript.disk import Disk
from consoled.transcript.reading import Reader, Unpacker
from consoled.transcript.scribe import APART, Scribe
from consoled.transcript.segments import Files
from consoled.transcript.settings import TranscriptSettings
from consoled.transcript.threads import DiskThread, InThread, Readers, Worker
from consoled.transcript.transcript import NO_ANSWER, Transcript
from consoled.transcript.upkeep import Upkeep

log = Logger()

UPKEEP = 60.0
"""The pause between two passes of upkeep."""
SOON = 2.0
"""The pause between a rotation and the pass of upkeep that follows it."""
OPENING = 10.0
"""How long the disk may make no progress while transcripts are opened before they begin without it."""


class Archive:
    """All transcripts.  In the reactor's thread, as is everything that it calls back."""

    def __init__(
        self,
        settings: TranscriptSettings,
        clock: Clock,
        writer: Worker,
        keeper: Worker,
        in_thread: InThread,
        disk: Disk | None = None,
        wall: Callable[[], float] = time.time,
        pressed: Callable[[bool], None] = lambda is_pressed: None,
    ) -> None:
        """`pressed` hears when the disk cannot keep up and half of the memory for that is taken, and when that ends."""
        disk = disk or Disk()
        self._settings = settings
        self._clock = clock
        self._wall = wall
        self._writer = writer
        self._keeper = keeper
        self._directory = Directory(disk, settings.directory.rstrip("/") or "/")
        self._upkeep = Upkeep(self._directory, settings, wall)
        self._unpacker = Unpacker(clock.seconds)
        self._scribe = Scribe(clock, writer, bound=settings.max_unwritten_total // 2, pressed=pressed)
        self._desk = Desk(clock, wall, self._scribe, Reader(disk, self._unpacker), in_thread,
                          settings.max_unwritten, settings.max_unwritten_total)  # fmt: skip
        self._desk.changed = self._look
        self._transcripts: dict[str, Transcript] = {}
        self._opening: dict[Transcript, None] = {}
        self._stuck: Timer | None = None
        self._next_upkeep: Timer | None = None
        self._upkeep_due = 0.0
        self._is_shut = False
        """Whether the directory could not be written to when it was last looked at."""
        self._ended: list[Callable[[], None]] = []

    @classmethod
    def in_reactor(
        cls, settings: TranscriptSettings, reactor: Any, pressed: Callable[[bool], None] = lambda is_pressed: None
    ) -> Archive:
        """An archive with threads of its own: one writes, one keeps house, a few read."""
        readers = Readers(4, "transcript-reader", reactor.callFromThread)
        archive = cls(
            settings,
            reactor,
            DiskThread("transcript-writer", reactor.callFromThread),
            DiskThread("transcript-upkeep", reactor.callFromThread),
            readers,
            pressed=pressed,
        )
        archive._ended.append(readers.stop)
        return archive

    # -------------------------------------------------------------------------------------------------- the life

    def start(self) -> Deferred[None]:
        """Take possession of the directory.  Before anything else.

        Fails with `DirectoryInUse` when another daemon has it.  A directory that cannot be made or read is no reason
        not to start, and neither is a disk that gives no answer: then it fires all the same, within ten seconds.
        """
        taking = _Possession(self._directory)
        self._scribe.ask_opening(taking)
        timer = self._clock.callLater(OPENING, taking.give_up)
        self._arrange_upkeep(SOON)

        def taken(result: Any) -> Any:
            if timer.active():
                timer.cancel()
            return result

        return taking.done.addBoth(taken)

    def open(
        self,
        name: str,
        on_loss: Callable[[int], None] | None = None,
        on_written: Callable[[], None] | None = None,
    ) -> Deferred[Transcript]:
        """The transcript of the console `name`.

        Fires when its files have been read and `head` is known.  If they cannot be, it fires all the same, at once or
        after ten seconds in which the disk did nothing, with a transcript that is in `trouble` and begins at 0: it
        takes bytes within its bounds, and goes on behind what the files hold as soon as they can be read.  What they
        held before is then out of reach until the daemon is started again.

        `on_written()` is called after each turn in which `append` has said that it would be.
        `on_loss(count)` is called when `count` bytes could not be kept and the stream goes on: what it appends comes
        right after the gap.  Raises `ValueError` for an impossible name and for one that is open.
        """
        if name in self._transcripts:
            last = self._transcripts[name]
            if not last.closing:
                raise ValueError(f"the transcript of {name} is open already")
            again: Deferred[Transcript] = Deferred()
            last.gone.addCallback(lambda _: self.open(name, on_loss, on_written).chainDeferred(again))
            return again
        settings = self._settings
        files = Files(self._directory, name, settings.max_size, settings.max_age, self._wall)
        transcript = Transcript(self._desk, files, on_loss, on_written, self._keep_soon)
        self._transcripts[name] = transcript
        self._opening[transcript] = None
        self._watch_openings()
        transcript.gone.addCallback(lambda _: self._transcripts.pop(name))
        if self._desk.troubled.get(NO_ANSWER):
            transcript.give_up_opening()  # the disk had its time when others were opened
        return transcript.opened.addCallback(self._opened)

    def renew(self, settings: TranscriptSettings) -> None:
        """Go on by other settings, all but the directory."""
        self._settings = self._upkeep.settings = settings
        self._desk.limit, self._desk.total = settings.max_unwritten, settings.max_unwritten_total
        self._scribe.bound = settings.max_unwritten_total // 2
        for transcript in self._transcripts.values():
            transcript.files.max_size, transcript.files.max_age = settings.max_size, settings.max_age

    def reopen(self) -> None:
        """Close and open every active file by its path: logrotate has moved them away."""
        for transcript in self._transcripts.values():
            transcript.reopen()

    def close(self) -> Deferred[None]:
        """Close all transcripts and end the threads.  Fires within three seconds even if the disk hangs."""
        self._upkeep.stopping = True
        self._desk.almanac.stop()
        for timer in (self._next_upkeep, self._stuck):
            if timer is not None and timer.active():
                timer.cancel()
        closing = gatherResults([transcript.close() for transcript in list(self._transcripts.values())])

        def closed(_: object) -> None:
            if not self._scribe.busy:
                self._directory.close()
            self._scribe.stop()
            self._keeper.stop()
            self._unpacker.sweep(0)
            for end in self._ended:
                end()

        return closing.addCallback(closed)

    # -------------------------------------------------------------------------------------------------- the health

    @property
    def lost(self) -> int:
        """How many bytes never reached the disk since the start, of all consoles together."""
        return self._desk.lost

    @property
    def unready(self) -> str | None:
        """Why hardly anything can be written, for those who ask whether to come; None if it can.  Names no path."""
        if self._scribe.hung:
            return "The disk gives no answer"
        return "The directory of the transcripts cannot be written to" if self._is_shut else None

    @property
    def unwritten(self) -> int:
        """How many bytes wait for the disk, of all consoles together."""
        return self._scribe.unwritten

    @property
    def troubled(self) -> int:
        """How many consoles' transcripts are not being written."""
        return sum(map(len, self._desk.troubled.values()))

    @property
    def trouble(self) -> str | None:
        """What is the matter with the archive, for people; None while all is well."""
        if self._scribe.hung:
            return f"{self._directory.path}: no answer from the disk for {self._scribe.hung:.0f} s"
        reasons = [f"{reason} (consoles: {len(names)})" for reason, names in self._desk.troubled.items()]
        return f"{self._directory.path}: {'; '.join(reasons)}" if reasons else None

    # ------------------------------------------------------------------------------------------------- our own

    def _opened(self, transcript: Transcript) -> Transcript:
        self._opening.pop(transcript, None)
        self._watch_openings()
        return transcript

    def _watch_openings(self) -> None:
        """Every transcript that is opened proves that the disk is alive."""
        if self._opening:
            if self._stuck is None or not self._stuck.active():
                self._stuck = self._clock.callLater(OPENING, self._give_up_opening)
            else:
                self._stuck.reset(OPENING)
        elif self._stuck is not None and self._stuck.active():
            self._stuck.cancel()

    def _give_up_opening(self) -> None:
        for transcript in list(self._opening):
            transcript.give_up_opening()

    def _keep_soon(self) -> None:
        """A rotation has made work."""
        soon = self._clock.seconds() + SOON
        if self._next_upkeep is not None and self._next_upkeep.active() and soon < self._upkeep_due:
            self._next_upkeep.reset(SOON)
            self._upkeep_due = soon

    def _keep(self) -> None:
        """One pass of upkeep, and an appointment for the next."""
        transcripts = list(self._transcripts.values())
        if self._settings.max_age:
            for number, transcript in enumerate(transcripts):
                transcript.look(number * APART)
        held = [transcript.files for transcript in transcripts]

        def work() -> None:
            self._see()
            self._upkeep.run(held)
            self._unpacker.sweep()

        if self._keeper.run(work, 0, self._kept):
            self._kept()

    def _look(self) -> None:
        """Transcripts cannot be written any more, or can again: see at once whether that is the directory's fault."""
        self._writer.run(self._see, 0, lambda: None)

    def _see(self) -> None:
        """For a thread."""
        self._is_shut = not os.access(self._directory.path, os.W_OK | os.X_OK)

    def _kept(self) -> None:
        for transcript in self._transcripts.values():
            transcript.trim()
        if not self._upkeep.stopping:
            self._arrange_upkeep(UPKEEP)

    def _arrange_upkeep(self, delay: float) -> None:
        self._next_upkeep = self._clock.callLater(delay, self._keep)
        self._upkeep_due = self._clock.seconds() + delay


class _Possession:
    """The errand that takes the directory; also its own author."""

    def __init__(self, directory: Directory) -> None:
        self.done: Deferred[None] = Deferred()
        self._directory = directory
        self._error: Exception | None = None

    def errand(self) -> _Possession:
        return self

    def visited(self) -> None:
        """Nobody waits for it within a turn."""

    def due(self, retry: bool, within: float) -> None:
        """Never asked for."""

    def run(self) -> None:
        try:
            self._directory.prepare()
        except Exception as error:
            self._error = error

    def settle(self) -> None:
        if not self.done.called:
            if isinstance(self._error, DirectoryInUse):
                self.done.errback(self._error)
            else:
                if self._error is not None:
                    log.error("the directory of the transcripts cannot be used: {error}", error=self._error)
                self.done.callback(None)

    def give_up(self) -> None:
        if not self.done.called:
            log.error("{path}: no answer from the disk", path=self._directory.path)
            self.done.callback(None)
