"""A secret as the configuration names it: where it is, and never, to anybody, what it is.

Settings hold these (passwords, passphrases, keys, tokens); whoever needs the value asks the `Secrets` seam for it at
the moment of use, so that a rotated password heals by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Protocol

from twisted.internet.defer import Deferred

_FORMS = (
    '{ file = "..." }, { env = "..." }, { credential = "..." }, { command = ["..."] } or '
    '{ vault = "...", field = "..." }'
)


@dataclass(frozen=True, slots=True)
class Secret:
    """A reference.  Exactly one of the first six is set; two that are equal lead to the same secret."""

    literal: str = field(default="", repr=False)
    """The value itself, from a file that others cannot read."""
    file: str = ""
    """The path of a file that holds it; one line end at its end does not count."""
    env: str = ""
    """The name of a variable of the daemon's environment."""
    credential: str = ""
    """The name of a credential that systemd has loaded (`LoadCredential=`)."""
    command: tuple[str, ...] = ()
    """The argument list of a program that prints it."""
    vault: str = ""
    """The path of a secret in a Vault or OpenBao KV store."""
    field: str = ""
    """With `vault`: which of its fields."""

    @classmethod
    def parse(cls, value: object) -> Secret:
        """From what TOML has: a text, or a table of one of the forms.  Raises `ValueError`, which quotes no text."""
        match value:
            case str() if value:
                return cls(literal=value)
            case {"file": str() as path, **rest} if path and not rest:
                return cls(file=path)
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
        for one in fields(self)[1:]:
            if value := getattr(self, one.name):
                return f"{one.name} {' '.join(value) if isinstance(value, tuple) else value}"
        return "a text in the configuration"


class SecretUnavailable(Exception):
    """A secret cannot be had now; the text says where it was looked for and why not, and is fit for operators."""


class Secrets(Protocol):
    """Who fetches secrets.  Called by backends at each dial."""

    def fetch(self, secret: Secret, fresh: bool = False) -> Deferred[Any]:
        """The value, a `str`; `fresh` if the one of last time was refused, so that no cache may answer.

        Fails with `SecretUnavailable`, within ten seconds.
        """
