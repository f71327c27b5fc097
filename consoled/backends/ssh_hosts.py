"""How a server proves that it is the one we mean: pinned fingerprints, `known_hosts` files, trust on first use.

`ssh` makes a `HostCheck` for each dial; `ssh_transport` asks it about the key that the server shows.  The files have
OpenSSH's form (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"): plain and hashed names, patterns, `@revoked`.  Certificates
are beyond conch, so `@cert-authority` lines are passed over.
"""

from __future__ import annotations

import errno
import hmac
import os
import re
import shlex
import struct
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from threading import Lock

from twisted.conch.ssh.common import NS, getNS

from consoled.backends.address import Address
from consoled.core.seams import Refused

SSH_PORT = 22


class HostKeyChanged(Refused):
    """The server shows another key than the one that is known: somebody sits between, or it was set up anew."""


def kind_of(blob: bytes) -> str:
    """The type that a public key has written at its beginning (RFC 4253, section 6.6), fit to be shown."""
    try:
        name = getNS(blob)[0].decode("ascii")
    except (ValueError, struct.error):
        name = ""
    return name if re.fullmatch(r"[\w.@-]{1,64}", name) else "unknown"


def fingerprint(blob: bytes) -> str:
    """A public key's SHA-256 as `ssh-keygen -l` shows it."""
    return "SHA256:" + b64encode(sha256(blob).digest()).decode().rstrip("=")


def check_fingerprint(text: str) -> None:
    """Raises `ValueError` unless `text` is what `fingerprint` makes."""
    if not re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}", text):
        raise ValueError(f'fingerprint: {text!r} is none: write "SHA256:..." as "ssh-keygen -lf KEY.pub" shows it')


def host_name(at: Address) -> str:
    """How a `known_hosts` file calls `at`: `bmc1`, or `[bmc1]:2200` where the port is not 22."""
    host = at.host.lower()
    return host if at.port == SSH_PORT else f"[{host}]:{at.port}"


# ------------------------------------------------------------------------------------------------------- the files


@dataclass(slots=True)
class _Entries:
    plain: dict[str, list[bytes]] = field(default_factory=dict)
    patterns: list[tuple[list[str], bytes]] = field(default_factory=list)
    hashed: list[tuple[bytes, bytes, bytes]] = field(default_factory=list)
    """Salt, HMAC of the name, key."""
    revoked: set[bytes] = field(default_factory=set)
    found: dict[str, list[bytes]] = field(default_factory=dict)
    """What was asked before: each hashed line costs an HMAC."""

    @classmethod
    def parse(cls, text: str) -> _Entries:
        """Lines that make no sense are passed over, as OpenSSH does."""
        entries = cls()
        for line in text.splitlines():
            fields = line.split()
            marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
            if len(fields) < 3 or fields[0].startswith("#") or marker not in ("", "@revoked"):
                continue
            names, kind, encoded, *_ = fields
            try:
                blob = b64decode(encoded, validate=True)
                salted = [b64decode(part) for part in names.split("|")[2:]] if names.startswith("|1|") else None
            except NotBase64:
                continue
            if not blob.startswith(NS(kind)):
                continue
            if marker:
                entries.revoked.add(blob)
            elif salted is not None:
                if len(salted) == 2:
                    entries.hashed.append((salted[0], salted[1], blob))
            elif re.search(r"[*?!]", names):
                entries.patterns.append((names.lower().split(","), blob))
            else:
                for name in names.lower().split(","):
                    entries.plain.setdefault(name, []).append(blob)
        return entries

    def keys_of(self, host: str) -> list[bytes]:
        if host not in self.found:
            self.found[host] = self._find(host)
        return self.found[host]

    def add(self, host: str, blob: bytes) -> None:
        self.plain.setdefault(host, []).append(blob)
        self.found.pop(host, None)

    def _find(self, host: str) -> list[bytes]:
        found = list(self.plain.get(host, ()))
        found += [blob for names, blob in self.patterns if _matches(host, names)]
        for salt, digest, blob in self.hashed:
            if hmac.compare_digest(hmac.digest(salt, host.encode(), "sha1"), digest):
                found.append(blob)
        return found


def _matches(host: str, names: list[str]) -> bool:
    def fits(pattern: str) -> bool:
        return bool(re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), host))

    if any(fits(name[1:]) for name in names if name.startswith("!")):
        return False
    return any(fits(name) for name in names)


