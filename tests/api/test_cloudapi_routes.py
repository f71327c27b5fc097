"""CloudAPI's requests and refusals, clause by clause (T-RES, T-VER, T-UPG), through a whole site."""

from __future__ import annotations

from typing import Any

import pytest

from consoled.api.versions import satisfies
from tests.api.cloud import DB, FOREIGN, SERVER, X1, Cloud, md5, refused, vm
from tests.api.world import ACME, BARE, MACHINES

PATH = f"/acme/machines/{X1}/console"
FOUND = f"/acme/machines/{DB}/console"
VMAPI = f"/vms/{DB}?owner_uuid={ACME}"


def no(cloud: Cloud, status: int, code: str, path: str = PATH, headers: Any = ()) -> Any:
    """Refused in the same words, with and without the headers of an upgrade."""
    refused(cloud.attach(path, [*cloud.signed(path), *headers]).refusal, status, code)
    answer = cloud.get(path, [*cloud.signed(path), *headers])
    refused(answer, status, code)
    return answer


# ---------------------------------------------------------------------------------------------- T-RES


@pytest.mark.parametrize("login", ["acme", "my", ACME])
def test_t_res_1_the_account_by_login_by_uuid_and_as_my(cloud: Cloud, login: str) -> None:
    assert cloud.piped(f"/{login}/machines/{X1}/console")
    assert cloud.piped(f"/{login}/machines/{DB}/console")


def test_t_res_1_my_is_also_a_sub_users(cloud: Cloud) -> None:
    path = f"/my/machines/{X1}/console?as-role=ops"
    assert cloud.piped(path, cloud.signed(path, "bob"))


def test_an_unknown_account_in_the_path(cloud: Cloud) -> None:
    answer = no(cloud, 404, "ResourceNotFound", f"/nobody/machines/{X1}/console")
    assert answer.message == "nobody does not exist"


def test_t_res_2_an_unknown_machine(cloud: Cloud) -> None:
    answer = no(cloud, 404, "ResourceNotFound", "/acme/machines/11111111-1234-4567-89ab-0123456789ab/console")
    assert answer.message == "VM not found"


def test_t_res_3_another_owners_machine_looks_the_same(cloud: Cloud) -> None:
    for uuid in (FOREIGN, DB):
        owner = "acme" if uuid == FOREIGN else "globex"
        answer = no(cloud, 404, "ResourceNotFound", f"/{owner}/machines/{uuid}/console")
        assert answer.message == "VM not found"


@pytest.mark.parametrize("uuid", ["x", "..", "%2e%2e", "a%2fb", "*", "%00", "%ff", DB[:-1], DB + "0", "%0d%0aX:",
                                  f"{DB}%3Fowner_uuid=x", "b2c5c0cb0a0b4a0e9a0e1b2c3d4e5f60"])  # fmt: skip
def test_t_res_4_an_id_that_is_no_uuid_is_forwarded_to_nobody(cloud: Cloud, uuid: str) -> None:
    no(cloud, 404, "ResourceNotFound", f"/acme/machines/{uuid}/console")
    assert not cloud.services.asked


@pytest.mark.parametrize(
    "state", ["stopped", "off", "down", "halting", "provisioning", "unreachable", "failed", "ready", "?"]
)
def test_t_res_5_6_a_machine_that_does_not_run(cloud: Cloud, state: str) -> None:
    cloud.services.answers[VMAPI] = vm(state=state)
    answer = no(cloud, 400, "MachineStoppedError", FOUND)
    assert answer.message == "Cannot connect to a stopped machine"


def test_t_res_5_a_console_that_is_not_held(cloud: Cloud) -> None:
    no(cloud, 400, "MachineStoppedError", f"/acme/machines/{MACHINES['x3']}/console")


def test_a_brand_without_a_console(cloud: Cloud) -> None:
    cloud.services.answers[VMAPI] = vm(brand="lx")
    assert cloud.piped(FOUND)
    cloud.services.answers[VMAPI] = vm(brand="builder")
    answer = no(cloud, 400, "MachineHasNoConsoleError", FOUND)
    assert answer.message == "Instance type builder does not support console connections"


