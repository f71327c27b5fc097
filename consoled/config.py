"""The configuration: one TOML file into frozen, typed values.

`tap` loads it; every room gets the part that is its own.  Whatever is wrong is a `ConfigError` that names the file
and the key.
"""

from __future__ import annotations

import os
import pwd
import re
import tomllib
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec

from consoled.api.cloudapi import CloudApiSettings
from consoled.api.csm import CsmSettings
from consoled.api.doors import LimitSettings
from consoled.auth.certificates import CertificateRule
from consoled.auth.jwt_settings import JwtSettings
from consoled.auth.roles import RoleSettings
from consoled.auth.sinks import AuditSettings
from consoled.auth.tapms import TapmsSettings
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
from consoled.inventory import OWN_KEYS, InventoryError, Kept, nodes, others_can_read
from consoled.listening.listeners import PROXIED, is_proxied
from consoled.listening.settings import TlsSettings
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
_SECRETS = {
    field.name
    for kind in KINDS.values()
    for field in msgspec.structs.fields(kind)
    if Secret in (field.type, *get_args(field.type))
}
"""The keys of a console that are secrets, whatever its kind."""


class ConfigError(Exception):
    """The configuration cannot be used; the text says where and why."""


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class HttpSettings(_Table, frozen=True, kw_only=True):
    """`[http]`."""

    listen: tuple[str, ...] = ("tcp:8080:interface=127.0.0.1",)
    """Twisted server endpoint descriptions.  May be empty if there are some in `[tls]`."""
    insecure: bool = False
    """Listen beyond loopback although nobody has to log in."""
    origins: tuple[str, ...] = ()
    """The origins of web pages that may use us, beside our own."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks of reverse proxies, or `local`, whose word about their clients is believed."""


class HubSettings(_Table, frozen=True, kw_only=True):
    """`[hub]`."""

    state: FilePath = FilePath("/var/lib/consoled")
    """A directory for what the daemon has to remember (host keys that were trusted on first use)."""
    max_dials: Annotated[int, msgspec.Meta(ge=1)] = 128
    """How many connections may be begun at once; those that take longer than a tenth of a second do not count."""
    max_dials_each_host: Annotated[int, msgspec.Meta(ge=1)] = 8
    """How many may be under way to one host, such as a terminal server with many ports."""
    max_clients: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    """How many clients may be attached at once."""
    ring: Size = Size(256 * 1024)
    """The newest bytes of each console that are kept in memory; 4 KiB or more."""
    tag: Annotated[str, msgspec.Meta(pattern=r"^[ -~]{1,64}\Z")] = "<ConMan>"
    """What the daemon's own lines in the stream begin with."""

    def __post_init__(self) -> None:
        if self.ring < 4096:
            raise ValueError("ring must be at least 4096 bytes")


class AuthSettings(_Table, frozen=True, kw_only=True):
    """`[auth]`.  Without it everybody may do everything, and the daemon listens on loopback only."""

    tokens: FilePath = FilePath()
    """The tokens file."""
    jwt: tuple[JwtSettings, ...] = ()
    """Identity providers whose tokens are taken."""
    certificate: tuple[CertificateRule, ...] = ()
    """Whose client certificates are good for what."""


class _Sections(_Table, frozen=True, kw_only=True):
    """What is the same before and after checking."""

    http: HttpSettings = HttpSettings()
    tls: TlsSettings | None = None
    limits: LimitSettings = LimitSettings()
    hub: HubSettings = HubSettings()
    transcript: TranscriptSettings
    csm: CsmSettings = CsmSettings()
    cloudapi: CloudApiSettings | None = None
    auth: AuthSettings | None = None
    audit: AuditSettings = AuditSettings()
    vault: VaultSettings | None = None
    tenants: dict[str, str] = {}
    """A node set for each tenant, which is all that a user who is bound to this tenant sees."""
    tapms: TapmsSettings | None = None
    role: tuple[RoleSettings, ...] = ()


class Config(_Sections, frozen=True, kw_only=True):
    """The whole file, checked: consoles complete, paths absolute."""

    consoles: tuple[AnyConsole, ...]
    groups: Mapping[str, frozenset[str]]
    """The names of the consoles of each group."""


class _File(_Sections, frozen=True, kw_only=True):
    """The file as it is written."""

    defaults: dict[str, Any] = {}
    """Any key of a console but its name and group, for all consoles of the kinds that have it."""
    group: list[dict[str, Any]] = []
    """A `name`, and keys for all consoles that have it as their `group`; they beat the defaults."""
    console: list[dict[str, Any]] = []
    """The consoles: the keys of all kinds are here, those of each kind further down."""