class HostsFile:
    """A `known_hosts` file and what was read of it, shared by all consoles that name it.

    `refresh` runs in a thread, the rest in the reactor's.
    """

    def __init__(self, path: Path, ours: bool) -> None:
        """`ours`: the file is kept by us, and need not be there."""
        self.path = path
        self._ours = ours
        self._entries = _Entries()
        self._seen: tuple[int, ...] | None = None
        self._lock = Lock()

    def refresh(self, host: str) -> None:
        """Read the file if it has changed, and look for `host` in it.  Raises `ConnectionError` that names it."""
        with self._lock:
            try:
                with self.path.open("rb") as file:
                    seen = _signature(file.fileno())
                    if seen != self._seen:
                        self._entries = _Entries.parse(file.read().decode("utf-8", "replace"))
                        self._seen = seen
            except FileNotFoundError as error:
                if not self._ours:
                    raise ConnectionError(f"{self.path}: {error.strerror}") from error
                self._entries, self._seen = _Entries(), None
            except OSError as error:
                raise ConnectionError(f"{self.path}: {error.strerror}") from error
            self._entries.keys_of(host)

    def keys_of(self, host: str) -> list[bytes]:
        with self._lock:
            return self._entries.keys_of(host)

    def revokes(self, blob: bytes) -> bool:
        with self._lock:
            return blob in self._entries.revoked

    def add(self, host: str, blob: bytes) -> None:
        """Remember that `host` has the key `blob`.  Raises `OSError`.

        The line goes into the file with one write to its end, which is whole or absent, and costs the same in a
        file of five thousand: rewriting and renaming the file for each of them would not.  A line that a power
        failure has torn is passed over by the reader, and ended here.
        """
        line = f"{host} {kind_of(blob)} {b64encode(blob).decode()}\n".encode()
        with self._lock:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                before = _signature(fd)
                size = os.fstat(fd).st_size
                if size and os.pread(fd, 1, size - 1) != b"\n":
                    line = b"\n" + line
                if os.write(fd, line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if self._seen == before or not size:
                    self._seen = _signature(fd)
            finally:
                os.close(fd)
            self._entries.add(host, blob)


def _signature(fd: int) -> tuple[int, ...]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@cache
def hosts_file(path: Path, ours: bool = False) -> HostsFile:
    """The one `HostsFile` for `path`."""
    return HostsFile(path, ours)


# ------------------------------------------------------------------------------------------------------- the check


@dataclass(frozen=True)
class HostCheck:
    """What is asked of one server's key."""

    at: Address
    fingerprints: Sequence[str] = ()
    """If there are any, nothing else counts."""
    files: Sequence[HostsFile] = ()
    store: HostsFile | None = None
    """Where keys are kept that are trusted on first use; None: they are not trusted."""
    kept: Callable[[str], None] = lambda key: None
    """Told of a key that has been kept: its type and fingerprint."""

    def refresh(self) -> None:
        """Read what has changed, in a thread.  Raises `ConnectionError`."""
        for file in self._all():
            file.refresh(host_name(self.at))

    def preferred(self, algorithms: Sequence[str]) -> list[str]:
        """`algorithms` with those first for which a key is known, so that a server with several shows that one."""
        kinds = {kind_of(blob) for file in self._all() for blob in file.keys_of(host_name(self.at))}
        return sorted(algorithms, key=lambda name: ("ssh-rsa" if name.startswith("rsa-") else name) not in kinds)

    def check(self, blob: bytes) -> None:
        """Raises `Refused`, or `HostKeyChanged`, unless `blob` is known or nothing is known and that is enough."""
        host, shown = host_name(self.at), f"{kind_of(blob)} {fingerprint(blob)}"
        if self.fingerprints:
            if fingerprint(blob) not in self.fingerprints:
                raise HostKeyChanged(
                    f"the host key of {self.at} is {shown}, not the pinned {' or '.join(self.fingerprints)}; if that "
                    'is right, pin it; if it is one of several, name the pinned one\'s type in "algorithms.hostkey"'
                )
            return
        if any(file.revokes(blob) for file in self._all()):
            raise Refused(f"the host key of {self.at}, {shown}, is marked as revoked")
        known = [(file, one) for file in self._all() for one in file.keys_of(host)]
        if any(one == blob for _, one in known):
            return
        if known:
            file, one = known[0]
            raise HostKeyChanged(
                f"the host key of {self.at} has changed from {kind_of(one)} {fingerprint(one)} to {shown}; if that is "
                f"right, forget the old one: ssh-keygen -R {shlex.quote(host)} -f {shlex.quote(str(file.path))}"
                + ("" if file is self.store else ", and add the new one")
            )
        if self.store is None:
            files = ", ".join(str(file.path) for file in self.files)
            port = f"-p {self.at.port} " if self.at.port != SSH_PORT else ""
            raise Refused(
                f"the host key of {self.at} is {shown}, which is not in {files}; if that is right, add it: "
                f"ssh-keyscan {port}{shlex.quote(self.at.host)} >> {shlex.quote(str(self.files[-1].path))}"
            )

    def keep(self, blob: bytes) -> bool:
        """The server has proved to own the key that `check` let pass: keep it, if it is new.

        True if it was.  Raises `OSError` if it cannot be kept.
        """
        host = host_name(self.at)
        if self.store is None or any(blob in file.keys_of(host) for file in self._all()):
            return False
        self.check(blob)  # another console may have met another key meanwhile
        self.store.add(host, blob)
        self.kept(f"{kind_of(blob)} {fingerprint(blob)}")
        return True

    def _all(self) -> list[HostsFile]:
        return [*self.files, *([self.store] if self.store is not None else ())]
