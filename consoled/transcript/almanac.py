"""The almanac: carries the times of all streams from memory to their side files.

A transcript asks for that with the first bytes since the last time.  It is done half a minute later, in a reader's
thread, a share of all those who wait each second: a daemon that is killed forgets the times of its last minute, and
nothing else.  What cannot be saved is tried again.
"""

from __future__ import annotations

from typing import Protocol

from twisted.logger import Logger

from consoled.core.seams import Clock, Timer
from consoled.transcript.segments import Files
from consoled.transcript.threads import InThread
from consoled.transcript.time_file import save
from consoled.transcript.times import Knots

log = Logger()

LEAD = 30.0
"""Seconds for which knots gather before they are saved."""
_SHARE = 16
"""All that wait are saved within so many seconds."""

Lot = tuple[Files, Knots]


class Chronicle(Protocol):
    """A transcript, as it is seen from here."""

    files: Files

    def take_times(self) -> Knots | None:
        """What is to be saved."""

    def times_saved(self, well: bool) -> bool:
        """It is, or could not be.  Whether there is more."""


class Almanac:
    """Who waits, and since when.  In the reactor's thread."""

    def __init__(self, clock: Clock, in_thread: InThread) -> None:
        self._clock = clock
        self._in_thread = in_thread
        self._waiting: dict[Chronicle, float] = {}
        self._timer: Timer | None = None
        self._is_saving = self._is_stopped = False
        self._complaint = ""

    def wait(self, chronicle: Chronicle) -> None:
        """Save its times before long.  Once is enough."""
        self._waiting.setdefault(chronicle, self._clock.seconds() + LEAD)
        self._arrange()

    def stop(self) -> None:
        """Save nothing any more: transcripts that are closed do it themselves."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _save(self) -> None:
        self._timer, self._is_saving = None, True
        now, chronicles, lots = self._clock.seconds(), [], []
        for chronicle in list(self._waiting)[: len(self._waiting) // _SHARE + 1]:
            if self._waiting[chronicle] > now:
                break
            del self._waiting[chronicle]
            if (knots := chronicle.take_times()) is not None:
                chronicles.append(chronicle)
                lots.append((chronicle.files, knots))
            elif chronicle.times_saved(True):
                self.wait(chronicle)  # the bytes are not in the files yet

        def saved(complaints: list[str]) -> None:
            self._is_saving = False
            for chronicle, complaint in zip(chronicles, complaints, strict=True):
                if chronicle.times_saved(not complaint):
                    self.wait(chronicle)
            self._complain(next(filter(None, complaints), ""))
            self._arrange()

        if lots:
            self._in_thread(save_all, lots).addCallback(saved)
        else:
            self._is_saving = False
            self._arrange()

    def _arrange(self) -> None:
        if self._waiting and self._timer is None and not (self._is_saving or self._is_stopped):
            due = next(iter(self._waiting.values())) - self._clock.seconds()
            self._timer = self._clock.callLater(max(due, 1.0), self._save)

    def _complain(self, complaint: str) -> None:
        if complaint and not self._complaint:
            log.error("the times of transcripts cannot be saved and are tried again: {complaint}", complaint=complaint)
        elif self._complaint and not complaint:
            log.info("the times of transcripts are saved again")
        self._complaint = complaint


def save_all(lots: list[Lot]) -> list[str]:
    """What is wrong with each; empty if it is saved.  Blocks."""
    complaints = []
    for files, knots in lots:
        try:
            save(files, knots)
            complaints.append("")
        except OSError as error:
            complaints.append(f"{error.filename or files.path}: {error.strerror}")
        except Exception as error:  # a fault of ours, from which the other consoles must not suffer
            log.failure("saving the times of {name}", name=files.name)
            complaints.append(f"{files.path}: {error!r}")
    return complaints
