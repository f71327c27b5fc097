"""A secret as the configuration names it: where it is, and never, to anybody, what it is.

Settings hold these (passwords, passphrases, keys, tokens); whoever needs the value asks the `Secrets` seam for it at
the moment of use, so that a rotated password heals by itself.
"""

from __future__ import annotations

import os
from typing import Any, Protocol

from twisted.internet.defer import Deferred

_FORMS = (
    '{ file = "..." }, { env = "..." }, { credential = "..." }, { command = ["..."] } or '
    '{ vault = "...", field = "..." }'
)


class Secret:
    """A reference to where one secret is.  Immutable; two that are equal lead to the same secret.

    Not a dataclass, because msgspec would read those by itself, past `parse`.
    """

    HAS_PATHS = True
    __slots__ = ("command", "credential", "env", "field", "file", "literal", "vault")

    def __init__(
        self,
        *,
        literal: str = "",
        file: str = "",
        env: str = "",
        credential: str = "",
        command: tuple[str, ...] = (),
        vault: str = "",
        field: str = "",
    ) -> None:
        """One of them, and `field` with `vault`; `parse` sees to that."""
        self.literal = literal
        """The value itself, from a file that others cannot read."""
        self.file = file
        """The path of a file that holds it; one line end at its end does not count."""
        self.env = env
        """The name of a variable of the daemon's environment."""
        self.credential = credential
        """The name of a credential that systemd has loaded (`LoadCredential=`)."""
        self.command = command
        """The argument list of a program that prints it."""
        self.vault = vault
        """The path of a secret in a Vault or OpenBao KV store."""
        self.field = field
        """With `vault`: which of its fields."""

    @classmethod
    def parse(cls, value: object, directory: str = "") -> Secret:
        """From what TOML has: a text, or a table of one of the forms; a relative path begins at `directory`.

        Raises `ValueError`, which quotes no text.
        """
        match value:
            case str() if value:
                return cls(literal=value)
            case {"file": str() as path, **rest} if path and not rest:
                return cls(file=os.path.join(directory, path))  # noqa: PTH118  # `Path` would drop a last slash
            case {"env": str() as name, **rest} if name and not rest:
                return cls(env=name)
            case {"credential": str() as name, **rest} if name and "/" not in name and not rest:
                return cls(credential=name)
            case {"command": [str(), *_] as argv, **rest} if all(isinstance(one, str) for one in argv) and not rest:
                return cls(command=tuple(argv))
            case {"vault": str() as path, "field": str() as name, **rest} if path and name and not rest:
                return cls(vault=path, field=name)
        raise ValueError(f"is not a secret: write {_FORMS}, or a text in a file that others cannot read")

    def __str__(self) -> str:
        """Where it is, for people: `file /etc/consoled/bmc.password`."""
        for form in ("file", "env", "credential", "command", "vault"):
            if value := getattr(self, form):
                return f"{form} {' '.join(value) if isinstance(value, tuple) else value}"
        return "a text in the configuration"

    def __repr__(self) -> str:
        return f"<Secret: {self}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(self._parts())

    def _parts(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)


class SecretUnavailable(Exception):
    """A secret cannot be had now; the text says where it was looked for and why not, and is fit for operators."""


class Secrets(Protocol):
    """Who fetches secrets.  Called by backends at each dial."""

    def fetch(self, secret: Secret, fresh: bool = False) -> Deferred[Any]:
        """The value, a `str`; `fresh` if the one of last time was refused, so that no cache may answer.

        Fails with `SecretUnavailable`, within ten seconds.
        """
