"""Which SSH algorithms a connection may use, by their names (RFC 4250, section 4.11, and its successors).

`SshSettings` holds the table as it is configured, `ssh_transport` offers what it makes of it.  What is on by default
is the part of conch's list that is sound today; the rest is `LEGACY`, for old BMCs, and has to be asked for by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from twisted.conch.ssh.transport import SSHClientTransport

KNOWN: dict[str, tuple[str, ...]] = {
    "kex": tuple(name.decode() for name in SSHClientTransport.supportedKeyExchanges),
    "hostkey": (
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "rsa-sha2-512",
        "rsa-sha2-256",
        "ssh-rsa",
        "ssh-dss",
    ),
    # The order is OpenSSH's: 128 bits are plenty, and faster.  The "none" that conch knows is not among them.
    "cipher": ("aes128-ctr", "aes192-ctr", "aes256-ctr", "aes128-cbc", "aes192-cbc", "aes256-cbc", "3des-cbc"),
    "mac": ("hmac-sha2-256", "hmac-sha2-384", "hmac-sha2-512", "hmac-sha1", "hmac-md5"),
}
"""What can be spoken, the preferred ones first."""

LEGACY = frozenset(
    {
        "diffie-hellman-group-exchange-sha1",
        "diffie-hellman-group14-sha1",
        "ssh-rsa",
        "ssh-dss",
        "aes128-cbc",
        "aes192-cbc",
        "aes256-cbc",
        "3des-cbc",
        "hmac-sha1",
        "hmac-md5",
    }
)
"""What is offered only where it is configured by name."""


@dataclass(frozen=True, slots=True)
class Algorithms:
    """What one connection offers, in the order of preference."""

    kex: tuple[str, ...]
    hostkey: tuple[str, ...]
    cipher: tuple[str, ...]
    mac: tuple[str, ...]


class AlgorithmSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `algorithms` of a console.

    Each list either says everything (`["aes256-ctr"]`), or changes what is on by default (`["+hmac-sha1"]` adds one
    at the end, `["-aes128-ctr"]` takes one away), as in OpenSSH's configuration.
    """

    kex: tuple[str, ...] = ()
    """Key exchange."""
    hostkey: tuple[str, ...] = ()
    """The server's signatures; with `ssh-rsa` among them, ours may also be made with SHA-1."""
    cipher: tuple[str, ...] = ()
    """Encryption, both ways."""
    mac: tuple[str, ...] = ()
    """Message authentication, both ways."""

    def __post_init__(self) -> None:
        self.chosen()

    def chosen(self) -> Algorithms:
        """What to offer.  Raises `ValueError` for names that nobody knows here, and for a list that leaves nothing."""
        return Algorithms(**{what: _chosen(what, getattr(self, what)) for what in KNOWN})


def _chosen(what: str, asked: Sequence[str]) -> tuple[str, ...]:
    names = [name.removeprefix("+").removeprefix("-") for name in asked]
    for name in names:
        if name not in KNOWN[what]:
            raise ValueError(f"{what}: {name!r} is unknown; there are {', '.join(KNOWN[what])}")
    changes = [name for name in asked if name[0] in "+-"]
    if not changes:
        return tuple(names) or tuple(name for name in KNOWN[what] if name not in LEGACY)
    if len(changes) != len(asked):
        raise ValueError(f'{what}: either a whole list, or only "+name" and "-name"')
    chosen = [name for name in KNOWN[what] if name not in LEGACY and f"-{name}" not in asked]
    chosen += [name[1:] for name in asked if name[0] == "+" and name[1:] not in chosen]
    if not chosen:
        raise ValueError(f"{what}: nothing is left")
    return tuple(chosen)
