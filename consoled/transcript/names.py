"""Which files belong to which console.

`console.NAME` is the active file; `console.NAME.OFFSET` and `console.NAME.OFFSET.gz` are closed segments, where OFFSET
has twenty digits, so that a shell lists them in the order of the stream.  Called by everyone here and by `config`.
"""

from __future__ import annotations

import re

PREFIX = "console."
SPARE = "."
_TAIL = re.compile(r"\.\d{20}(\.gz)?\Z", re.ASCII)
_SEGMENT = re.compile(r"console\.(?P<name>.+)\.(?P<start>\d{20})(?P<packed>\.gz)?", re.ASCII | re.DOTALL)


def check_name(name: str) -> str:
    """`name` if a console's files can be called after it.  Raises `ValueError` that says what is wrong with it."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{name!r} cannot be a console's name: it is not text") from None
    if not 0 < length <= 200:
        raise ValueError(f"{name[:40]!r} cannot be a console's name: it must have 1 to 200 bytes")
    if name.startswith(".") or "/" in name or not name.isprintable():
        raise ValueError(f"{name!r} cannot be a console's name: no leading dot, no slash, no control characters")
    if _TAIL.search(name):
        raise ValueError(f"{name!r} cannot be a console's name: it ends like a closed segment of a transcript")
    return name


def segment_name(name: str, start: int, packed: bool = False) -> str:
    """The name of the closed segment that begins at `start`."""
    return f"{PREFIX}{name}.{start:020d}{'.gz' if packed else ''}"


def parse_segment(file: str) -> tuple[str, int, bool] | None:
    """The console, the offset and whether it is compressed, of a segment's file name; None for any other file."""
    found = _SEGMENT.fullmatch(file)
    return (found["name"], int(found["start"]), found["packed"] is not None) if found else None
