"""Consoles out of tables: each complete, and of its kind.

`config` makes those of the file here, where one that is wrong is an error.  What a source has answered becomes an
`Offer` here, where one that is wrong is left out and said, so that it does not cost the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, get_args

import msgspec

from consoled.backends.demo import DemoSettings
from consoled.backends.ipmi import IpmiSettings
from consoled.backends.process import ProcessSettings
from consoled.backends.serial_port import SerialSettings
from consoled.backends.settings import ConsoleSettings
from consoled.backends.ssh import SshSettings
from consoled.backends.tcp import TcpSettings
from consoled.backends.telnet import TelnetSettings
from consoled.backends.unix import UnixSettings
from consoled.core.secret import Secret
from consoled.inventory import OWN_KEYS, InventoryError, Kept, Placed, Table, inherit, nodes
from consoled.printable import printable
from consoled.transcript.names import check_name
from consoled.units import FilePath, units

AnyConsole = (
    TcpSettings
    | UnixSettings
    | TelnetSettings
    | SerialSettings
    | SshSettings
    | IpmiSettings
    | ProcessSettings
    | DemoSettings
)
KINDS: dict[str, type[ConsoleSettings]] = {kind.__struct_config__.tag: kind for kind in AnyConsole.__args__}
SECRETS: Final = {
    field.name
    for kind in KINDS.values()
    for field in msgspec.structs.fields(kind)
    if Secret in (field.type, *get_args(field.type))
}
"""The keys of a console that are secrets, whatever its kind."""
_KNOWN: Final = {field for kind in KINDS.values() for field in kind.__struct_fields__} | {"kind", *OWN_KEYS}

MOST: Final = 200_000
"""Consoles of one source."""
ABROAD: Final = ("ipmi", "ssh", "tcp", "telnet")
"""The kinds that a source may name which is not trusted: they only reach out."""
_HARMLESS: Final = re.compile(r"\w[\w.:-]*", re.ASCII)
"""What its `let` may have: no option of a program, no path that climbs."""
_KEYED: Final = re.compile(r"([a-z_]+(?:\.[a-z_]+)*): ")


class ConfigError(Exception):
    """The configuration cannot be used; the text says where and why."""


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
"""What a source that is not trusted may not say, whatever the kind: it runs programs or reads files of this machine,
or is a secret that somebody between could have put there."""


class Offering(Protocol):
    """What is to be known of a source; see `sources.settings`."""

    @property
    def is_trusted(self) -> bool:
        """Whether its consoles may run programs and name files and secrets of this machine."""

    def table(self, entry: Table) -> Table:
        """The table of a console for one entry of its answer.  Raises `ValueError` that begins with a key."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What one answer of a source comes to."""

    consoles: Mapping[str, tuple[AnyConsole, str]]
    """By their names, each with its group."""
    complaints: tuple[str, ...] = ()
    """The entries that are left out, and why."""


