"""Consoles out of tables: each complete, and of its kind.

`config` makes those of the file here, where one that is wrong is an error; `sources.offers` those that a source has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

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
from consoled.inventory import OWN_KEYS, InventoryError, Kept, Node, Placed, Table, inherit, nodes
from consoled.transcript.names import check_name
from consoled.units import units

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

_KEYED: Final = re.compile(r"([a-z_]+(?:\.[a-z_]+)*): ")


class ConfigError(Exception):
    """The configuration cannot be used; the text says where and why."""


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
                try:
                    settings = convert(table, kind, self.directory, node.where)
                except ConfigError as error:
                    raise ConfigError(f"{error}{self._inherited(node, str(error))}") from None
                if complaint := settings.complaint():
                    raise ConfigError(f"{node.where}.{complaint}")
                yield settings, node.group
        except InventoryError as error:
            raise ConfigError(str(error)) from None

    def _inherited(self, node: Node, complaint: str) -> str:
        """Where the key that the `complaint` is about comes from, if not from the console's own table."""
        key = complaint.removeprefix(f"{node.where}.").partition(":")[0].partition(".")[0].partition("[")[0]
        if key in node.said or key not in node.settings:
            return ""
        defaults = self.inherited[""]
        is_default = key in defaults and defaults[key] is self.inherited[node.group][key]
        return f"; it comes from {'[defaults]' if is_default else f'the group {node.group!r}'}"


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