def load(path: Path) -> Config:
    """Read and check the file at `path`.  Raises `ConfigError`."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        private = not others_can_read(path)
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
    listens = [("http.listen", index, listen) for index, listen in enumerate(file.http.listen)]
    listens += [("tls.listen", index, listen) for index, listen in enumerate(file.tls.listen if file.tls else ())]
    if not listens:
        raise ConfigError("http.listen: it is empty and there is no [tls]: nobody could come in")
    known: set[str] = set()
    for key, index, listen in listens:
        if listen in known:
            raise ConfigError(f"{key}[{index}]: {listen!r} is there already")
        known.add(listen)
        if not 0 <= _port(listen) <= 65535:
            raise ConfigError(f"{key}[{index}]: {listen!r}: ports go from 0 to 65535")
        if listen.startswith("ssl:"):
            raise ConfigError(f"{key}[{index}]: {listen!r}: the listeners with TLS are those of [tls], as tcp:")
        if is_proxied(listen) and not file.http.trusted_proxies:
            raise ConfigError(f"{key}[{index}]: {listen!r} is for proxies, and http.trusted_proxies names none")
        if file.auth is None and not file.http.insecure and not is_loopback(listen):
            raise ConfigError(
                f"{key}: {listen!r} is not known to be loopback, and without [auth] everybody could come in; "
                "configure [auth], or say http.insecure = true"
            )
    if file.auth == AuthSettings() and not (file.cloudapi and (file.cloudapi.accounts or file.cloudapi.mahi)):
        raise ConfigError("auth.tokens: nobody could log in; say this, jwt or certificate, or have cloudapi.accounts")
    if file.auth is not None and file.auth.certificate and not (file.tls and file.tls.client_ca):
        raise ConfigError("auth.certificate: without tls.client_ca nobody is asked for a certificate")
    sections = {name: getattr(file, name) for name in _Sections.__struct_fields__}
    groups: dict[str, set[str]] = {str(group["name"]): set() for group in file.group if "name" in group}
    consoles = _consoles(file, directory, private, groups)
    return Config(**sections, consoles=consoles, groups={name: frozenset(those) for name, those in groups.items()})


def _consoles(file: _File, directory: str, private: bool, groups: dict[str, set[str]]) -> tuple[AnyConsole, ...]:
    """All consoles, complete; each is put into its group."""
    known = {field for kind in KINDS.values() for field in kind.__struct_fields__} | {"kind", *OWN_KEYS}
    for key in file.defaults.keys() - known | file.defaults.keys() & {"name", "group"}:
        raise ConfigError(f"defaults.{key}: no kind of console has this key")
    for index, group in enumerate(file.group):
        for key in group.keys() - known:
            raise ConfigError(f"group[{index}].{key}: no kind of console has this key")
    consoles = []
    try:
        for node in nodes(file.console, file.group, file.defaults, directory, _SECRETS):
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
            settings = _convert(table, kind, directory, private, node.where)
            if complaint := settings.complaint():
                raise ConfigError(f"{node.where}.{complaint}")
            consoles.append(settings)
            if node.group:
                groups[node.group].add(node.name)
    except InventoryError as error:
        raise ConfigError(str(error)) from None
    return tuple(consoles)


def _convert(value: Any, kind: Any, directory: str, private: bool, where: str = "") -> Any:
    """`value` as `kind`; relative paths begin at `directory`.  Raises `ConfigError` that names the key.

    Unless the file is `private`, no secret may stand in it.
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


def missing(config: Config) -> Iterator[str]:
    """What consoles name and this machine has not, each with its key: users and files.

    For `--check`.  The daemon starts without them: they may come later, and are looked for at each dial.
    """
    for console in config.consoles:
        files = {f"key_files[{index}]": file for index, file in enumerate(getattr(console, "key_files", ()))}
        if (tls := getattr(console, "tls", None)) is not None:
            files |= {f"tls.{key}": getattr(tls, key) for key in ("ca", "certificate", "key")}
        for key, file in files.items():
            if file and not os.path.exists(file):  # noqa: PTH110  # it is a `str`, and there may be thousands
                yield f"console {console.name}: {key}: there is no file {file}"
        if isinstance(console, ProcessSettings) and console.user:
            try:
                pwd.getpwnam(console.user)
            except KeyError:
                yield f"console {console.name}: user: there is no user {console.user!r}"


def warnings(config: Config) -> Iterator[str]:
    """What is allowed and unsafe, each with its key.  Said at every start."""
    clear = [listen for listen in config.http.listen if not is_loopback(listen)]
    if config.auth is not None and clear:
        yield f"http.listen: whoever sits between clients and {', '.join(clear)} sees their tokens; [tls] is safe"
    anybody = [one.name for one in config.consoles if getattr(getattr(one, "tls", None), "unsafe_any_certificate", 0)]
    if anybody:
        more = f" and {len(anybody) - 5} more" if len(anybody) > 5 else ""
        yield (
            f"tls.unsafe_any_certificate: whoever sits between here and {', '.join(anybody[:5])}{more} "
            "may read and type there"
        )


_KEYED = re.compile(r"([a-z_]+(?:\.[a-z_]+)*): ")
_ARGUMENT = re.compile(r"(?:^|:)((?:\\.|[^:\\])*)")


def is_loopback(description: str) -> bool:
    """Whether a Twisted server endpoint description can only be reached from this machine.

    Where that cannot be seen from the text (a socket that systemd hands over, a plugin's endpoint), it is no; so it is
    for a proxy's, whose clients come from anywhere.
    """
    if is_proxied(description):
        return False
    kind, _, options = _endpoint(description)
    if kind == "unix":
        return True
    if kind not in ("tcp", "tcp6"):
        return False
    interface = options.get("interface", "")
    if interface == "localhost":
        return True
    try:
        return ip_address(interface).is_loopback
    except ValueError:
        return False


def _port(description: str) -> int:
    """The TCP port of a Twisted server endpoint description; 0 if that cannot be seen from the text."""
    kind, arguments, options = _endpoint(description)
    text = options.get("port", arguments[0] if arguments else "")
    return int(text) if kind in ("tcp", "tcp6") and re.fullmatch(r"-?\d{1,20}", text, re.ASCII) else 0


def _endpoint(description: str) -> tuple[str, list[str], Mapping[str, str]]:
    bare = description.removeprefix(PROXIED)
    kind, *arguments = [re.sub(r"\\(.)", r"\1", part) for part in _ARGUMENT.findall(bare)]
    return kind, arguments, dict(part.split("=", 1) for part in arguments if "=" in part)
