"""The last good answer of each source, in the state directory: what a restart during an outage begins with.

Read when a keeper is made, written at each new answer that is believed.  `NAME.json` is the answer, `NAME.confirm` the
operator's word that one which is held back is meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from consoled import atomic
from consoled.inventory import Table


class Answer(msgspec.Struct, frozen=True):
    """One good answer."""

    kind: str
    """The source's: the others' entries have another shape."""
    at: float
    """When it was given, in epoch seconds."""
    entries: list[Table]


class Memory:
    """The answers of one source."""

    def __init__(self, directory: Path, source: str) -> None:
        self._path = directory / f"{source}.json"
        self.flag = directory / f"{source}.confirm"
        """The file that an operator makes to confirm what is held back."""

    def read(self, kind: str) -> Answer | None:
        """The answer; None if there is none of this `kind`.  Raises `OSError`, or `ValueError` if it is damaged."""
        try:
            answer = msgspec.json.decode(self._path.read_bytes(), type=Answer)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"{self._path} is damaged: {error}") from None
        return answer if answer.kind == kind else None

    def write(self, kind: str, at: float, entries: Sequence[Table]) -> None:
        """Keep an answer, wholly or not at all.  Raises `OSError`.  May block: call it in a thread."""
        atomic.replace(self._path, msgspec.json.encode(Answer(kind, at, list(entries))))

    @property
    def is_flagged(self) -> bool:
        """Whether the operator has made the flag."""
        return self.flag.exists()

    def take_flag(self) -> bool:
        """Whether the operator has made the flag, which is gone then."""
        try:
            self.flag.unlink()
        except OSError:
            return False
        return True
