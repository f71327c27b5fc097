"""VMAPI and CNAPI as the contract says, and as they do when they are not well."""

import json
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from consoled.fetch import Unreachable
from consoled.triton import Machine, Triton, UnknownMachine

UUID = "b2c5c0cb-0a0b-4a0e-9a0e-1b2c3d4e5f60"
OWNER = "930896af-bf8c-48d4-885c-6573a94b1853"
SERVER = "564d1b5c-2f2c-4b4d-8f1d-7d3f3c1a9d5e"
VM = {"uuid": UUID, "owner_uuid": OWNER, "state": "running", "brand": "kvm", "server_uuid": SERVER, "alias": "web",
      "tags": {}, "nics": [], "internal_metadata": {}}  # fmt: skip
MACHINE = Machine(UUID, OWNER, "running", "kvm", SERVER)


class Http:
    """A service that gives one answer, and remembers what it was asked."""

    def __init__(self, status: int = 200, body: Any = None, error: Exception | None = None) -> None:
        self.asked: list[str] = []
        self._answer = status, body if isinstance(body, bytes) else json.dumps(body).encode()
        self._error = error

    def get(self, url: str, headers: Any = None) -> Deferred[tuple[int, bytes]]:
        self.asked.append(url)
        return fail(self._error) if self._error else succeed(self._answer)


def machine(http: Http, uuid: str = UUID, owner: str = OWNER) -> Any:
    return done(Triton(http, "http://vmapi/", "http://cnapi").machine(uuid, owner))


def socket(http: Http, machine: Machine = MACHINE) -> Any:
    return done(Triton(http, "http://vmapi/", "http://cnapi/").socket(machine))


def done(coroutine: Any) -> Any:
    results: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    [result] = results
    if hasattr(result, "raiseException"):
        result.raiseException()
    return result


def test_T_RES_8_the_owner_is_part_of_the_query() -> None:
    http = Http(body=VM)
    assert machine(http) == MACHINE
    assert http.asked == [f"http://vmapi/vms/{UUID}?owner_uuid={OWNER}&fields=*,role_tags"]


def test_T_RES_8_and_checked_on_the_answer() -> None:
    for other in ({"owner_uuid": UUID}, {"uuid": OWNER}):
        with pytest.raises(UnknownMachine):
            machine(Http(body=VM | other))


@pytest.mark.parametrize(
    ("state", "name"),
    [
        ("running", "running"), ("configured", "provisioning"), ("provisioning", "provisioning"),
        ("shutting_down", "stopping"), ("installed", "stopped"), ("stopped", "stopped"), ("unreachable", "offline"),
        ("destroyed", "deleted"), ("failed", "failed"), ("ready", "ready"), ("dreaming", "unknown"),
    ],
)  # fmt: skip
def test_T_RES_5_states_in_cloudapis_words(state: str, name: str) -> None:
    assert machine(Http(body=VM | {"state": state})).state == name


def test_T_RES_2_3_unknown_machines() -> None:
    for http in (
        Http(404, {"code": "ResourceNotFound", "message": "VM not found"}),
        Http(409, {"code": "ValidationFailed"}),
        Http(body=VM | {"internal_metadata": {"sdc:system_role": "nfsvolumestorage"}}),
    ):
        with pytest.raises(UnknownMachine):
            machine(http)


@pytest.mark.parametrize("uuid", ["x", "", "..", UUID.upper(), UUID + "/../x", UUID + "\n", f"{UUID}?owner_uuid="])
def test_T_RES_4_what_is_no_uuid_is_not_sent(uuid: str) -> None:
    http = Http(body=VM)
    with pytest.raises(UnknownMachine):
        machine(http, uuid)
    with pytest.raises(UnknownMachine):
        machine(http, owner=uuid)
    assert not http.asked


@pytest.mark.parametrize(
    "http",
    [
        Http(500, {"code": "InternalError"}), Http(503, b""), Http(302, b""), Http(200, b"not json"),
        Http(200, b'"text"'), Http(200, []), Http(200, {"uuid": UUID}), Http(200, VM | {"state": 5}),
        Http(200, b"\xff\xfe"), Http(error=Unreachable("http://vmapi: refused")),
    ],
)  # fmt: skip
def test_T_RES_7_vmapi_fails(http: Http) -> None:
    with pytest.raises(Unreachable) as caught:
        machine(http)
    assert "InternalError" not in str(caught.value)


def test_T_ERR_8_cnapi_is_asked_for_server_and_machine() -> None:
    http = Http(body={"host": "10.0.0.5", "port": 45678, "type": "socket"})
    assert socket(http) == ("10.0.0.5", 45678)
    assert http.asked == [f"http://cnapi/servers/{SERVER}/vms/{UUID}/console"]


@pytest.mark.parametrize(
    "answer",
    [
        {}, {"host": "10.0.0.5"}, {"port": 1}, {"host": 5, "port": 1}, {"host": "10.0.0.5", "port": "45678"},
        {"host": "", "port": 1}, {"host": "h", "port": 0}, {"host": "h", "port": 65536}, {"host": "h", "port": True},
        {"host": None, "port": None}, [], "x", {"host": "h", "port": 1.5},
    ],
)  # fmt: skip
def test_T_ERR_2_an_object_that_is_no_address(answer: Any) -> None:
    with pytest.raises(Unreachable):
        socket(Http(body=answer))


def test_T_ERR_1_3_cnapi_fails() -> None:
    for http in (Http(404, {}), Http(500, {}), Http(409, {}), Http(error=Unreachable("gone"))):
        with pytest.raises(Unreachable):
            socket(http)
    with pytest.raises(Unreachable, match="no server"):
        socket(Http(body={}), Machine(UUID, OWNER, "running", "kvm", None))
