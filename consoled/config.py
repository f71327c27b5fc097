"""The configuration: one TOML file into frozen, typed values.

`tap` loads it; every room gets the part that is its own.  Whatever is wrong is a `ConfigError` that names the file
and the key.
"""

from __future__ import annotations

import re
import stat
import tomllib
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

import msgspec

from consoled.api.csm import CsmSettings
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
from consoled.inventory import OWN_KEYS, InventoryError, nodes
from consoled.secrets.vault import VaultSettings
from consoled.transcript.names import check_name
from consoled.transcript.settings import TranscriptSettings
from consoled.units import FilePath, Size, units

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


class ConfigError(Exception):
    """The configuration cannot be used; the text says where and why."""


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class HttpSettings(_Table, frozen=True, kw_only=True):
    """`[http]`."""

    listen: tuple[str, ...] = ("tcp:8080:interface=127.0.0.1",)
    """Twisted server endpoint descriptions."""
    insecure: bool = False
    """Listen beyond loopback although nobody has to log in."""


class HubSettings(_Table, frozen=True, kw_only=True):
    """`[hub]`."""

    state: FilePath = FilePath("/var/lib/consoled")
    """A directory for what the daemon has to remember (host keys that were trusted on first use)."""
    max_dials: Annotated[int, msgspec.Meta(ge=1)] = 128
    """How many connections may be begun at once; those that take longer than half a second do not count."""
    max_dials_each_host: Annotated[int, msgspec.Meta(ge=1)] = 8
    """How many may be under way to one host, such as a terminal server with many ports."""
    max_clients: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    """How many clients may be attached at once."""
    ring: Size = Size(256 * 1024)
    """The newest bytes of each console that are kept in memory."""
    tag: Annotated[str, msgspec.Meta(pattern=r"^[ -~]{1,64}\Z")] = "<ConMan>"
    """What the daemon's own lines in the stream begin with."""

    def __post_init__(self) -> None:
        if self.ring < 4096:
            raise ValueError("ring must be at least 4096 bytes")


class AuthSettings(_Table, frozen=True, kw_only=True):
    """`[auth]`.  Without it everybody may do everything, and the daemon listens on loopback only."""

    tokens: FilePath
    """The tokens file."""


class _Sections(_Table, frozen=True, kw_only=True):
    """What is the same before and after checking."""

    http: HttpSettings = HttpSettings()
    hub: HubSettings = HubSettings()
    transcript: TranscriptSettings
    csm: CsmSettings = CsmSettings()
    auth: AuthSettings | None = None
    vault: VaultSettings | None = None
    tenants: dict[str, str] = {}


class Config(_Sections, frozen=True, kw_only=True):
    """The whole file, checked: consoles complete, paths absolute."""

    consoles: tuple[AnyConsole, ...]


class _File(_Sections, frozen=True, kw_only=True):
    """The file as it is written."""

    defaults: dict[str, Any] = {}
    group: list[dict[str, Any]] = []
    console: list[dict[str, Any]] = []


def load(path: Path) -> Config:
    """Read and check the file at `path`.  Raises `ConfigError`."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        private = not path.stat().st_mode & stat.S_IROTH
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    directory = str(path.parent)
    try:
        return _checked(_convert(raw, _File, directory, private), directory, private)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _checked(file: _File, directory: str, private: bool) -> Config:
    for listen in file.http.listen:
        if file.auth is None and not file.http.insecure and not is_loopback(listen):
            raise ConfigError(
                f"http.listen: {listen!r} is not known to be loopback, and without [auth] everybody could come in; "
                "configure [auth], or say http.insecure = true"
            )
    sections = {name: getattr(file, name) for name in _Sections.__struct_fields__}
    return Config(**sections, consoles=_consoles(file, directory, private))


def _consoles(file: _File, directory: str, private: bool) -> tuple[AnyConsole, ...]:
    known = {field for kind in KINDS.values() for field in kind.__struct_fields__} | {"kind", *OWN_KEYS}
    for key in file.defaults.keys() - known | file.defaults.keys() & {"name", "group"}:
        raise ConfigError(f"defaults.{key}: no kind of console has this key")
    for index, group in enumerate(file.group):
        for key in group.keys() - known:
            raise ConfigError(f"group[{index}].{key}: no kind of console has this key")
    consoles = []
    try:
        for node in nodes(file.console, file.group, file.defaults, directory):
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
            consoles.append(_convert(table, kind, directory, private, node.where))
    except InventoryError as error:
        raise ConfigError(str(error)) from None
    return tuple(consoles)


def _convert(value: Any, kind: Any, directory: str, private: bool, where: str = "") -> Any:
    """`value` as `kind`; relative paths begin at `directory`.  Raises `ConfigError` that names the key.

    Unless the file is `private`, no secret may stand in it.
    """
    decode = units(directory)

    def decode_privately(kind: type, value: Any) -> Any:
        if kind is Secret and isinstance(value, str) and not private:
            raise ValueError("a secret stands in a file that others can read: chmod o-r, or say where else it is")
        return decode(kind, value)

    try:
        return msgspec.convert(value, kind, dec_hook=decode_privately)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        key = (where + path.rstrip("`")).lstrip(".")
        raise ConfigError(f"{key}: {text}" if key else text) from None


_ARGUMENT = re.compile(r"(?:^|:)((?:\\.|[^:\\])*)")


def is_loopback(description: str) -> bool:
    """Whether a Twisted server endpoint description can only be reached from this machine.

    Where that cannot be seen from the text (a socket that systemd hands over, a plugin's endpoint), it is no.
    """
    kind, *arguments = [re.sub(r"\\(.)", r"\1", part) for part in _ARGUMENT.findall(description)]
    options: Mapping[str, str] = dict(part.split("=", 1) for part in arguments if "=" in part)
    if kind == "unix":
        return True
    if kind not in ("tcp", "ssl", "tcp6"):
        return False
    interface = options.get("interface", "")
    if interface == "localhost":
        return True
    try:
        return ip_address(interface).is_loopback
    except ValueError:
        return False