def test_the_systems_own_machines_are_not_there(cloud: Cloud) -> None:
    cloud.services.answers[VMAPI] = vm(internal_metadata={"sdc:system_role": "nfsvolumestorage"})
    no(cloud, 404, "ResourceNotFound", FOUND)


@pytest.mark.parametrize("answer", [(500, {"code": "InternalError", "message": "secret-address"}), (503, b""), b"",
                                    b"\xff", b"[]", {"uuid": DB}, (200, b"secret-address"), (302, b"")])  # fmt: skip
def test_t_res_7_vmapi_fails(cloud: Cloud, answer: Any) -> None:
    cloud.services.answers[VMAPI] = answer
    refusal = no(cloud, 503, "ServiceUnavailable", FOUND)
    assert "secret" not in refusal.message
    assert refusal.headers["retry-after"]


@pytest.mark.parametrize("what", ["down", "silent"])
def test_t_res_7_vmapi_does_not_answer(cloud: Cloud, what: str) -> None:
    getattr(cloud.services, what).add("vmapi")
    client = cloud.attach(FOUND)
    cloud.turn(3.5)
    refused(client.refusal, 503, "ServiceUnavailable")
    assert b"vmapi" not in client.refusal.body
    assert b"secret" not in client.refusal.body


def test_t_res_8_the_owner_is_part_of_the_query(cloud: Cloud) -> None:
    cloud.piped(FOUND)
    assert cloud.services.asked[0] == f"http://vmapi/vms/{DB}?owner_uuid={ACME}&fields=*,role_tags"


def test_t_res_8_and_checked_on_the_answer(cloud: Cloud) -> None:
    cloud.services.answers[VMAPI] = vm(owner=FOREIGN)
    no(cloud, 404, "ResourceNotFound", FOUND)


def test_t_res_9_a_plain_get(cloud: Cloud) -> None:
    for path in (PATH, FOUND):
        answer = cloud.get(path, cloud.signed(path))
        refused(answer, 400, "UpgradeRequiredError")
        assert answer.message == "Console connect endpoint is a websocket and must be upgraded"
    assert not cloud.found_consoles, "nothing is made for it"


