"""A file system that is soon full, where the machine lets us mount one."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MNT_DETACH = 2


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[str]:
    """A tmpfs of `size` ("4m") at `place` as long as this is open; yields why not where that is refused, else ""."""
    place.mkdir(parents=True, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    refused = libc.mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, f"size={size},mode=0750".encode())
    try:
        yield f"no tmpfs can be mounted here: {os.strerror(ctypes.get_errno())}" if refused else ""
    finally:
        if not refused:
            libc.umount2(os.fsencode(place), _MNT_DETACH)
