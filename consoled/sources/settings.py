"""What the file says of a source, and what is made of one entry of its answer.

Read by `config`.  `table` is asked by `offers` for each entry, at each new answer and at each reload: what the file
says is not kept with the answers.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

import msgspec

from consoled.consoles import KINDS, kept
from consoled.core.secret import Secret
from consoled.inventory import Table
from consoled.units import Duration, FilePath

Url = Annotated[str, msgspec.Meta(pattern=r"^https?://[^/?#@\s]+(/[^#\s]*)?\Z")]
UrlOrNone = Annotated[str, msgspec.Meta(pattern=r"^(https?://[^/?#@\s]+(/[^#\s]*)?)?\Z")]

_LOOPBACK: Final = re.compile(r"http://(127\.0\.0\.1|\[::1\]|localhost)(:\d+)?([/?]|\Z)")


class SourceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """One `[[source]]`."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")]
    """What it is called: in the log, and in the state directory."""
    interval: Duration = Duration(0)
    """How often it is asked; 0: at the start and at a reload only."""
    limit: Duration = Duration(30)
    """For how long it may take to answer; more than 0."""
    max_shrink: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.2
    """The share of its consoles that may go away within an hour; an answer without more of them is held back."""
    max_consoles: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 20_000
    """How many consoles it may have; an answer with more counts as none."""
    group: str = ""
    """The `[[group]]` of its consoles, unless they say another."""

    def __post_init__(self) -> None:
        if not self.limit:
            raise ValueError("limit: must be more than 0")

    @property
    def is_trusted(self) -> bool:
        """Whether its consoles may run programs and name files and secrets of this machine."""
        return True

    def table(self, entry: Table) -> Table:
        """The table of a console for one entry of its answer.  Raises `ValueError` that begins with a key."""
        return {"group": self.group} | kept(entry)


class CommandSource(SourceSettings, frozen=True, kw_only=True, tag="command"):
    """A program that prints its consoles."""

    command: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Its argument list; no shell.  It prints a list of consoles as JSON, and ends with status 0."""


class _OverHttp(SourceSettings, frozen=True, kw_only=True):
    """A source that is asked over HTTP."""

    token: Secret | None = None
    """The bearer token that it wants, if any."""
    ca: FilePath = FilePath()
    """A PEM file of the authorities that may sign its certificate.  Empty: the system's."""
    fingerprint: str = ""
    """The SHA-256 of its certificate, in hex: then neither authority nor name count."""
    unsafe_plaintext: bool = False
    """Ask over plain HTTP: whoever sits between may send the daemon, and its passwords, anywhere."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ca and self.fingerprint:
            raise ValueError('"ca" is not asked with "fingerprint"')
        for key, url in self.urls.items():
            if url.startswith("https://") or _LOOPBACK.match(url):
                continue
            if not self.unsafe_plaintext:
                raise ValueError(f"{key}: it must begin with https://, or say unsafe_plaintext = true")
            if self.token is not None:
                raise ValueError("token: it is not sent over plain HTTP")

    @property
    def urls(self) -> dict[str, str]:
        """Where it is, by key."""
        raise NotImplementedError


class HttpSource(_OverHttp, frozen=True, kw_only=True, tag="http"):
    """A web server that has a list of consoles as JSON."""

    url: Url
    """Where it is; asked by GET, and no redirect is followed."""
    trusted: bool = False
    """Whether its consoles may run programs and name files and secrets, as those of the file may."""

    @property
    def urls(self) -> dict[str, str]:
        return {"url": self.url}

    @property
    def is_trusted(self) -> bool:
        return self.trusted


_CREDS: Final = "secret/hms-creds/{bmc}"
_LOGIN: Final[Table] = {
    "user": "{user}",
    "user_from": {"vault": _CREDS, "field": "Username"},
    "password": {"vault": _CREDS, "field": "Password"},
}
_KEY: Final = {"vault": "transit/export/signing-key/mountain-bmc-console", "field": "keys"}
CLASSES: Final[dict[str, Table]] = {
    "river": {"kind": "ipmi", "address": "{fqdn}", **_LOGIN},
    "mountain": {"kind": "ssh", "address": "{bmc}", "user": "{node}", "key": _KEY},
    "paradise": {"kind": "ssh", "address": "{fqdn}:2200", **_LOGIN},
}
"""How the nodes of each class are reached, unless the file says otherwise."""
_INSTEAD: Final = {"user_from": {"user", "password"}, "key": {"agent", "key_files", "password"}}
"""What is not said where the file says one of these."""


def _class_table(node_class: str, own: Table) -> Table:
    """How the nodes of a class are reached, as the file has it that says `own`."""
    said = CLASSES[node_class] | own
    fields = KINDS[said["kind"]].__struct_fields__ if said["kind"] in KINDS else ()
    default = {
        key: value
        for key, value in CLASSES[node_class].items()
        if key in fields and not _INSTEAD.get(key, set()) & own.keys()
    }
    return default | {"kind": said["kind"]} | own


class CsmSource(_OverHttp, frozen=True, kw_only=True, tag="csm"):
    """The inventory of a CSM system."""

    hsm: UrlOrNone = ""
    """The Hardware State Manager, with its version: `"https://api-gw-service-nmn.local/apis/smd/hsm/v2"`."""
    sls: UrlOrNone = ""
    """The System Layout Service, with its version: for aliases, and for the nodes themselves if there is no `hsm`."""
    names: Literal["xname", "alias"] = "xname"
    """What the consoles are called; a node without an alias goes by its xname."""
    bmc_user: str = "root"
    """`{user}` of a BMC of which HSM knows none; it counts where a class has a `user` or `password` of the file's."""
    river: dict[str, Any] = {}
    """Any key of a console, for nodes of the class River, which are reached by IPMI."""
    mountain: dict[str, Any] = {}
    """The same for Mountain and Hill, which are reached by SSH with a key, by default the one that Vault exports."""
    paradise: dict[str, Any] = {}
    """The same for those of River that are known as Paradise, which are reached by SSH with a password."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.urls:
            raise ValueError("hsm: it is missing, and so is sls")

    @property
    def urls(self) -> dict[str, str]:
        return {key: url for key, url in (("hsm", self.hsm), ("sls", self.sls)) if url}

    @property
    def classes(self) -> dict[str, Table]:
        """The tables of the classes of nodes."""
        return {"river": self.river, "mountain": self.mountain, "paradise": self.paradise}

    def table(self, entry: Table) -> Table:
        """`entry` is a node as `csm` tells it: `name`, `class`, and in `let` what may stand in braces; or `why` not."""
        match entry:
            case {"why": str() as why}:
                raise ValueError(why)
            case {"name": str() as name, "class": str() as node_class, "let": dict() as let} if node_class in CLASSES:
                own = self.classes[node_class]
                let = let | own.get("let", {})
                return {"group": self.group} | _class_table(node_class, own) | {"name": name, "let": let}
        raise ValueError("class: it is no node")


AnySource = CommandSource | HttpSource | CsmSource
