"""Keys that tokens are signed with, out of files that somebody puts there.

Called by `jwt_tokens`, as `jwks` is where keys are fetched.  The files are watched: a key that is taken out of them is
withdrawn, and so are those of a file that is taken away.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from twisted.internet.defer import Deferred, fail, succeed

from consoled.auth.jwk import Key, KeySet, read_keys
from consoled.auth.watched import Watched
from consoled.core.access import Unauthenticated
from consoled.core.seams import Clock


class KeyFiles:
    """Keys in files: JWK sets, or PEM.  See `jwks.Keys`."""

    def __init__(self, paths: Sequence[str], clock: Clock) -> None:
        """Raises `OSError`, or `ValueError` that names the file."""
        self._files = [Watched(Path(path), read_keys, "keys", clock) for path in paths]

    @property
    def trouble(self) -> str | None:
        return "; ".join(file.trouble for file in self._files if file.trouble) or None

    def find(self, kid: str | None, algorithm: str) -> Deferred[Key]:
        keys = KeySet([key for file in self._files for key in file.content() or ()])
        key = keys.find(kid, algorithm)
        if key is None:
            named = "without a kid" if kid is None else f"{kid[:64]!a}"
            return fail(Unauthenticated(f"there is no key {named} for {algorithm}, or more than one"))
        return succeed(key)

    def holds(self, key: Key) -> bool:
        return any(key in (file.content_of_late() or ()) for file in self._files)

    def start(self) -> None:
        """Nothing has to be fetched."""

    def stop(self) -> None:
        """Nothing is under way."""
