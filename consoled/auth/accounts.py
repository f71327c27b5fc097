"""Triton accounts: who may sign requests with which key, and what an account's sub-users may do.

The model that both sources share: the accounts file (here), and `mahi`, which asks Triton's own service.  The
checker of signed requests looks a key id's owner up in one of them; the `cloudapi` face asks it for the account that
a path names.  No console byte passes through here.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import md5, sha256
from pathlib import Path
from typing import Annotated, Final, Protocol

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
    load_ssh_public_key,
)
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from consoled.auth.signatures import PublicKey
from consoled.auth.watched import Watched
from consoled.core.seams import Clock
from consoled.triton import UUID

CONNECT: Final = "connectmachineconsole"
"""The action of the console endpoint, as policies spell it."""
WATCH: Final = "tailmachineconsole"
"""Our own: to watch a console and no more."""

_RULE: Final = re.compile(r"CAN ([a-z*]+(?:(?:,| and|, and) [a-z*]+)*)", re.IGNORECASE)


class UnknownAccount(Exception):
    """There is no such account, or no such user in it.  Distinct from not being able to ask."""


@dataclass(frozen=True, slots=True)
class Role:
    """A role of an account: what whoever has it may do with the machines that are tagged with it."""

    uuid: str
    name: str
    actions: frozenset[str]
    machines: frozenset[str] | None = None
    """The machines that the accounts file tags with it; None: the tags stand at the machine."""
    is_everywhere: bool = False
    """Whether it is for all of the account's machines, tagged or not."""

    def allows(self, action: str) -> bool:
        """Whether one of its rules names the action, or all."""
        return not self.actions.isdisjoint((action, "*"))


@dataclass(frozen=True, slots=True)
class Principal:
    """An account, or a sub-user of one."""

    account: str
    """The account's uuid."""
    login: str
    """The account's login."""
    keys: Mapping[str, PublicKey] = field(repr=False)
    """Its public keys by every name that a key id may use: MD5 fingerprint, SHA-256 fingerprint, the key's name."""
    enabled: bool = True
    operator: bool = False
    """Whether it may act for other accounts."""
    user: str | None = None
    """The sub-user's login; None for the account itself."""
    roles: tuple[Role, ...] = ()
    """The roles that a sub-user has been given."""
    default_roles: frozenset[str] = frozenset()
    """The uuids of those that are active unless the request names others."""

    @property
    def name(self) -> str:
        """For people: `acme`, or `acme/bob`."""
        return self.login if self.user is None else f"{self.login}/{self.user}"

    def active(self, names: Iterable[str] | None) -> tuple[Role, ...]:
        """The roles of the given `names`, or those that are active by default."""
        if names is None:
            return tuple(role for role in self.roles if role.uuid in self.default_roles)
        wanted = set(names)
        return tuple(role for role in self.roles if role.name in wanted or role.uuid in wanted)


class Accounts(Protocol):
    """Where accounts are looked up."""

    def find(self, login: str, user: str | None = None) -> Deferred[Principal]:
        """The account, or its sub-user.  Fails with `UnknownAccount`, or with `CannotKnow` if it cannot be asked."""


class Logins:
    """Which account a login is: all that a face needs to know of them."""

    def __init__(self, accounts: Accounts | None) -> None:
        """`accounts` None: there are none."""
        self._accounts = accounts

    def uuid(self, login: str) -> Deferred[str | None]:
        """The uuid of the account, or None if there is none.  Fails with `CannotKnow`."""
        if self._accounts is None:
            return succeed(None)
        return self._accounts.find(login).addCallbacks(lambda found: found.account, _nobody)


def _nobody(failure: Failure) -> None:
    failure.trap(UnknownAccount)


def read_key(text: str) -> PublicKey:
    """A public key as OpenSSH or PEM spells it.  Raises `ValueError`."""
    try:
        data = text.strip().encode("ascii")
        key = load_pem_public_key(data) if data.startswith(b"-----") else load_ssh_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"no public key that can be read: {type(error).__name__}") from None
    if not isinstance(key, RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey):
        raise ValueError("must be an RSA, ECDSA or Ed25519 key")
    return key


def fingerprints(key: PublicKey) -> tuple[str, str]:
    """How a key id may name it (RFC 4716, section 4, and OpenSSH's newer form): `aa:bb:...` and `SHA256:...`."""
    blob = base64.b64decode(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1])
    old = md5(blob, usedforsecurity=False).digest().hex(":")
    return old, "SHA256:" + base64.b64encode(sha256(blob).digest()).decode().rstrip("=")