def test_t_res_10_stopped_wins_over_the_upgrade(cloud: Cloud) -> None:
    cloud.services.answers[VMAPI] = vm(state="stopped")
    refused(cloud.get(FOUND, cloud.signed(FOUND)), 400, "MachineStoppedError")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_t_res_11_other_methods(cloud: Cloud, method: str) -> None:
    for headers in ([], cloud.signed(PATH)):
        answer = cloud.get(PATH, headers, method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET")
        if method != "HEAD":
            refused(answer, 405, "MethodNotAllowedError")
            assert answer.message == f"{method} is not allowed"


@pytest.mark.parametrize(
    "path", [f"/acme/machines/{X1}", "/acme/machines", f"/acme/machines/{X1}/console/", f"/acme/machines/{X1}/vnc/x"]
)
def test_an_unknown_path(cloud: Cloud, path: str) -> None:
    answer = cloud.get(path, cloud.signed(path))
    assert (answer.status, answer.json) == (404, {"code": "ResourceNotFound", "message": f"{path} does not exist"})


def test_the_order_of_checks(cloud: Cloud) -> None:
    """Each is the first that is wrong, and everything after it is wrong as well."""
    cloud.services.answers[VMAPI] = vm(state="stopped", brand="builder")
    nowhere = f"/nobody/machines/{FOREIGN}/console"
    bad = [("Accept-Version", "~8")]
    refused(cloud.get(nowhere, bad, "POST"), 405, "MethodNotAllowedError")
    refused(cloud.get(nowhere, [*bad, ("Authorization", "x")]), 400, "InvalidVersion")
    refused(cloud.get(nowhere, [("Authorization", "x")]), 400, "InvalidHeader")
    refused(cloud.get(nowhere, cloud.signed(nowhere, date="x")), 400, "InvalidHeader")
    refused(cloud.get(nowhere, cloud.signed(nowhere, "stranger")), 401, "InvalidCredentials")
    refused(cloud.get(nowhere, cloud.signed(nowhere, key_id=f"/closed/keys/{md5('rsa')}")), 403, "NotAuthorized")
    refused(cloud.get(nowhere, cloud.signed(nowhere, "bob")), 404, "ResourceNotFound")
    refused(cloud.get(FOUND, cloud.signed(FOUND, "bob")), 403, "NotAuthorized")
    refused(cloud.get(FOUND, cloud.signed(FOUND)), 400, "MachineStoppedError")
    cloud.services.answers[VMAPI] = vm(brand="builder")
    refused(cloud.get(FOUND, cloud.signed(FOUND)), 400, "MachineHasNoConsoleError")


def test_no_face_shadows_another(cloud: Cloud) -> None:
    assert cloud.joined("x1")
    assert cloud.get(f"{BARE}/nothing").status == 404
    assert cloud.get("/v1/nothing").status == 404
    answer = cloud.get("/--ping")
    assert (answer.status, answer.json) == (200, {"ping": "pong", "cloudapi": {"versions": ["9.0.0"]}})
    assert cloud.get("/--ping", method="POST").status == 405


# ---------------------------------------------------------------------------------------------- T-VER


@pytest.mark.parametrize("header", ["Accept-Version", "Api-Version", "X-Api-Version"])
@pytest.mark.parametrize(
    "version", ["~9||~8", "~9", "9.0.0", "*", ">=8", "^9", "9.x", "8 - 10", " ~9 || ~8 ", ">=8 <10"]
)
def test_t_ver_1_3_a_range_with_9_in_it(cloud: Cloud, header: str, version: str) -> None:
    assert cloud.piped(PATH, [*cloud.signed(PATH), (header, version)])


@pytest.mark.parametrize("header", ["Accept-Version", "Api-Version", "X-Api-Version"])
@pytest.mark.parametrize("version", ["~8", "~7||~8", "8.0.0", ">9", "<9", "banana", "9.0.0.0", "~9 banana", "9" * 300])
def test_t_ver_2_3_a_range_without(cloud: Cloud, header: str, version: str) -> None:
    answer = no(cloud, 400, "InvalidVersion", PATH, [(header, version)])
    assert answer.message == f"{version} is not supported by GET {PATH}"


def test_t_ver_1_as_npm_has_it() -> None:
    for text, good in {"": True, "~9||": True, "x": True, "~>9": True, "=9.0.0": True, "v9": True, "^9.0.1": False,
                       "~9.1": False, ">=9.0.0 <9.0.0": False, "<=9": True, "9.0.0 - 9": True}.items():  # fmt: skip
        assert satisfies((9, 0, 0), text) == good, text


# ---------------------------------------------------------------------------------------------- T-UPG


def test_t_upg_1_2_the_answer_to_an_upgrade(cloud: Cloud) -> None:
    for options in ({}, {"extensions": None}):
        client = cloud.piped(**options)
        assert client.response is not None
        headers = {name.lower(): value for name, value in client.response.headers.raw_items()}
        # watershed compares the whole value; websockets has checked the accept key.
        assert (headers["connection"].lower(), headers["upgrade"].lower()) == ("upgrade", "websocket")
        assert "sec-websocket-protocol" not in headers
        assert "sec-websocket-extensions" not in headers


def test_t_upg_1_as_node_triton_asks(cloud: Cloud) -> None:
    client = cloud.piped(PATH, [*cloud.signed(PATH), ("Connection", "upgrade"), ("Accept-Version", "~9||~8")])
    assert client.is_open


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(["binary"], "binary"), (["console"], "console"), (["console", "binary"], "console"),
     (["vnc", "binary", "console"], "binary"), (["base64", "console"], "console")],
)  # fmt: skip
def test_t_upg_3_the_first_that_is_ours(cloud: Cloud, offered: list[str], chosen: str) -> None:
    client = cloud.piped(subprotocols=offered)
    assert client.response is not None
    assert client.response.headers.get_all("Sec-WebSocket-Protocol") == [chosen]
    client.send(b"x")
    assert cloud.x1.heard == b"x"


def test_t_upg_4_none_that_is_ours(cloud: Cloud) -> None:
    for offered in (["vnc"], ["Binary"], ["base64", "chat"]):
        refused(cloud.attach(PATH, subprotocols=offered).refusal, 400, "InvalidArgument")


