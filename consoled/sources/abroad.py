"""What a source that is not trusted may say of a console: where it is, and nothing that costs this machine or a secret.

`offers` asks for each of its entries.  The rest stands in a `[[group]]` of the file; docs/security.md has the reasons.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any, Final, get_args

import msgspec

from consoled.backends.settings import ConsoleSettings
from consoled.consoles import KINDS, ConfigError
from consoled.core.secret import Secret
from consoled.inventory import Table
from consoled.units import FilePath

ABROAD: Final = ("ipmi", "ssh", "tcp", "telnet")
"""The kinds that it may name: they only reach out."""
_HARMLESS: Final = re.compile(r"\w[\w.:-]*", re.ASCII)
"""What its `let` may have, and its names: no option of a program, no path that climbs."""
_FILLED: Final = re.compile(r"\{([^{}]*)\}")
_WORD: Final = re.compile(r"[^\W\d]\w*")


def _here(kind: Any) -> Iterator[str]:
    """The keys of a table, and of those within it, that are read on this machine or are secrets."""
    for field in msgspec.structs.fields(kind):
        types = (field.type, *get_args(field.type))
        if Secret in types or FilePath in types:
            yield field.name
        for one in types:
            if isinstance(one, type) and issubclass(one, msgspec.Struct):
                yield from _here(one)


_HERE: Final = {key for kind in KINDS.values() for key in _here(kind)} | {
    *("agent", "command", "environment", "record_input", "reset_command"),
    *("pattern", "table"),  # a pattern may take for ever
}
"""What it may not say, whatever the kind: it runs programs or reads files of this machine, or is a secret that somebody
between could have put there."""
_PROOFS: Final = {"fingerprint", "known_hosts", "tls", "trust_on_first_use"}
_CIPHERS: Final = {"algorithms", "cipher_suites"}
"""What keeps a password from another server than the one it is for: where the file says any of the first, or one of the
second, it may not say otherwise."""


def check_entry(where: str, entry: Table, inherited: Table) -> None:
    """Whether `entry` may be said of a console that inherits that.  Raises `ConfigError`."""
    let = entry["let"] if isinstance(entry.get("let"), dict) else {}
    for key, value in let.items():
        if not _HARMLESS.fullmatch(str(value)):
            raise ConfigError(f"{where}.let.{key}: from a source without `trusted` it must be a plain word")
    _check_here(where, entry)
    for key in (_PROOFS if _PROOFS & inherited.keys() else set()) | _CIPHERS & inherited.keys():
        if key in entry and entry[key] != inherited.get(key):
            raise ConfigError(
                f"{where}.{key}: the file says how the server is known and spoken to, which a source without `trusted` "
                "may not change"
            )
    # What else may stand in braces is the file's, and may be a secret: in an address it would go to a name server.
    _check_braces(where, {key: value for key, value in entry.items() if key != "let"}, {"name", "index", *let})


def check_made(where: str, settings: ConsoleSettings) -> None:
    """Whether a console that was made of an entry may be so.  Raises `ConfigError`."""
    if settings.__struct_config__.tag not in ABROAD:
        raise ConfigError(f"{where}.kind: from a source without `trusted` it must be one of {', '.join(ABROAD)}")
    if not _HARMLESS.fullmatch(settings.name):  # it may stand in a command of its group
        raise ConfigError(f"{where}.name: from a source without `trusted` it must be a plain word")


def _check_here(where: str, table: Table) -> None:
    for key, value in table.items():
        if key in _HERE:
            raise ConfigError(
                f"{where}.{key}: a source without `trusted` may not say this; say it in a [[group]] of the file"
            )
        if isinstance(value, dict) and key != "let":
            _check_here(f"{where}.{key}", value)


def _check_braces(where: str, value: object, own: Collection[str]) -> None:
    match value:
        case str():
            for word in _WORD.findall(" ".join(_FILLED.findall(value))):
                if word not in own:
                    raise ConfigError(f"{where}: {{{word}}}: a source without `trusted` must say that in its `let`")
        case dict():
            for key, one in value.items():
                _check_braces(f"{where}.{key}", one, own)
        case list():
            for one in value:
                _check_braces(where, one, own)
