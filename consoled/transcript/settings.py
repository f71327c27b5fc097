"""The `[transcript]` table of the configuration.  `config` reads it, `tap` gives it to the archive."""

from __future__ import annotations

import msgspec

from consoled.units import Duration, FilePath, Size

_MIB = 1 << 20


class TranscriptSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where transcripts are, how they are cut into segments, and how much of them is kept."""

    directory: FilePath
    """Where the files are; the active file of a console is `DIRECTORY/console.NAME`."""
    max_size: Size = Size(16 * _MIB)
    """A file that has grown to this size is closed and a new one begun, after a line's end where there is one near.

    4 KiB or more.
    """
    max_age: Duration = Duration(0)
    """A file whose first byte is this old is closed and a new one begun.  0: never."""
    keep: int = 0
    """How many closed segments each console keeps.  0: any number."""
    keep_for: Duration = Duration(0)
    """How long after its last byte a closed segment is kept.  0: for ever."""
    max_total: Size = Size(20 * 1024 * _MIB)
    """What all files together may take; beyond it the oldest segments of the noisiest console go.  0: no limit."""
    compress: bool = False
    """Whether closed segments are compressed with gzip."""
    max_unwritten: Size = Size(_MIB)
    """How many bytes of one console wait in memory for a slow or failing disk before further ones are lost.

    64 KiB or more.
    """
    max_unwritten_total: Size = Size(64 * _MIB)
    """The same for all consoles together; 64 KiB or more."""

    def __post_init__(self) -> None:
        if not self.directory:
            raise ValueError("directory must not be empty")
        for name, least in (("max_size", 4096), ("max_unwritten", 65536), ("max_unwritten_total", 65536)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least} bytes")
        if self.keep < 0:
            raise ValueError("keep must not be negative")
