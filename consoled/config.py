"""The configuration: one TOML file into frozen, typed values.

`tap` loads it; every room gets the part that is its own.  Whatever is wrong is a `ConfigError` that names the file
and the key; what is allowed and unwise is in `caveats`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from consoled.api.cloudapi import CloudApiSettings
from consoled.api.csm import CsmSettings
from consoled.api.doors import LimitSettings
from consoled.api.metrics import MetricsSettings
from consoled.auth.certificates import CertificateRule
from consoled.auth.jwt_settings import JwtSettings
from consoled.auth.roles import RoleSettings
from consoled.auth.sinks import AuditSettings
from consoled.auth.tapms import TapmsSettings
from consoled.consoles import KINDS as KINDS
from consoled.consoles import AnyConsole, Making, check_keys, convert, kept
from consoled.consoles import ConfigError as ConfigError
from consoled.inventory import Placed, Table, others_can_read, placed
from consoled.listening.descriptions import is_loopback, is_proxied, port
from consoled.listening.settings import TlsSettings
from consoled.logbook import LogSettings
from consoled.secrets.vault import VaultSettings
from consoled.sources.offers import Offer
from consoled.sources.settings import AnySource, CsmSource
from consoled.transcript.settings import TranscriptSettings
from consoled.units import FilePath, Size


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
    """A directory for what the daemon has to remember: trusted host keys, what the sources said, links on hold."""
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
    metrics: MetricsSettings = MetricsSettings()
    auth: AuthSettings | None = None
    audit: AuditSettings = AuditSettings()
    log: LogSettings = LogSettings()
    vault: VaultSettings | None = None
    tenants: dict[str, str] = {}
    """A node set for each tenant, which is all that a user who is bound to this tenant sees."""
    tapms: TapmsSettings | None = None
    role: tuple[RoleSettings, ...] = ()
    source: tuple[AnySource, ...] = ()
    """Where there are consoles beside those of the file."""


class Config(_Sections, frozen=True, kw_only=True):
    """The whole file, checked: consoles complete, paths absolute."""

    consoles: tuple[AnyConsole, ...]
    groups: Mapping[str, frozenset[str]]
    """The names of the consoles of each group."""
    making: Making
    """How what the sources say is made into consoles."""

    @property
    def names(self) -> frozenset[str]:
        """The consoles' names."""
        return frozenset(console.name for console in self.consoles)


class _File(_Sections, frozen=True, kw_only=True):
    """The file as it is written."""

    include: str = ""
    """A pattern such as `"conf.d/*.toml"`: files with more of `[[console]]` and `[[group]]`."""
    defaults: dict[str, Any] = {}
    """Any key of a console but its name and group, for all consoles of the kinds that have it."""
    group: list[dict[str, Any]] = []
    """A `name`, and keys for all consoles that have it as their `group`; they beat the defaults."""
    console: list[dict[str, Any]] = []
    """The consoles: the keys of all kinds are here, those of each kind further down."""


class _Fragment(_Table, frozen=True, kw_only=True):
    """A file that is included.  Relative paths in it begin where those of the main file do."""

    group: list[dict[str, Any]] = []
    console: list[dict[str, Any]] = []