@dataclass(frozen=True, slots=True)
class Making:
    """What is made into consoles in the light of one configuration."""

    inherited: Mapping[object, Table]
    """See `inventory.inherit`."""
    directory: str
    """Where relative paths begin."""

    @classmethod
    def of(cls, groups: Placed, defaults: Table, directory: str) -> Making:
        """Raises `ConfigError`."""
        for key in defaults.keys() - _KNOWN | defaults.keys() & {"name", "group"}:
            raise ConfigError(f"defaults.{key}: no kind of console has this key")
        groups = list(groups)
        for where, group in groups:
            check_keys(where, group)
        try:
            return cls(inherit(groups, defaults), directory)
        except InventoryError as error:
            raise ConfigError(str(error)) from None

    def consoles(self, tables: Placed) -> Iterator[tuple[AnyConsole, str]]:
        """Those of the `tables`, each with its group.  Raises `ConfigError`."""
        try:
            for node in nodes(tables, self.inherited, self.directory, SECRETS):
                kind = KINDS.get(str(node.settings.get("kind")))
                if kind is None:
                    raise ConfigError(f"{node.where}.kind: must be one of {', '.join(sorted(KINDS))}")
                try:
                    check_name(node.name)
                except ValueError as error:
                    raise ConfigError(f"{node.where}.name: {error}") from None
                # What is inherited may be for other kinds; what the console itself says may not.
                fit = (*kind.__struct_fields__, *node.said)
                table = {key: value for key, value in node.settings.items() if key in fit or key == "kind"}
                settings = convert(table, kind, self.directory, node.where)
                if complaint := settings.complaint():
                    raise ConfigError(f"{node.where}.{complaint}")
                yield settings, node.group
        except InventoryError as error:
            raise ConfigError(str(error)) from None

    def offer(self, source: Offering, entries: Sequence[Table]) -> Offer:
        """What `source` offers with these `entries`.  Takes a tenth of a millisecond for each: call it in a thread."""
        made: dict[str, tuple[AnyConsole, str]] = {}
        complaints = []
        for index, entry in enumerate(entries):
            where = f"entry {index}"
            if isinstance(name := entry.get("name"), str):
                where += f" ({printable(name)})"
            try:
                made |= self._offered(source, entry, where, made)
            except ConfigError as error:
                complaints.append(printable(str(error)))
        return Offer(made, tuple(complaints))

    def _offered(
        self, source: Offering, entry: Table, where: str, made: Mapping[str, Any]
    ) -> dict[str, tuple[AnyConsole, str]]:
        if not source.is_trusted:
            _check_foreign(where, entry)
        try:
            table = source.table(entry)
        except ValueError as error:
            raise ConfigError(f"{where}.{error}") from None
        found: dict[str, tuple[AnyConsole, str]] = {}
        for settings, group in self.consoles([(where, table)]):
            if not source.is_trusted:
                _check_made(where, settings)
            if settings.name in made:
                raise ConfigError(f"{where}.name: {settings.name} is there already")
            found[settings.name] = settings, group
            if len(made) + len(found) > MOST:
                raise ConfigError(f"{where}.name: these are more than {MOST} consoles")
        return found


def check_keys(where: str, table: Table) -> None:
    """Raises `ConfigError` if there is a key that no console has."""
    for key in table.keys() - _KNOWN:
        raise ConfigError(f"{where}.{key}: no kind of console has this key")


def kept(table: Table) -> Table:
    """`table`, out of a file that others cannot read, with its secrets marked as being so."""
    marked = {key: Kept(value) if key in SECRETS and isinstance(value, str) else value for key, value in table.items()}
    if isinstance(let := table.get("let"), dict):
        marked["let"] = {key: Kept(value) if isinstance(value, str | int) else value for key, value in let.items()}
    return marked


def _check_foreign(where: str, table: Table) -> None:
    """Whether somebody far away may say this.  Raises `ConfigError`."""
    let = table.get("let", {})
    for key, value in let.items() if isinstance(let, dict) else ():
        if not _HARMLESS.fullmatch(str(value)):
            raise ConfigError(f"{where}.let.{key}: from a source without `trusted` it must be a plain word")
    _check_here(where, table)


def _check_made(where: str, settings: ConsoleSettings) -> None:
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


def convert(value: Any, kind: Any, directory: str, where: str = "", *, private: bool = False) -> Any:
    """`value` as `kind`; relative paths begin at `directory`.  Raises `ConfigError` that names the key.

    Unless all of it is `private`, only those secrets may stand in it that are marked as `kept`.
    """
    decode = units(directory)

    def decode_privately(kind: type, value: Any) -> Any:
        if kind is Secret and isinstance(value, str) and not private and not isinstance(value, Kept):
            raise ValueError("a secret stands in a file that others can read: chmod o-r, or say where else it is")
        return decode(kind, value)

    try:
        return msgspec.convert(value, kind, dec_hook=decode_privately)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        key = (where + path.rstrip("`")).lstrip(".")
        if found := _KEYED.match(text):  # a table's own check, which knows only its own keys
            key, text = f"{key}.{found[1]}", text[found.end() :]
        raise ConfigError(f"{key}: {text}" if key else text) from None
