"""One visit to a console's files: made and settled by its transcript, run in the writer's thread by the scribe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.logger import Logger

from consoled.transcript.index import Range
from consoled.transcript.segments import Files
from consoled.transcript.time_file import save
from consoled.transcript.times import Knots

log = Logger()


@dataclass(slots=True)
class Visit:
    """What is to be done, and afterwards what became of it."""

    files: Files
    settled: Callable[[Visit], None]
    at: int
    """The offset of the first byte of `data`."""
    head: int
    """The offset up to which the stream has come, whether or not it can be written."""
    data: tuple[bytes, ...] = ()
    own: tuple[Range, ...] = ()
    look: bool = False
    """Whether to check that the path still leads to the file."""
    reopen: bool = False
    """Whether to open what the path leads to now."""
    close: bool = False
    """Whether this is the last visit."""
    times: Knots | None = None
    """What is known of when the bytes came, and in no side file yet; with the last visit."""
    error: Exception | None = None

    def run(self) -> None:
        """Do what can be done; `Files.head` says how far that was."""
        try:
            try:
                if not self.files.known:
                    # What is waiting cannot be numbered before the files have been read: it is for the next visit.
                    self.files.open()
                    self.head = self.files.head
                else:
                    self._write()
            finally:
                if self.close:
                    self._save_times()
                    self.files.close(self.head)
        except OSError as error:
            self.error = error
        except Exception as error:  # a fault of ours, from which the other consoles must not suffer
            log.failure("writing the transcript of {name}", name=self.files.name)
            self.error = error

    def settle(self) -> None:
        self.settled(self)

    def _write(self) -> None:
        if self.reopen:
            self.files.reopen()
        elif self.look:
            self.files.look()
        if self.data:
            self.files.write(self.at, b"".join(self.data), self.own)

    def _save_times(self) -> None:
        if self.times is not None and self.files.known:
            try:
                save(self.files, self.times)
            except OSError as error:
                name = self.files.name
                log.warn("the last times of the transcript of {name} are lost: {error}", name=name, error=error)


@dataclass(slots=True)
class NoVisit:
    """Nothing is to be done any more."""

    def run(self) -> None: ...

    def settle(self) -> None: ...
