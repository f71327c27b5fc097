"""The inventory of a CSM system: HSM's state components and Redfish endpoints, or SLS's hardware.

Asked by the keeper.  A question that fails makes the whole answer fail, so that an outage of one service never looks
like a system without nodes.  A node whose BMC has no endpoint in HSM is left out, as it cannot be reached.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import msgspec

from consoled.inventory import Table
from consoled.sources.listing import Around, Web, decoded
from consoled.sources.settings import CsmSource

PARADISE: Final = ("HPE Cray Supercomputing XD224", "1A62WCB00-600-G")
"""The models of nodes that are of no class of their own in HSM, and have another sort of BMC."""

_CLASSES: Final = {"river": "river", "mountain": "mountain", "hill": "mountain"}
_NODE: Final = re.compile(r"(x\d+c\d+s\d+b\d+)(n\d+)", re.ASCII)
_HOST: Final = re.compile(r"\w[\w.-]{0,252}", re.ASCII)
_USER: Final = re.compile(r"\w[\w.@-]{0,63}", re.ASCII)
_ALIAS: Final = re.compile(r"\w[\w.-]{0,63}", re.ASCII)


class Component(msgspec.Struct, frozen=True):
    """One of HSM's `/State/Components`."""

    ID: str = ""
    Type: str = ""
    Class: str | None = None


class Endpoint(msgspec.Struct, frozen=True):
    """One of HSM's `/Inventory/RedfishEndpoints`."""

    ID: str = ""
    Hostname: str | None = None
    Domain: str | None = None
    FQDN: str | None = None
    User: str | None = None

    @property
    def host(self) -> str:
        """Its name in DNS."""
        if self.FQDN:
            return self.FQDN
        return f"{self.Hostname}.{self.Domain}" if self.Hostname and self.Domain else self.ID


class Extra(msgspec.Struct, frozen=True):
    """What SLS knows of a piece of hardware beside its place."""

    Aliases: tuple[str, ...] | None = None


class Piece(msgspec.Struct, frozen=True):
    """One of SLS's `/hardware`."""

    Xname: str = ""
    TypeString: str = ""
    Class: str | None = None
    ExtraProperties: Extra | None = None


class _Components(msgspec.Struct, frozen=True):
    Components: tuple[Component, ...]


class _Endpoints(msgspec.Struct, frozen=True):
    RedfishEndpoints: tuple[Endpoint, ...]


class _FruInfo(msgspec.Struct, frozen=True):
    Model: str | None = None


class _Fru(msgspec.Struct, frozen=True):
    NodeFRUInfo: _FruInfo | None = None


class _Hardware(msgspec.Struct, frozen=True):
    ID: str = ""
    PopulatedFRU: _Fru | None = None

    @property
    def is_paradise(self) -> bool:
        fru = self.PopulatedFRU
        return fru is not None and fru.NodeFRUInfo is not None and fru.NodeFRUInfo.Model in PARADISE


class Csm:
    """One CSM system."""

    def __init__(self, settings: CsmSource, web: Web, around: Around) -> None:
        self._settings = settings
        self._web = web
        self._around = around

    async def ask(self) -> list[Table]:
        """See `listing.Source`.  Each is a `name`, a `class`, and in `let` what may stand in braces."""
        settings, in_thread = self._settings, self._around.in_thread
        aliases: dict[str, str] = {}
        if settings.sls:
            body = await self._web.get(f"{settings.sls.rstrip('/')}/hardware")
            pieces = await in_thread(decoded, body, tuple[Piece, ...], "SLS's list of hardware")
            aliases = await in_thread(first_aliases, pieces)
            if not settings.hsm:
                components, endpoints = await in_thread(as_hsm_would, pieces)
                return await self._listed(components, endpoints, (), aliases)
        hsm = settings.hsm.rstrip("/")
        body = await self._web.get(f"{hsm}/State/Components?type=Node")
        components = (await in_thread(decoded, body, _Components, "HSM's list of components")).Components
        body = await self._web.get(f"{hsm}/Inventory/RedfishEndpoints")
        endpoints = (await in_thread(decoded, body, _Endpoints, "HSM's list of endpoints")).RedfishEndpoints
        body = await self._web.get(f"{hsm}/Inventory/Hardware?Manufacturer=Foxconn&Type=Node")
        hardware = await in_thread(decoded, body, tuple[_Hardware, ...] | None, "HSM's list of hardware")
        paradise = {one.ID for one in hardware or () if one.is_paradise}
        return await self._listed(components, endpoints, paradise, aliases)

    async def _listed(self, *answers: Any) -> list[Table]:
        nodes: list[Table] = await self._around.in_thread(listed, self._settings, *answers)
        return nodes


def first_aliases(pieces: Iterable[Piece]) -> dict[str, str]:
    """The first alias of each that has any."""
    return {
        piece.Xname: piece.ExtraProperties.Aliases[0]
        for piece in pieces
        if piece.ExtraProperties is not None and piece.ExtraProperties.Aliases
    }


def as_hsm_would(pieces: Iterable[Piece]) -> tuple[list[Component], list[Endpoint]]:
    """The nodes among SLS's `pieces`, and their BMCs, which SLS knows by their xnames."""
    components = [Component(piece.Xname, "Node", piece.Class) for piece in pieces if piece.TypeString == "Node"]
    found = (_NODE.fullmatch(component.ID) for component in components)
    return components, [Endpoint(bmc) for bmc in {node[1] for node in found if node}]


def listed(
    settings: CsmSource,
    components: Iterable[Component],
    endpoints: Iterable[Endpoint],
    paradise: Collection[str],
    aliases: Mapping[str, str],
) -> list[Table]:
    """The nodes as tables, in an order that does not depend on that of the answers."""
    known = {endpoint.ID: endpoint for endpoint in endpoints}
    nodes = (_node(settings, one, known, one.ID in paradise, aliases) for one in components if one.Type == "Node")
    return sorted((node for node in nodes if node is not None), key=lambda node: str(node["name"]))


def _node(
    settings: CsmSource,
    component: Component,
    endpoints: Mapping[str, Endpoint],
    is_paradise: bool,
    aliases: Mapping[str, str],
) -> Table | None:
    xname = component.ID
    found = _NODE.fullmatch(xname)
    if found is None:
        return {"name": xname, "why": "ID: it is not the xname of a node" if xname else "ID: is missing"}
    bmc, node = found.groups()
    endpoint = endpoints.get(bmc)
    if endpoint is None:
        return None
    known_class = _CLASSES.get((component.Class or "").lower())
    if known_class is None and not is_paradise:
        said = f"{component.Class!r} is none of River, Mountain and Hill" if component.Class else "is missing"
        return {"name": xname, "why": f"Class: {said}"}
    alias = aliases.get(xname, xname)
    let = {"xname": xname, "bmc": bmc, "node": node, "fqdn": endpoint.host, "alias": alias}
    let["user"] = endpoint.User or settings.bmc_user
    for key, shape in ("fqdn", _HOST), ("user", _USER), ("alias", _ALIAS):
        if not shape.fullmatch(let[key]):
            return {"name": xname, "why": f"{key}: {let[key]!r} cannot be one"}
    name = alias if settings.names == "alias" else xname
    return {"name": name, "class": "paradise" if is_paradise else known_class, "let": let}
