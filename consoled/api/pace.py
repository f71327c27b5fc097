"""How often something may happen: a token bucket, and one for each of many strangers in bounded memory.

`patience` counts failed logins with it, `session` the messages of one client.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial


class Bucket:
    """Holds `burst` of something and is refilled at `rate` a second.  Not thread-safe; costs two floats."""

    __slots__ = ("_at", "_burst", "_left", "_rate", "_seconds")

    def __init__(self, rate: float, burst: float, seconds: Callable[[], float]) -> None:
        """`seconds` tells a time that never goes back."""
        self._rate = rate
        self._burst = burst
        self._seconds = seconds
        self._left = burst
        self._at = seconds()

    def take(self, count: float = 1) -> float:
        """Take `count` out, also those that are not there yet.  Returns the seconds until none is owed."""
        self._left = left = self.left - count
        return 0.0 if left >= 0 else -left / self._rate

    @property
    def left(self) -> float:
        """What is in it; negative if more was taken than there was."""
        now = self._seconds()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        return self._left

    def wait(self, count: float = 1) -> float:
        """The seconds until there are `count`; 0 if there are."""
        return max(0.0, (count - self.left) / self._rate)


class Buckets:
    """A bucket for each key: the `most` keys used last are remembered, the others are forgotten and start full."""

    def __init__(self, rate: float, burst: float, seconds: Callable[[], float], most: int) -> None:
        self._make: Callable[[], Bucket] = partial(Bucket, rate, burst, seconds)
        self._most = most
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def find(self, key: str) -> Bucket | None:
        """The bucket of `key`, if anything was ever taken from it that is not forgotten."""
        return self._buckets.get(key)

    def of(self, key: str) -> Bucket:
        """The bucket of `key`."""
        if key not in self._buckets:
            self._buckets[key] = self._make()
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return self._buckets[key]