@pytest.mark.parametrize("header", [("Sec-WebSocket-Key", None), ("Sec-WebSocket-Key", "short"),
                                    ("Sec-WebSocket-Version", "8"), ("Sec-WebSocket-Version", None)])  # fmt: skip
def test_t_upg_5_what_is_no_upgrade(cloud: Cloud, header: Any) -> None:
    answer = cloud.attach(PATH, [*cloud.signed(PATH), header]).refusal
    refused(answer, 400, "InvalidArgument")
    assert answer.headers["sec-websocket-version"] == "13"


def test_t_upg_6_it_is_answered_in_time(cloud: Cloud) -> None:
    cloud.services.late = True
    client = cloud.attach(FOUND)
    assert client.response is None
    cloud.turn(4.0)
    refused(client.refusal, 503, "ServiceUnavailable")
    cloud.services.answer()  # it comes too late, and to nobody
    cloud.turn()
    assert not cloud.found_consoles


def test_t_upg_6_cnapi_is_asked_after_it(cloud: Cloud) -> None:
    cloud.services.silent.add("cnapi")
    assert cloud.piped(FOUND).is_open


def test_a_client_that_leaves_while_vmapi_is_asked(cloud: Cloud) -> None:
    cloud.services.late = True
    client = cloud.attach(FOUND)
    client.socket.hang_up()
    cloud.services.answer()
    cloud.turn()
    assert not cloud.found_consoles
    assert not cloud.sessions.sessions


def test_the_service_is_full_or_closes(cloud: Cloud) -> None:
    cloud.begin(max_clients=1)
    first = cloud.piped()
    refused(cloud.attach(PATH).refusal, 503, "ServiceUnavailable")
    assert first.is_open
    cloud.hub.close()
    first.receive()
    assert first.close_code == 1001
    refused(cloud.attach(PATH).refusal, 503, "ServiceUnavailable")


# ---------------------------------------------------------------------------------------------- beyond the original


@pytest.mark.parametrize("query", ["mode=x", "mode=tail&mode=tail", "lines=-1", "lines=x", "lines=99999999",
                                   "lines=1&lines=2", "port=2", "port=x", "port=", "lines=%D9%A3"])  # fmt: skip
def test_options_that_are_none(cloud: Cloud, query: str) -> None:
    no(cloud, 400, "InvalidArgument", f"{PATH}?{query}")


def test_a_flood_of_parameters(cloud: Cloud) -> None:
    no(cloud, 400, "InvalidArgument", f"{PATH}?{'&'.join(f'a{at}=1' for at in range(100))}")


def test_what_nobody_knows_is_ignored(cloud: Cloud) -> None:
    path = f"{PATH}?whatever=1&x"
    assert cloud.piped(path, cloud.signed(path))


def test_the_vnc_path_is_the_same(cloud: Cloud) -> None:
    client = cloud.piped(f"/acme/machines/{X1}/vnc")
    client.send(b"x")
    assert cloud.x1.heard == b"x"


def test_the_second_serial_port(cloud: Cloud) -> None:
    no(cloud, 404, "ResourceNotFound", f"{PATH}?port=1")
    cloud.services.answers = {
        f"/vms/{DB}/console?port=1": {"host": "10.0.0.6", "port": 7, "type": "socket"}
    } | cloud.services.answers
    first, wire = cloud.connected(FOUND)
    path = f"{FOUND}?port=1"
    second = cloud.piped(path, cloud.signed(path))
    assert cloud.net.calls[-1][:2] == ("10.0.0.6", 7)
    other = cloud.net.accept()
    cloud.turn()
    second.send(b"two")
    path = f"{FOUND}?port=0"
    third = cloud.piped(path, cloud.signed(path))
    third.send(b"one")
    assert (wire.sent(), other.sent()) == (b"one", b"two")
    assert first.is_open
    assert cloud.services.asked[-1] == f"http://vmapi/vms/{DB}?owner_uuid={ACME}&fields=*,role_tags"
    assert f"http://cnapi/servers/{SERVER}/vms/{DB}/console" in cloud.services.asked