def load(path: Path) -> Config:
    """Read and check the file at `path`, and those that it includes.  Raises `ConfigError`."""
    try:
        raw, private = _read(path)
        directory = str(path.parent)
        file = convert(raw, _File, directory, private=private)
        consoles, groups = list(_placed("console", file.console, private)), list(_placed("group", file.group, private))
        for fragment, where in _included(file.include, path.parent):
            more, is_private = _read(fragment, where)
            try:
                tables = convert(more, _Fragment, directory)
            except ConfigError as error:
                raise ConfigError(f"{where}{error}") from None
            consoles += _placed(f"{where}console", tables.console, is_private)
            groups += _placed(f"{where}group", tables.group, is_private)
        defaults = kept(file.defaults) if private else file.defaults
        return _checked(file, Making.of(groups, defaults, directory), consoles, private)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _read(path: Path, where: str = "") -> tuple[Table, bool]:
    """What a file has, and whether others cannot read it."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")), not others_can_read(path)
    except OSError as error:
        raise ConfigError(f"{where}{error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}{error}") from None


def _included(pattern: str, directory: Path) -> Iterator[tuple[Path, str]]:
    """The files that `pattern` means, in the order of their names, each with how its complaints begin."""
    if not pattern:
        return
    place, name = os.path.split(pattern)
    if not name or not (directory / place).is_dir():
        raise ConfigError(f'include: {pattern!r}: write it as "conf.d/*.toml", with the name of a directory')
    for path in sorted((directory / place).glob(name)):
        if not path.name.startswith("."):
            yield path, f"{Path(place) / path.name}: "


def _placed(key: str, tables: Iterable[Table], private: bool) -> Placed:
    return placed(key, map(kept, tables) if private else tables)


def _checked(file: _File, making: Making, tables: Placed, private: bool) -> Config:
    listens = [("http.listen", index, listen) for index, listen in enumerate(file.http.listen)]
    listens += [("tls.listen", index, listen) for index, listen in enumerate(file.tls.listen if file.tls else ())]
    if not listens:
        raise ConfigError("http.listen: it is empty and there is no [tls]: nobody could come in")
    known: set[str] = set()
    for key, index, listen in listens:
        if listen in known:
            raise ConfigError(f"{key}[{index}]: {listen!r} is there already")
        known.add(listen)
        if not 0 <= port(listen) <= 65535:
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
    sources = tuple(_source(index, source, private) for index, source in enumerate(file.source))
    for index, source in enumerate(sources):
        if source.name in (other.name for other in sources[:index]):
            raise ConfigError(f"source[{index}].name: {source.name} is there already")
        if source.group not in making.inherited:
            raise ConfigError(f"source[{index}].group: there is no group {source.group!r}")
    sections["source"] = sources
    consoles = []
    groups: dict[str, set[str]] = {str(name): set() for name in making.inherited if name}
    for settings, group in making.consoles(tables):
        consoles.append(settings)
        if group:
            groups[group].add(settings.name)
    return Config(**sections, consoles=tuple(consoles), groups=_frozen(groups), making=making)


def _source(index: int, source: AnySource, private: bool) -> AnySource:
    """`source` with its consoles' keys looked at, and its secrets marked if they stand in a `private` file."""
    if not isinstance(source, CsmSource):
        return source
    for name, table in source.classes.items():
        check_keys(f"source[{index}].{name}", table)
    return msgspec.structs.replace(
        source, **{name: kept(table) if private else table for name, table in source.classes.items()}
    )


def _frozen(groups: Mapping[str, set[str]]) -> dict[str, frozenset[str]]:
    return {name: frozenset(those) for name, those in groups.items()}


def complete(config: Config, offers: Mapping[str, Offer]) -> tuple[Config, tuple[str, ...]]:
    """`config`, as `load` gave it, with what its sources offer, by their names; and complaints about what is left out.

    A name belongs to the file, or else to the first source that has it.
    """
    consoles = list(config.consoles)
    groups = {name: set(those) for name, those in config.groups.items()}
    owners = {console.name: "the file" for console in consoles}
    machines = {(console.machine, console.machine_port) for console in consoles if console.machine}
    complaints = []
    for source, offer in offers.items():
        for name, (console, group) in offer.consoles.items():
            machine = (console.machine, console.machine_port)
            if name in owners:
                complaints.append(f"source {source}: {name} is left out: {owners[name]} has it")
            elif machine in machines:
                complaints.append(f"source {source}: {name} is left out: its machine has a console already")
            else:
                owners[name] = f"source {source}"
                consoles.append(console)
                if console.machine:
                    machines.add(machine)
                if group:
                    groups[group].add(name)
    complete = msgspec.structs.replace(config, consoles=tuple(consoles), groups=_frozen(groups))
    return complete, tuple(complaints)


FIXED = (("hub", "state"), ("transcript", "directory"), ("limits", "backlog"), ("log", "journal"))
"""What cannot be changed while the daemon runs: the table and the key."""


def settled(new: Config, old: Config) -> tuple[Config, tuple[str, ...]]:
    """`new` as a daemon that has begun with `old` can take it up, and the keys of `new` that take a restart."""
    keys = []
    for table, key in FIXED:
        section, was = getattr(new, table), getattr(getattr(old, table), key)
        if getattr(section, key) != was:
            keys.append(f"{table}.{key}")
            new = msgspec.structs.replace(new, **{table: msgspec.structs.replace(section, **{key: was})})
    return new, tuple(keys)


def tables(new: Config, old: Config) -> tuple[str, ...]:
    """The tables, other than those of consoles, that are others in `new` than in `old`."""
    return tuple(name for name in _Sections.__struct_fields__ if getattr(new, name) != getattr(old, name))
