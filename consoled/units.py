"""Durations, sizes and paths as people write them in the configuration: `"90s"`, `"20 GiB"`, `"tokens.toml"`.

Called by `config` for every value of these types.  A duration is a `float` of seconds, a size an `int` of
bytes, a path a `str`, so that the rest of the code does sums with them and knows nothing of spelling.
"""

import os
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_NUMBER = r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*"
_DURATION_PART = re.compile(_NUMBER + r"(ms|s|m|h|d)\s*", re.ASCII)
_SIZE = re.compile(_NUMBER + r"([A-Za-z]*)\s*", re.ASCII)


class Duration(float):
    """A span of time in seconds, zero or more."""

    @classmethod
    def parse(cls, value: object) -> "Duration":
        """From a number of seconds or a text such as `"1h 30m"`.  Raises `ValueError` that shows the forms."""
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if not 0 <= value < 1e18:
                raise ValueError(f"{value!r} is not a duration: it must be zero or more, and less than 1e18")
            return cls(value)
        if isinstance(value, str) and value.strip():
            seconds, at = 0.0, 0
            while part := _DURATION_PART.match(value, at):
                seconds += float(part[1]) * _SECONDS[part[2]]
                at = part.end()
            if at == len(value):
                return cls(seconds)
        raise ValueError(
            f'{value!r} is not a duration: write a number of seconds or "500ms", "30s", "5m", "1h 30m", "7d"'
        )


class Size(int):
    """A number of bytes, zero or more."""

    @classmethod
    def parse(cls, value: object) -> "Size":
        """From a number of bytes or a text such as `"5 MiB"`.  Raises `ValueError` that shows the forms."""
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return cls(value)
        if isinstance(value, str):
            found = _SIZE.fullmatch(value)
            if found and found[2].lower() in _BYTES:
                return cls(Fraction(found[1]) * _BYTES[found[2].lower()])
        raise ValueError(f'{value!r} is not a size: write a number of bytes or "64 KiB", "5 MB", "20 GiB"')


class FilePath(str):
    """A path; in a configuration it is relative to that file."""

    __slots__ = ()
    HAS_PATHS = True

    @classmethod
    def parse(cls, value: object, directory: str) -> "FilePath":
        """From a text; a relative one begins at `directory`, an empty one stays so.  Raises `ValueError`."""
        if not isinstance(value, str) or "\0" in value:
            raise ValueError(f"{value!r} is not a path")
        return cls(os.path.join(directory, value) if value else value)  # noqa: PTH118  # Path would drop a last slash


def units(directory: str) -> Callable[[type, Any], Any]:
    """What msgspec needs to read types with a `parse` of their own (its `dec_hook`).

    Relative paths begin at `directory`, for the types that say that they have paths.
    """

    def decode(kind: Any, value: Any) -> Any:
        if not hasattr(kind, "parse"):
            raise NotImplementedError(f"no rule for {kind}")
        return kind.parse(value, directory) if getattr(kind, "HAS_PATHS", False) else kind.parse(value)

    return decode
