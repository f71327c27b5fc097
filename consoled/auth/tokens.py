"""The tokens file: who holds a bearer token, and what it makes of them.

One checker of the gate's portal.  The file has the tokens' SHA-256 only; tokens are random and long, so that a
plain hash is as good as a slow one.  It is watched from the login path, at most one `stat` a second: an edit
counts from the next login on.

When the file turns bad, the two ways of turning bad mean different things.  A file that is *gone* lets nobody in:
taking it away is the quickest way to shut the door, and a daemon that went on with what it remembers would be
letting people in on the word of nobody.  A file that *cannot be understood* (a slip of the editor, half written,
unreadable for a moment, writable by all the world) keeps the last good list: what it meant to change is not known,
and locking out those who could mend it helps no one.  Both are said in the log, and by `trouble` for as long as
they last.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.error import UnauthorizedLogin
from twisted.logger import Logger
from zope.interface import implementer

from consoled.auth.credentials import BearerToken, IBearerToken
from consoled.auth.tenants import TENANT
from consoled.core.access import User
from consoled.core.seams import Clock

LARGEST: Final = 1 << 20
"""In bytes: room for thousands of tokens, read in the reactor's thread."""

_LOOK_EVERY: Final = 1.0

_Stamp = tuple[int, ...]


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    # Every pattern ends in \Z: $ would let a newline through.
    name: Annotated[str, msgspec.Meta(pattern=r"^[\w.@+-]{1,64}\Z")]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Fa-f]{64}\Z")]
    role: str
    tenants: tuple[Annotated[str, msgspec.Meta(pattern=TENANT)], ...] | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    token: tuple[_Entry, ...] = ()


def parse(text: bytes, roles: Collection[str]) -> dict[bytes, User]:
    """The users in a tokens file, by the hash of their token.

    Raises `ValueError` that names the key.  It never quotes a value of `sha256`: that may be a token that someone
    forgot to hash.
    """
    users: dict[bytes, User] = {}
    for at, entry in enumerate(msgspec.toml.decode(text, type=_File).token):
        if entry.role not in roles:
            raise ValueError(f"{entry.role!r} is not a role ({', '.join(sorted(roles))}) - at `$.token[{at}].role`")
        digest = bytes.fromhex(entry.sha256)
        if digest in users:
            raise ValueError(f"the same token as {users[digest].name!r} has - at `$.token[{at}].sha256`")
        tenants = None if entry.tenants is None else frozenset(entry.tenants)
        users[digest] = User(entry.name, entry.role, tenants, proof="tokens")
    return users


@implementer(ICredentialsChecker)
class TokensFile:
    """Lets in whoever shows a token whose hash is in the file."""

    credentialInterfaces = (IBearerToken,)
    _log = Logger()

    def __init__(self, path: Path, roles: Collection[str], clock: Clock) -> None:
        """Raises `OSError` if there is no such file, or `ValueError` that names file and key."""
        self._path = path
        self._roles = roles
        self._clock = clock
        self._looked = clock.seconds()
        self._stamp: _Stamp | None = None
        self._users: dict[bytes, User] = {}
        self.trouble: str | None = None
        """Why the file in force is not the one on disk, for people; None while it is."""
        self._read()

    def requestAvatarId(self, credentials: BearerToken) -> Any:  # cred's own annotation knows ids of bytes only
        """The `User` it is.  Raises `UnauthorizedLogin`."""
        self._look()
        presented = sha256(credentials.value).digest()
        user = None
        # To the end, whether found or not: the time it takes says nothing.
        for digest, owner in self._users.items():
            if compare_digest(digest, presented):
                user = owner
        if user is None:
            raise UnauthorizedLogin("unknown token")
        return user

    def _look(self) -> None:
        now = self._clock.seconds()
        if 0 <= now - self._looked < _LOOK_EVERY:
            return
        self._looked = now
        try:
            if not self._read():
                return
        except (FileNotFoundError, NotADirectoryError):
            self._stamp, self._users = None, {}
            self._say(f"{self._path} is gone: nobody is let in")
        except OSError as error:
            self._stamp = None  # it may pass without a trace on the file, so look again
            self._say(f"{self._path} cannot be read, the tokens of before stay in force: {error.strerror}")
        except ValueError as error:
            self._say(f"{error}; the tokens of before stay in force")
        else:
            self.trouble = None
            self._log.info("tokens read from {path}: {count}", path=str(self._path), count=len(self._users))

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            self._log.error("{trouble}", trouble=trouble)

    def _read(self) -> bool:
        """Take in the file if it changed, wholly or not at all.  False if it did not."""
        status = self._path.stat()
        if _stamp(status) == self._stamp:
            return False
        self._stamp = _stamp(status)
        try:
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("not a regular file")  # opening a FIFO would stop the daemon
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                self._stamp = _stamp(status)
                if status.st_mode & stat.S_IWOTH:
                    raise ValueError("everybody may write to it (mode o+w)")
                if len(text := file.read(LARGEST + 1)) > LARGEST:
                    raise ValueError(f"larger than {LARGEST} bytes")
            self._users = parse(text, self._roles)
        except ValueError as error:
            raise ValueError(f"{self._path}: {error}") from None
        return True


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
