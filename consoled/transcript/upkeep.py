"""Keeping house: closed segments are removed and compressed, in a thread of its own.

The archive starts a pass every minute and soon after rotations.  A pass may take as long as it likes: the writer's
thread and the reactor's know nothing of it, and readers find their way round it (see `reading`).
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable

from twisted.logger import Logger

from consoled.transcript.directory import Directory, Segment
from consoled.transcript.disk import write_whole
from consoled.transcript.retention import Holding, surplus
from consoled.transcript.segments import Files
from consoled.transcript.settings import TranscriptSettings

log = Logger()

_BLOCK = 1 << 18


class Upkeep:
    """What is done to closed segments.  `run` is for one thread at a time; `stopping` may be set by any."""

    def __init__(self, directory: Directory, settings: TranscriptSettings, wall: Callable[[], float]) -> None:
        self._directory = directory
        self._disk = directory.disk
        self.settings = settings
        self._wall = wall
        self.stopping = False
        """Whether the rest of a pass is to be left for another time."""
        self._complained = ""

    def run(self, held: Iterable[Files]) -> None:
        """One pass over the files of the consoles that are held and of those that were."""
        held = [files for files in held if files.known]
        complaint = ""
        try:
            self._remove(held)
            if self.settings.compress:
                for files in held:
                    self._compress(files)
        except OSError as error:
            complaint = f"{error.filename or self._directory.path}: {error.strerror}"
        if complaint and complaint != self._complained:
            log.error("old transcripts cannot be removed or compressed: {complaint}", complaint=complaint)
        self._complained = complaint

    def _remove(self, held: list[Files]) -> None:
        by_name = {files.name: files for files in held}
        holdings = [Holding(files.name, files.view.closed, files.size + files.times) for files in held]
        survey = self._directory.survey
        if survey is not None:
            holdings += [Holding(*left) for left in survey.unclaimed() if left[0] not in by_name]
        refused: OSError | None = None
        for name, segment in surplus(holdings, self.settings, self._wall()):
            if self.stopping:
                return
            try:
                self._unlink(name, segment)
                self._directory.forget_times(name, segment.start)
            except OSError as error:
                refused = error
                continue
            if name in by_name:
                by_name[name].forget(segment)
            elif survey is not None:
                survey.forget(name, segment)
        if refused is not None:
            raise refused

    def _unlink(self, name: str, segment: Segment) -> None:
        try:
            self._disk.unlink(self._directory.segment(name, segment.start, segment.packed))
        except FileNotFoundError:
            pass  # then somebody else did

    def _compress(self, files: Files) -> None:
        for segment in files.view.closed:
            if self.stopping:
                return
            if not segment.packed and segment.start < files.view.start:  # not in the middle of its rotation
                try:
                    packed = self._pack(files.name, segment)
                except FileNotFoundError:
                    files.forget(segment)
                    continue
                files.pack(segment, packed)
                self._unlink(files.name, segment)

    def _pack(self, name: str, segment: Segment) -> Segment:
        """Make the compressed form, whole and on the platter before it has its name: the plain one goes next."""
        spare = self._directory.spare(f"{name}.{segment.start:020d}.gz")
        source = self._disk.open(self._directory.segment(name, segment.start), os.O_RDONLY)
        try:
            target = self._disk.open(spare, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                squeeze = zlib.compressobj(wbits=31)
                at = 0
                while block := self._disk.pread(source, _BLOCK, at):
                    write_whole(self._disk, target, squeeze.compress(block))
                    at += len(block)
                write_whole(self._disk, target, squeeze.flush())
                self._disk.sync(target)
                self._disk.set_mtime(target, segment.mtime)
                size = self._disk.fstat(target).st_size
            except OSError:
                self._disk.unlink(spare)
                raise
            finally:
                self._disk.close(target)
        finally:
            self._disk.close(source)
        self._disk.rename(spare, self._directory.segment(name, segment.start, True))
        return Segment(segment.start, size, segment.mtime, True, segment.times)