def actions(rule: str) -> frozenset[str]:
    """The actions that a rule of Triton's policy language (Aperture) allows: `CAN getmachine and rebootmachine`.

    A rule with conditions, or in any form that is not known, allows nothing: what it would demand is not known here.
    """
    found = _RULE.fullmatch(rule.strip())
    return frozenset(re.split(r",? and |, ", found[1].lower())) if found else frozenset()


# ------------------------------------------------------------------------------------------- the file

_Uuid = Annotated[str, msgspec.Meta(pattern=rf"^{UUID.pattern}\Z")]
_Login = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][\w.@-]{0,62}\Z")]


class _Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    key: str


class _Role(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: _Login
    rules: tuple[str, ...]
    machines: tuple[_Uuid, ...] | None = None
    """The machines that are tagged with it; left out: all of the account's."""


class _User(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    login: _Login
    keys: tuple[str | _Key, ...] = ()
    roles: tuple[str, ...] = ()
    default_roles: tuple[str, ...] | None = None
    """Those of them that are active unless a request names others; left out: all."""


class _Account(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    login: _Login
    uuid: _Uuid
    keys: tuple[str | _Key, ...] = ()
    enabled: bool = True
    operator: bool = False
    user: tuple[_User, ...] = ()
    role: tuple[_Role, ...] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    account: tuple[_Account, ...] = ()


Table = dict[tuple[str, str | None], Principal]


class AccountsFile:
    """The accounts of a file."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Raises `OSError` if there is no such file, or `ValueError` that names file and key."""
        self._file = Watched(path, parse, "accounts", clock)

    @property
    def trouble(self) -> str | None:
        """Why the accounts in force are not those on disk, for people; None while they are."""
        return self._file.trouble

    def find(self, login: str, user: str | None = None) -> Deferred[Principal]:
        """See `Accounts`."""
        table = self._file.content() or {}
        return succeed(table[login, user]) if (login, user) in table else fail(UnknownAccount(login))


def parse(text: bytes) -> Table:
    """The principals in an accounts file, by login and user.  Raises `ValueError` that names the key."""
    table: Table = {}
    for at, entry in enumerate(msgspec.toml.decode(text, type=_File).account):
        where = f"$.account[{at}]"
        if (entry.login, None) in table or any(other.account == entry.uuid for other in table.values()):
            raise ValueError(f"a second account {entry.login!r}, or its uuid - at `{where}`")
        roles = _roles(entry.role, f"{where}.role")
        account = Principal(entry.uuid, entry.login, _keys(entry.keys, f"{where}.keys"), entry.enabled, entry.operator)
        table[entry.login, None] = account
        for number, user in enumerate(entry.user):
            place = f"{where}.user[{number}]"
            if (entry.login, user.login) in table:
                raise ValueError(f"a second user {user.login!r} - at `{place}.login`")
            active = user.roles if user.default_roles is None else user.default_roles
            for name in (*user.roles, *active):
                if name not in roles or name not in user.roles:
                    raise ValueError(f"{name!r} is no role of this user's - at `{place}`")
            table[entry.login, user.login] = Principal(
                entry.uuid,
                entry.login,
                _keys(user.keys, f"{place}.keys"),
                entry.enabled,
                user=user.login,
                roles=tuple(roles[name] for name in dict.fromkeys(user.roles)),
                default_roles=frozenset(active),
            )
    return table


def _roles(entries: tuple[_Role, ...], where: str) -> dict[str, Role]:
    roles: dict[str, Role] = {}
    for at, entry in enumerate(entries):
        allowed: frozenset[str] = frozenset()
        for rule in entry.rules:
            if not actions(rule):
                raise ValueError(f"{rule!r} is no rule such as 'CAN {CONNECT}' - at `{where}[{at}].rules`")
            allowed |= actions(rule)
        machines = None if entry.machines is None else frozenset(entry.machines)
        if entry.name in roles:
            raise ValueError(f"a second role {entry.name!r} - at `{where}[{at}].name`")
        # The file has no uuids for roles: the name serves as well.
        roles[entry.name] = Role(entry.name, entry.name, allowed, machines, is_everywhere=machines is None)
    return roles


def _keys(entries: tuple[str | _Key, ...], where: str) -> dict[str, PublicKey]:
    keys: dict[str, PublicKey] = {}
    for at, entry in enumerate(entries):
        name, text = (None, entry) if isinstance(entry, str) else (entry.name, entry.key)
        try:
            key = read_key(text)
        except ValueError as error:
            raise ValueError(f"{error} - at `{where}[{at}]`") from None
        for known_as in (*fingerprints(key), *([name] if name else ())):
            if known_as in keys:
                raise ValueError(f"a second key {known_as!r} - at `{where}[{at}]`")
            keys[known_as] = key
    return keys
