"""The machines behind CloudAPI's consoles: found, moved, gone and forgotten; and what is written down (T-OPS)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.error import ConnectionRefusedError

from consoled.backends.settings import ConsoleSettings
from consoled.machines import Machines
from tests.api.cloud import DB, SERVER, X1, Cloud, body, md5, refused, vm
from tests.api.world import ACME, bearer
from tests.fakes import result

PATH = f"/acme/machines/{X1}/console"
FOUND = f"/acme/machines/{DB}/console"
VMAPI = f"/vms/{DB}?owner_uuid={ACME}"
ELSEWHERE = "22222222-2f2c-4b4d-8f1d-7d3f3c1a9d5e"


def test_a_found_machine_is_a_console_like_any_other(cloud: Cloud) -> None:
    client, wire = cloud.connected()
    csm = cloud.interact(DB, "ada")
    csm.news()
    wire.says(b"hello\r\n")
    cloud.turn(0.01)
    assert "hello" in csm.news()
    csm.send("ls")
    client.send(b"x")
    assert wire.sent() == b"ls\nx"
    [console] = cloud.found_consoles
    assert b"hello" in bytes(console.transcript.everything)


def test_it_is_out_of_reach_for_others(cloud: Cloud) -> None:
    cloud.connected()
    client = cloud.knock(f"/console-operator/interact/{DB}", "bob")
    assert client.refusal.status == 403


def test_two_that_come_at_once_make_one_console(cloud: Cloud) -> None:
    clients = [cloud.client() for _ in range(3)]
    for client in clients:
        client.socket.arrive(client.handshake(FOUND, cloud.signed(FOUND)))
    clients[0].socket.hang_up()  # it has asked first; the others need not suffer
    cloud.turn()
    cloud.net.accept()
    cloud.turn()
    assert len(cloud.found_consoles) == len(cloud.net.calls) == 1
    assert [bool(client.receive()) or client.is_open for client in clients[1:]] == [True, True]


def test_a_machine_that_moves_is_asked_for_again(cloud: Cloud) -> None:
    client, wire = cloud.connected()
    wire.hang_up()
    cloud.turn()
    client.receive()
    assert client.close_code == 1000
    cloud.turn(4)
    cloud.services.answers[VMAPI] = vm(server_uuid=ELSEWHERE)
    cloud.services.answers[f"/servers/{ELSEWHERE}/vms/{DB}/console"] = {"host": "10.0.0.9", "port": 9, "type": "socket"}
    _, again = cloud.connected()
    assert cloud.net.calls[-1][:2] == ("10.0.0.9", 9)
    again.says(b"here")
    [console] = cloud.found_consoles
    assert b"here" in bytes(console.transcript.everything)


def test_a_machine_that_moves_while_it_is_being_connected_to(cloud: Cloud) -> None:
    cloud.services.late = True
    cloud.attach(FOUND)
    cloud.services.answer()  # VMAPI, for the decision
    cloud.turn()
    cloud.services.answers[VMAPI] = vm(server_uuid=ELSEWHERE)
    cloud.services.answers[f"/servers/{ELSEWHERE}/vms/{DB}/console"] = {"host": "10.0.0.9", "port": 9}
    for _ in ("VMAPI", "CNAPI"):
        cloud.services.answer()
        cloud.turn()
    assert cloud.net.calls[-1][:2] == ("10.0.0.9", 9)
    cloud.net.accept()


def test_a_machine_that_restarts_has_another_port(cloud: Cloud) -> None:
    first, wire = cloud.connected()
    cloud.services.answers[f"/servers/{SERVER}/vms/{DB}/console"] = {"host": "10.0.0.5", "port": 50000}
    wire.hang_up()
    cloud.turn()
    first.receive()
    second = cloud.piped(FOUND)
    cloud.turn(1)
    assert cloud.net.calls[-1][:2] == ("10.0.0.5", 50000)
    again = cloud.net.accept()
    cloud.turn()
    second.send(b"x")
    assert again.sent() == b"x"


def test_a_machine_that_is_gone_is_dropped(cloud: Cloud) -> None:
    client, wire = cloud.connected()
    cloud.sweep()
    assert client.is_open
    cloud.services.answers[VMAPI] = (404, {"code": "ResourceNotFound", "message": "VM not found"})
    cloud.sweep()
    client.receive()
    assert (client.close_code, client.close_reason) == (1001, "The machine is gone")
    assert wire.disconnecting
    assert len(cloud.hub) == 2
    [console] = cloud.found_consoles
    assert console.transcript.closed
    refused(cloud.attach(FOUND).refusal, 404, "ResourceNotFound")
    cloud.services.answers[VMAPI] = vm()
    client, _ = cloud.connected()
    assert client.is_open
    assert len(cloud.found_consoles) == 2


@pytest.mark.parametrize("answer", [vm(state="destroyed"), vm(owner=ELSEWHERE)])
def test_so_is_one_that_is_destroyed_or_somebody_elses_now(cloud: Cloud, answer: Any) -> None:
    client, _ = cloud.connected()
    cloud.services.answers[VMAPI] = answer
    cloud.sweep()
    client.receive()
    assert client.close_code == 1001


def test_vmapi_being_down_drops_nothing(cloud: Cloud) -> None:
    client, wire = cloud.connected()
    cloud.services.down |= {"vmapi", "cnapi"}
    for _ in range(3):
        cloud.sweep()
        cloud.turn(60)
    client.receive()
    client.send(b"x")
    assert wire.sent() == b"x"


def test_what_nobody_uses_is_forgotten_after_two_sweeps(cloud: Cloud) -> None:
    client, wire = cloud.connected()
    client.close()
    cloud.turn(10)
    assert wire.disconnecting
    cloud.sweep()
    assert len(cloud.hub) == 3, "somebody may just be on the way in"
    cloud.sweep()
    assert len(cloud.hub) == 2
    for _ in range(2):
        cloud.sweep()
    assert not cloud.machines._known


def test_one_that_is_asked_for_is_not(cloud: Cloud) -> None:
    for _ in range(4):
        client, _ = cloud.connected()
        client.close()
        cloud.turn(10)
        cloud.sweep()
    assert len(cloud.found_consoles) == 1


def test_machines_that_were_only_asked_about_are_forgotten(cloud: Cloud) -> None:
    cloud.get(FOUND, cloud.signed(FOUND))
    assert cloud.machines._known
    for _ in range(2):
        cloud.sweep()
    assert not cloud.machines._known


def test_a_sweep_after_the_end(cloud: Cloud) -> None:
    cloud.connected()
    cloud.hub.close()
    cloud.sweep()
    cloud.net.wires[0].hang_up()


def test_the_daemon_stops_while_a_console_is_made(cloud: Cloud) -> None:
    client = cloud.client()
    client.socket.arrive(client.handshake(FOUND, cloud.signed(FOUND)))
    closing = cloud.hub.close()
    cloud.turn()
    assert result(closing) is None
    refused(client.refusal, 503, "ServiceUnavailable")
    [console] = cloud.found_consoles
    assert console.transcript.closed


def test_one_port_of_a_machine_is_one_console(cloud: Cloud) -> None:
    def machines(*ports: int) -> Machines:
        settings = [
            ConsoleSettings(name=f"c{at}", account=ACME, machine=DB, machine_port=port) for at, port in enumerate(ports)
        ]
        return Machines(cloud.hub, settings, None, cloud.found)

    machines(0, 1)
    with pytest.raises(ValueError, match="console c1: machine: it is that of console c0 as well"):
        machines(0, 0)


# ---------------------------------------------------------------------------------------------- T-OPS


def test_t_ops_1_each_attempt_leaves_a_record(cloud: Cloud) -> None:
    cloud.piped()
    cloud.get(PATH, cloud.signed(PATH))
    cloud.attach(PATH, [])
    cloud.attach(PATH, cloud.signed(PATH, "bob"))
    cloud.attach(f"/acme/machines/{ELSEWHERE}/console")
    cloud.services.down.add("vmapi")
    cloud.attach(FOUND)
    first, plain, stranger, bob, nowhere, unknown = cloud.attempts
    assert first == {
        "timestamp": first["timestamp"],
        "action": "ConnectMachineConsole",
        "account": "acme",
        "roles": "operator",
        "machine": X1,
        "owner": ACME,
        "statusCode": 101,
        "remoteAddress": "192.0.2.7",
        "remotePort": 40112,
    }
    assert (plain["statusCode"], plain["code"], plain["account"]) == (400, "UpgradeRequiredError", "acme")
    assert (stranger["statusCode"], stranger["code"]) == (401, "InvalidCredentials")
    assert stranger["remoteAddress"] == "192.0.2.7"
    assert "account" not in stranger
    assert (bob["statusCode"], bob["code"], bob["account"]) == (403, "NotAuthorized", "acme/bob")
    assert (nowhere["statusCode"], nowhere["machine"]) == (404, ELSEWHERE)
    assert unknown["statusCode"] == 503


def test_t_ops_1_the_address_is_the_proxys_word_if_that_is_believed(cloud: Cloud) -> None:
    headers = [*cloud.signed(PATH), ("X-Forwarded-For", "10.9.9.9, ::ffff:198.51.100.7")]
    cloud.attach(PATH, headers)
    cloud.begin(proxies=("192.0.2.7",))
    cloud.attach(PATH, headers)
    cloud.attach(PATH, [("X-Forwarded-For", "10.9.9.9, ::ffff:198.51.100.7")])
    assert [attempt["remoteAddress"] for attempt in cloud.attempts] == ["192.0.2.7", "198.51.100.7", "198.51.100.7"]


def test_t_ops_1_one_that_is_too_late_is_recorded(cloud: Cloud) -> None:
    cloud.services.late = True
    cloud.attach(FOUND)
    cloud.turn(5)
    [attempt] = cloud.attempts
    assert (attempt["statusCode"], attempt["account"]) == (503, "acme")
    cloud.services.answer()


def test_t_ops_1_the_session_itself_is_recorded_as_everywhere(cloud: Cloud) -> None:
    client = cloud.piped()
    client.send(b"secret")
    cloud.x1.says(b"12345678")
    cloud.turn(10)
    client.close()
    cloud.turn()
    [attached] = cloud.audited("attached")
    assert (attached["account"], attached["verb"], attached["machine"]) == ("acme", "interact", "x1")
    [detached] = cloud.audited("detached")
    assert (detached["seconds"], detached["toClient"], detached["toNode"]) == (10, 8, 6)
    assert "secret" not in json.dumps(cloud.records)


def test_t_ops_2_metrics(cloud: Cloud) -> None:
    client = cloud.piped()
    other, _ = cloud.connected()
    cloud.get(PATH, cloud.signed(PATH))
    cloud.attach(PATH, [])
    assert cloud.counted("cloudapi_console_requests_total") == 4
    assert cloud.counted("cloudapi_upgrades_total", result="success") == 2
    assert cloud.counted("cloudapi_upgrades_total", result="failure") == 2
    assert cloud.counted("cloudapi_errors_total", type="UpgradeRequiredError") == 1
    assert cloud.counted("cloudapi_errors_total", type="InvalidCredentials") == 1
    assert cloud.counted("sessions", face="cloudapi") == 2
    cloud.turn(30)
    client.close()
    cloud.turn()
    assert cloud.counted("sessions", face="cloudapi") == 1
    assert cloud.counted("session_seconds_sum", face="cloudapi") == 30
    assert cloud.counted("session_seconds_bucket", face="cloudapi", le="60.0") == 1
    other.close()
    cloud.turn(10)
    cloud.piped(FOUND)
    cloud.net.refuse(ConnectionRefusedError())
    cloud.turn()
    assert cloud.counted("cloudapi_errors_total", type="Failed to connect to console server") == 1


def test_t_ops_2_who_may_see_them(cloud: Cloud) -> None:
    for user, status in (("vera", 200), ("ada", 200), (None, 401), ("nobody", 401)):
        answer = cloud.get("/metrics", bearer(user))
        assert answer.status == status, user
    page = cloud.get("/metrics", bearer("vera"))
    assert page.headers["content-type"].startswith("text/plain; version=")
    assert "consoled_cloudapi_console_requests_total 0.0" in page.body.decode()
    assert "python_info" not in page.body.decode(), "a registry of our own"
    assert cloud.get("/metrics", method="POST").headers["allow"] == "GET"


def test_t_ops_3_one_that_fails_disturbs_no_other(cloud: Cloud, log: list[Any]) -> None:
    good, wire = cloud.connected()
    bad = cloud.piped(FOUND)
    bad.send_frame(b"\xff\xff", b"garbage")
    cloud.turn()
    bad.receive()
    assert bad.close_code == 1002
    cloud.attach("/acme/machines/x/console")
    cloud.attach(FOUND, cloud.signed(FOUND, key_id=f"/nobody/keys/{md5('rsa')}"))
    wire.says(b"on")
    good.send(b"off")
    cloud.turn(0.01)
    assert (body(good.receive()), wire.sent()) == (b"on", b"off")
