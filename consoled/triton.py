"""Triton's own services: which machine is whose (VMAPI), and where its console listens (CNAPI).

Asked for each machine whose console somebody wants: `machines` asks VMAPI before a client is let in, the backend
`triton` asks CNAPI at each dial.  No console byte passes through here.  Documents: sdc-vmapi, "GetVm"; sdc-cnapi,
"VmConsole" (RFD 189).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar
from urllib.parse import quote

import msgspec
from twisted.internet.defer import Deferred

from consoled.fetch import Unreachable

_Answer = TypeVar("_Answer")

UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

STATES: Final = {
    **dict.fromkeys(("configured", "incomplete", "unavailable", "provisioning"), "provisioning"),
    **dict.fromkeys(("halting", "stopping", "shutting_down"), "stopping"),
    **dict.fromkeys(("off", "down", "installed", "stopped"), "stopped"),
    "running": "running",
    "ready": "ready",
    "unreachable": "offline",
    "destroyed": "deleted",
    "failed": "failed",
}
"""What CloudAPI calls VMAPI's states; any other is `unknown`."""


class UnknownMachine(Exception):
    """There is no such machine, or it is somebody else's."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What VMAPI says of a machine."""

    uuid: str
    owner: str
    """The account's uuid."""
    state: str
    """In CloudAPI's words."""
    brand: str
    server: str | None
    """The compute node that it is on."""
    role_tags: frozenset[str] = frozenset()
    """The uuids of the roles that it is tagged with."""


class Http(Protocol):
    """What is wanted of `fetch.Fetcher`."""

    def get(self, url: str, headers: dict[str, str] | None = None) -> Deferred[tuple[int, bytes]]:
        """The status and body of the answer.  Fails with `Unreachable`."""


class _Vm(msgspec.Struct, frozen=True):
    uuid: str
    owner_uuid: str
    state: str
    brand: str
    server_uuid: str | None = None
    internal_metadata: dict[str, object] = {}
    role_tags: tuple[str, ...] = ()


class _Socket(msgspec.Struct, frozen=True):
    host: str
    port: int


class Triton:
    """VMAPI and CNAPI of one data centre."""

    def __init__(self, http: Http, vmapi: str, cnapi: str) -> None:
        """`vmapi` and `cnapi` are the services' URLs."""
        self._http = http
        self._vmapi = vmapi.rstrip("/")
        self._cnapi = cnapi.rstrip("/")

    async def machine(self, uuid: str, owner: str | None) -> Machine:
        """The machine `uuid` of the account `owner` (None: of any).  Raises `UnknownMachine` or `Unreachable`."""
        if not (UUID.fullmatch(uuid) and (owner is None or UUID.fullmatch(owner))):
            raise UnknownMachine(uuid)
        whose = "" if owner is None else f"owner_uuid={owner}&"
        status, body = await self._http.get(f"{self._vmapi}/vms/{uuid}?{whose}fields=*,role_tags")
        if status in (404, 409):  # 409: VMAPI finds that this is no uuid
            raise UnknownMachine(uuid)
        vm = _decoded("VMAPI", status, body, _Vm)
        if (vm.uuid, vm.owner_uuid) != (uuid, owner or vm.owner_uuid):
            raise UnknownMachine(uuid)  # it should have asked itself, but the answer is what counts
        if vm.internal_metadata.get("sdc:system_role") == "nfsvolumestorage":
            raise UnknownMachine(uuid)  # the system's own, which CloudAPI hides
        state = STATES.get(vm.state, "unknown")
        return Machine(uuid, vm.owner_uuid, state, vm.brand, vm.server_uuid, frozenset(vm.role_tags))

    async def socket(self, machine: Machine, port: int = 0) -> tuple[str, int]:
        """Host and port where the console of its serial `port` listens now.  Raises `Unreachable`."""
        if machine.server is None:
            raise Unreachable("VMAPI names no server for the machine")
        url = f"{self._cnapi}/servers/{quote(machine.server, safe='')}/vms/{machine.uuid}/console"
        status, body = await self._http.get(f"{url}?port={port}" if port else url)
        socket = _decoded("CNAPI", status, body, _Socket)
        if not socket.host or not 0 < socket.port < 65536:
            raise Unreachable("CNAPI answered with no usable address")
        return socket.host, socket.port


def _decoded(service: str, status: int, body: bytes, kind: type[_Answer]) -> _Answer:
    """The answer as `kind`.  What it says beyond that is nobody's business, least of all the client's."""
    if status != 200:
        raise Unreachable(f"{service} answered {status}")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Unreachable(f"{service} answered with something else than was asked for") from None
