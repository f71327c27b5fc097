"""The sidecar of one console's files: what the bytes alone do not say.

`DIRECTORY/.index/NAME` is a text file of one record a line, appended to, and now and then replaced by a shorter one:

    consoled-index 1          the format
    start OFFSET TIME         the active file begins at this offset; its first byte came at about this time
    rotate START NEXT         about to move the active file, which begins at START, aside; the next begins at NEXT
    mark FROM TO              these bytes are lines of the daemon's own; written before the bytes are
    lost FROM TO              these bytes came and could not be kept
    head OFFSET               the stream is at least this long, whatever the files say

Offsets are decimal.  `segments` calls it, in the writer's thread, before it does what a record announces.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field, replace

from consoled.transcript.disk import Disk, read_whole, write_whole
from consoled.transcript.names import SPARE

Range = tuple[int, int]

_HEADER = "consoled-index 1"
_ROOMY = 64 * 1024


@dataclass(frozen=True, slots=True)
class State:
    """What an index says; the defaults are what a missing one says."""

    start: int | None = None
    born: float = 0.0
    rotating: Range | None = None
    head: int = 0
    marks: tuple[Range, ...] = ()
    lost: tuple[Range, ...] = ()
    intact: bool = field(default=False, compare=False)
    """Whether every line was understood; if not, nothing may be appended before the file is replaced."""

    def between(self, oldest: int, end: int) -> State:
        """Without the ranges that ended before `oldest` or are beyond `end`."""
        return replace(self, marks=_clip(self.marks, oldest, end), lost=_clip(self.lost, oldest, end))


def _clip(ranges: tuple[Range, ...], oldest: int, end: int) -> tuple[Range, ...]:
    return tuple((start, min(stop, end)) for start, stop in ranges if stop > oldest and start < end)


def _join(ranges: list[Range], start: int, stop: int) -> bool:
    """Add a range at the end of ordered ones; False if it does not belong there."""
    if stop <= start or (ranges and start < ranges[-1][1]):
        return False
    if ranges and start == ranges[-1][1]:
        ranges[-1] = (ranges[-1][0], stop)
    else:
        ranges.append((start, stop))
    return True


def parse(text: bytes) -> State:
    """Understand an index.  What is torn or damaged is left out.  Raises `ValueError` for a format to come."""
    lines = text.decode("ascii", "replace").split("\n")
    if lines[0].startswith("consoled-index ") and lines[0] != _HEADER and len(lines) > 1:
        raise ValueError(f"this index is of another version of consoled: {lines[0][:40]!r}")
    # What follows the last LF is empty or a line that was being written when the process died.
    intact = lines[0] == _HEADER and not lines.pop()
    start: int | None = None
    born, head = 0.0, 0
    rotating: Range | None = None
    ranges: dict[str, list[Range]] = {"mark": [], "lost": []}
    for line in lines[1:] if lines[:1] == [_HEADER] else ():
        try:
            word, *texts = line.split(" ")
            numbers = tuple(map(int, texts))
            if word == "start":
                start, at = numbers
                born, rotating = float(at), None
            elif word == "rotate":
                old, new = numbers
                rotating = old, new
            elif word in ranges:
                left, right = numbers
                intact &= _join(ranges[word], left, right)
            elif word == "head":
                head = max(head, *numbers)
            else:
                intact = False
        except (ValueError, TypeError):
            intact = False
    return State(start, born, rotating, head, tuple(ranges["mark"]), tuple(ranges["lost"]), intact)


def render(state: State) -> bytes:
    """The shortest index that says `state`."""
    lines = [_HEADER]
    if state.start is not None:
        lines.append(f"start {state.start} {int(state.born)}")
    if state.rotating is not None:
        lines.append("rotate {} {}".format(*state.rotating))
    lines += [f"mark {start} {stop}" for start, stop in state.marks]
    lines += [f"lost {start} {stop}" for start, stop in state.lost]
    if state.head:
        lines.append(f"head {state.head}")
    return "\n".join((*lines, "")).encode("ascii")


class Index:
    """One console's sidecar.  No descriptor is kept, nor a path: records are rare and consoles are many."""

    # There are as many as consoles: slots take the least memory.
    __slots__ = (
        "_beginning",
        "_directory",
        "_disk",
        "_least",
        "_name",
        "_size",
        "_torn",
        "is_missing",
    )

    def __init__(self, disk: Disk, directory: str, name: str) -> None:
        self._disk = disk
        self._directory = directory
        self._name = name
        self.is_missing = False
        """Whether there is none yet."""
        self._beginning = b""
        """What is to stand in it before the first record."""
        self._torn = False
        self._size = 0
        self._least = 0

    @property
    def _path(self) -> str:
        return f"{self._directory}/{self._name}"

    def load(self) -> State:
        """What the file says; a missing one says nothing.  Raises `OSError`."""
        try:
            text = read_whole(self._disk, self._path)
        except FileNotFoundError:
            self.is_missing = True
            return State()
        self.is_missing = False
        self._size, self._torn = len(text), False
        try:
            return parse(text)
        except ValueError as error:
            raise OSError(errno.EINVAL, str(error), self._path) from None

    def begin(self, state: State) -> None:
        """Have `state` written together with the first records: until then a missing index says as much."""
        self._beginning = render(state)

    def replace(self, state: State) -> None:
        """Put a whole new index in the place of the old one, at once."""
        text, spare = render(state), f"{self._directory}/{SPARE}{self._name}"
        fd = self._disk.open(spare, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            write_whole(self._disk, fd, text)
        finally:
            self._disk.close(fd)
        self._disk.rename(spare, self._path)
        self._size = self._least = len(text)
        self.is_missing = self._torn = False
        self._beginning = b""

    def append(self, *records: str) -> None:
        """Add records.  Raises `OSError`, `FileNotFoundError` when the index was taken away."""
        if self._torn:
            if (state := self.load()).start is None:
                raise FileNotFoundError(errno.ENOENT, "the index is damaged", self._path)
            self.replace(state)
        text = self._beginning + "".join(f"{record}\n" for record in records).encode("ascii")
        fd = self._disk.open(self._path, os.O_WRONLY | os.O_APPEND | (os.O_CREAT if self._beginning else 0))
        try:
            self._torn = True  # until it is known to be whole: a line that is half there must not be continued
            write_whole(self._disk, fd, text)
        finally:
            self._disk.close(fd)
        self.is_missing = self._torn = False
        self._beginning = b""
        self._size += len(text)

    def prune(self, oldest: int, end: int) -> None:
        """Shorten the file by what is about offsets before `oldest`, if that is worth it and can be done."""
        if self._size > _ROOMY + 2 * self._least:
            try:
                self.replace(self.load().between(oldest, end))
            except OSError:
                self._least = self._size  # the long one is as good; try again when it has grown as much again
