"""CloudAPI's stream, clause by clause (T-DATA, T-END, T-ERR), through a whole site."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionRefusedError

from consoled.api.pipe import EARLY, NOT_TAKING, trouble
from consoled.core.faults import LinkDown, NodeNotReading
from consoled.core.status import Waiting
from tests.api.cloud import DB, SERVER, X1, Cloud, body, vm
from tests.api.wire import Client
from tests.api.world import ACME

PATH = f"/acme/machines/{X1}/console"
FOUND = f"/acme/machines/{DB}/console"
VMAPI = f"/vms/{DB}?owner_uuid={ACME}"
CNAPI = f"/servers/{SERVER}/vms/{DB}/console"
EVERYTHING = bytes(range(256))


# ---------------------------------------------------------------------------------------------- T-DATA


def test_t_data_1_3_the_nodes_bytes_and_nothing_else(cloud: Cloud) -> None:
    client, wire = cloud.connected()
    assert client.receive() == []
    wire.says(EVERYTHING)
    wire.says(b"\x1b[2J\xc3")
    cloud.turn(0.01)
    assert body(client.receive()) == EVERYTHING + b"\x1b[2J\xc3"


def test_t_data_1_nor_the_daemons_own_lines(cloud: Cloud) -> None:
    client = cloud.piped()
    cloud.x1.console.note("connected")
    cloud.joined("x1")
    cloud.x1.says(b"x")
    cloud.turn(0.01)
    assert body(client.receive()) == b"x"


def test_t_data_2_keystrokes_as_they_are(cloud: Cloud) -> None:
    client, wire = cloud.connected()
    for payload in (EVERYTHING, b"&.", b"\x1d", b"", b"\r", b"&&\n"):
        client.send(payload)
    assert wire.sent() == EVERYTHING + b"&.\x1d\r&&\n"
    assert client.is_open


def test_t_data_4_text_is_ignored(cloud: Cloud) -> None:
    client = cloud.piped()
    client.send("rm -rf /\n", b"x", "y", "ü")
    assert cloud.x1.heard == b"x"
    assert client.is_open


def test_t_data_5_early_input_is_kept(cloud: Cloud) -> None:
    cloud.services.late = True
    client = cloud.attach(FOUND)
    cloud.services.answer()  # VMAPI, for the decision
    cloud.turn()
    client.receive()
    client.send(b"one", "text", b"two")
    cloud.services.answer()  # VMAPI, for the dial
    cloud.turn()
    cloud.services.answer()  # CNAPI
    cloud.turn()
    client.send(b"three")
    wire = cloud.net.accept()
    cloud.turn()
    assert wire.sent() == b"onetwothree"
    client.send(b"four")
    assert wire.sent() == b"four"


def test_t_data_5_also_what_came_with_the_request(cloud: Cloud) -> None:
    client = cloud.client()
    request = client.handshake(FOUND, cloud.signed(FOUND))
    client.socket.arrive(request + b"\x82\x83\x00\x00\x00\x00abc")
    cloud.turn()
    wire = cloud.net.accept()
    cloud.turn()
    assert wire.sent() == b"abc"
    client.receive()
    assert client.is_open


def test_t_data_5_of_a_flood_no_more_is_read(cloud: Cloud) -> None:
    client = cloud.piped(FOUND)
    pieces = [bytes([at]) * 4096 for at in range(64)]
    for piece in pieces:
        client.send(piece)
        cloud.turn()
    [waiting] = [session._conversation._waiting for session in cloud.sessions.sessions]
    assert EARLY <= len(waiting) <= EARLY + 4096
    wire = cloud.net.accept()
    taken = b""
    while len(taken) < 64 * 4096:
        cloud.turn(0.01)
        client.socket.arrive(b"")
        taken += (some := wire.sent())
        assert some or cloud.clock.seconds() < 60
    assert taken == b"".join(pieces)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 65537, 1_000_000])
def test_t_data_6_messages_are_whole_and_small(cloud: Cloud, size: int) -> None:
    client = cloud.piped()
    if size:
        cloud.x1.says(bytes(size))  # the client fails on fragments, masks and extensions
    cloud.turn(0.01)
    messages = client.receive()
    assert body(messages) == bytes(size)
    assert all(len(message) < 2**20 for message in messages)


def test_t_data_7_fragments_are_joined(cloud: Cloud) -> None:
    client = cloud.piped()
    client.send_frame(b"\x02\x03", b"abc")
    client.send_frame(b"\x89\x01", b"p")  # a ping between them
    client.send_frame(b"\x00\x02", b"de")
    client.send_frame(b"\x80\x01", b"f")
    cloud.turn()
    assert cloud.x1.heard == b"abcdef"
    client.receive()
    assert client.pongs == [b"p"]
    assert client.is_open


def test_t_data_8_pings_are_answered(cloud: Cloud) -> None:
    client = cloud.piped()
    for payload in (b"", b"x", bytes(125)):
        client.ping(payload)
    client.receive()
    assert client.pongs == [b"", b"x", bytes(125)]


def test_t_data_9_an_unmasked_frame_ends_it(cloud: Cloud) -> None:
    client = cloud.piped()
    client.send_frame(b"\x82\x03", b"abc", mask=None)
    cloud.turn()
    client.receive()
    assert client.close_code == 1002
    assert cloud.x1.heard == b""


def test_t_data_10_several_clients_share_one_link(cloud: Cloud) -> None:
    first, wire = cloud.connected()
    others = [cloud.piped(FOUND) for _ in range(3)]
    assert len(cloud.net.calls) == 1
    for at, client in enumerate([first, *others]):
        client.send(b"%d" % at)
    assert wire.sent() == b"0123"
    wire.says(b"hello")
    cloud.turn(0.01)
    assert [body(client.receive()) for client in [first, *others]] == [b"hello"] * 4
    first.socket.hang_up()
    cloud.turn(10)
    assert not wire.disconnecting
    wire.says(b"still")
    cloud.turn(0.01)
    assert body(others[0].receive()) == b"still"


def test_t_data_10_with_the_clients_of_other_faces(cloud: Cloud) -> None:
    csm, pipe = cloud.joined("x1"), cloud.piped()
    pipe.send(b"ls\r")
    csm.send("date")
    assert cloud.x1.heard == b"ls\rdate\n"
    csm.send("&F")
    pipe.send(b"nobody hears this")
    assert cloud.x1.heard == b"ls\rdate\n"
    assert pipe.is_open


def test_t_data_11_a_console_that_does_not_read_holds_its_client(cloud: Cloud) -> None:
    client, wire = cloud.connected()
    assert wire.producer is not None
    wire.producer.pauseProducing()
    sent = b""
    for at in range(60):
        piece = bytes([at]) * 8192
        client.send(piece)
        sent += piece
        cloud.turn()
    [session] = cloud.sessions.sessions
    assert len(session._conversation._waiting) + len(session._unheard) < 3 * 65536
    assert wire.sent() == b""
    wire.producer.resumeProducing()
    taken = b""
    for _ in range(200):
        cloud.turn(0.06)
        client.socket.arrive(b"")
        taken += wire.sent()
    assert taken == sent
    assert client.is_open


def test_t_data_11_and_ends_it_if_it_never_does(cloud: Cloud) -> None:
    cloud.x1.link.refusal = NodeNotReading("x1")
    client = cloud.piped()
    client.send(b"x")
    cloud.turn(NOT_TAKING - 1)
    assert client.is_open
    for _ in range(3):
        cloud.turn(1)
    client.receive()
    assert client.close_code == 1011
    assert json.loads(client.close_reason)["error"]["message"] == "The console takes no input"
    cloud.turn()
    assert client.socket.closed, "the answer to the close frame was heard"


def test_t_data_11_a_client_that_does_not_read_gets_everything_later(cloud: Cloud) -> None:
    client = cloud.piped()
    client.socket.stop_reading()
    for at in range(40):
        cloud.x1.says(bytes([at]) * 65536)
        cloud.turn(0.01)
    assert client.socket.fullest < 400_000
    client.socket.start_reading()
    cloud.turn(0.01)
    assert body(client.receive()) == b"".join(bytes([at]) * 65536 for at in range(40))


def test_t_data_12_no_nagle(cloud: Cloud) -> None:
    assert cloud.piped().socket.no_delay


def test_an_echo_is_not_waited_for(cloud: Cloud) -> None:
    client, wire = cloud.connected()
    client.send(b"a")
    assert wire.sent() == b"a"
    wire.says(b"a")
    assert body(client.receive()) == b"a"


# ---------------------------------------------------------------------------------------------- T-END


def test_t_end_1_the_rest_and_then_the_close_frame(cloud: Cloud) -> None:
    client, wire = cloud.connected()
    wire.says(b"last words")
    wire.hang_up()
    cloud.turn()
    assert body(client.receive()) == b"last words"
    assert (client.close_code, client.close_reason) == (1000, "Remote connection closed")
    assert client.socket.closed


def test_t_end_1_also_to_a_client_that_is_behind(cloud: Cloud) -> None:
    client, wire = cloud.connected()
    client.socket.stop_reading()
    wire.says(bytes(300_000))
    cloud.turn(0.01)
    wire.hang_up()
    cloud.turn()
    assert client.close_code is None
    client.socket.start_reading()
    cloud.turn()
    assert body(client.receive()) == bytes(300_000)
    assert client.close_code == 1000


def test_t_end_1_what_comes_after_a_new_connection_is_not_its(cloud: Cloud) -> None:
    behind, wire = cloud.connected()
    behind.socket.stop_reading()
    wire.says(b"a" * 300_000)
    cloud.turn(0.01)
    wire.hang_up()
    cloud.turn(2.5)
    again = cloud.net.accept()
    again.says(b"b" * 100)
    cloud.turn(0.01)
    again.hang_up()
    cloud.turn()
    behind.socket.start_reading()
    cloud.turn()
    assert body(behind.receive()) == b"a" * 300_000
    assert behind.close_code == 1000


def test_t_end_2_a_client_that_closes(cloud: Cloud) -> None:
    client, wire = cloud.connected()
    client.close()
    cloud.turn(4.9)
    assert wire.disconnecting


def test_t_end_3_a_client_that_vanishes(cloud: Cloud) -> None:
    client, wire = cloud.connected()
    client.socket.hang_up()
    cloud.turn(4.9)
    assert wire.disconnecting


def test_t_end_3_while_it_is_being_connected(cloud: Cloud) -> None:
    client = cloud.piped(FOUND)
    client.socket.hang_up()
    cloud.turn(4.9)
    assert cloud.net.reactor.connectors[-1].stoppedConnecting


def test_t_end_4_a_close_frame_is_answered(cloud: Cloud) -> None:
    for client in (cloud.piped(), cloud.piped(FOUND)):
        client.close()
        cloud.turn()
        client.receive()
        assert client.close_code == 1000
        assert client.socket.closed


def test_t_end_5_what_was_typed_before_arrives(cloud: Cloud) -> None:
    client, wire = cloud.connected()
    client.send(b"halt\r")
    client.close()
    cloud.turn(5)
    assert wire.sent() == b"halt\r"


# ---------------------------------------------------------------------------------------------- T-ERR


def failed(client: Client, message: str) -> None:
    """The error state, legally said."""
    client.receive()
    assert client.close_code == 1011
    assert client.close_reason is not None
    assert len(client.close_reason.encode()) <= 123
    error = {"code": "InternalServerError", "message": message}
    assert json.loads(client.close_reason) == {"type": "error", "error": error}
    assert client.messages == []
    assert client.socket.closed


NO_SOCKET = "Failed to retrieve console socket details"


@pytest.mark.parametrize("answer", [
    (500, {"code": "InternalError", "message": "secret-address"}), (404, {"code": "ResourceNotFound"}),
    (409, {"code": "ServerNotRunning"}), (200, b""), (200, b"<html>"), (302, b""),
])  # fmt: skip
def test_t_err_1_3_7_cnapi_answers_an_error(cloud: Cloud, answer: Any) -> None:
    cloud.services.answers[CNAPI] = answer
    failed(cloud.attach(FOUND), NO_SOCKET)


@pytest.mark.parametrize("what", ["down", "silent"])
def test_t_err_1_7_cnapi_does_not_answer(cloud: Cloud, what: str) -> None:
    getattr(cloud.services, what).add("cnapi")
    client = cloud.attach(FOUND)
    cloud.turn(5)
    failed(client, NO_SOCKET)


@pytest.mark.parametrize("answer", [
    {}, {"host": "10.0.0.5"}, {"port": 1}, {"host": 7, "port": 1}, {"host": "", "port": 1}, {"host": "a", "port": "1"},
    {"host": "a", "port": 0}, {"host": "a", "port": 65536}, {"host": "a", "port": 1.5}, {"host": None, "port": 1}, [],
])  # fmt: skip
def test_t_err_2_cnapis_object_is_invalid(cloud: Cloud, answer: Any) -> None:
    cloud.services.answers[CNAPI] = answer
    failed(cloud.attach(FOUND), NO_SOCKET)
    assert not cloud.net.calls


def test_t_err_3_vmapi_names_no_server(cloud: Cloud) -> None:
    cloud.services.answers[VMAPI] = vm(server_uuid=None)
    failed(cloud.attach(FOUND), NO_SOCKET)


def test_t_err_4_7_connect_refused(cloud: Cloud) -> None:
    client = cloud.piped(FOUND)
    cloud.net.refuse(ConnectionRefusedError(osError="10.0.0.5:45678"))
    cloud.turn(1)
    failed(client, "Failed to connect to console server")


def test_t_err_5_connect_hangs(cloud: Cloud) -> None:
    client = cloud.piped(FOUND)
    cloud.turn(4.5)
    assert client.is_open
    cloud.turn(1)
    failed(client, "Timeout while connecting to console server")


def test_t_err_5_a_configured_console_that_is_away(cloud: Cloud) -> None:
    cloud.x1.link.status = Waiting(cloud.now() + 60, "No route to host")
    client = cloud.piped()
    client.send(b"x")
    cloud.turn(13)
    failed(client, "Timeout while connecting to console server")
    assert "dial_now" not in cloud.x1.link.asked, "its own patience counts"


def test_t_err_6_the_console_resets_or_the_machine_stops_in_mid_session(cloud: Cloud) -> None:
    client, wire = cloud.connected()
    wire.says(b"shutting down")
    wire.abortConnection()
    cloud.turn()
    assert body(client.receive()) == b"shutting down"
    assert client.close_code == 1000


def test_t_err_6_keys_that_fall_into_the_gap_are_dropped(cloud: Cloud) -> None:
    client = cloud.piped()
    cloud.x1.link.refusal = LinkDown("x1")
    client.send(b"x", b"y")
    cloud.turn()
    assert client.is_open


def test_t_err_8_who_is_asked_for_what(cloud: Cloud) -> None:
    cloud.connected()
    assert cloud.services.asked[-1] == f"http://cnapi{CNAPI}"
    assert cloud.net.calls[0][:2] == ("10.0.0.5", 45678)


def test_after_an_error_the_next_client_dials_at_once(cloud: Cloud) -> None:
    for _ in range(8):
        client = cloud.piped(FOUND)
        cloud.net.refuse(ConnectionRefusedError())
        cloud.turn()
        failed(client, "Failed to connect to console server")
        cloud.turn(4)
    client = cloud.piped(FOUND)
    wire = cloud.net.accept()
    cloud.turn()
    client.send(b"x")
    assert wire.sent() == b"x"


def test_one_that_waits_and_one_that_comes_during_the_pause(cloud: Cloud) -> None:
    first = cloud.piped(FOUND)
    cloud.net.refuse(ConnectionRefusedError())
    cloud.turn(0.2)
    failed(first, "Failed to connect to console server")
    second = cloud.piped(FOUND)
    cloud.turn(2)
    wire = cloud.net.accept()
    cloud.turn()
    second.send(b"x")
    assert wire.sent() == b"x"


@given(st.text())
def test_a_reason_is_short_and_whole(message: str) -> None:
    reason = trouble(message)
    assert len(reason.encode()) <= 123
    error = json.loads(reason)
    assert error["type"] == "error"
    assert message.startswith(error["error"]["message"])


def test_the_three_messages_fit(cloud: Cloud) -> None:
    for message in (NO_SOCKET, "Failed to connect to console server", "Timeout while connecting to console server"):
        assert json.loads(trouble(message))["error"]["message"] == message


# ---------------------------------------------------------------------------------------------- beyond the original


def query(cloud: Cloud, text: str) -> Client:
    path = f"{PATH}?{text}"
    return cloud.piped(path, cloud.signed(path))


def test_watching(cloud: Cloud) -> None:
    client = query(cloud, "mode=tail")
    client.send(b"x", "y", b"&.")
    cloud.x1.says(b"hello")
    cloud.turn(0.01)
    assert body(client.receive()) == b"hello"
    assert cloud.x1.heard == b""
    [attachment] = cloud.x1.clients
    assert not attachment.interactive


def test_replay(cloud: Cloud) -> None:
    cloud.x1.says(b"one\ntwo\nthree\n")
    cloud.turn(0.01)
    for lines, expected in ((0, b""), (1, b"three\n"), (2, b"two\nthree\n"), (99, b"one\ntwo\nthree\n")):
        for mode in ("", "&mode=tail"):
            assert body(query(cloud, f"lines={lines}{mode}").messages) == expected
    client = query(cloud, "lines=1")
    cloud.x1.says(b"four\n")
    cloud.turn(0.01)
    client.receive()
    assert body(client.messages) == b"three\nfour\n"


def test_replay_from_a_disk_that_takes_its_time(cloud: Cloud) -> None:
    cloud.begin(kept=b"one\ntwo\nthree\n", noted=False)
    cloud.x1.transcript.late = True
    path = f"{PATH}?lines=2"
    client = cloud.attach(path, cloud.signed(path))
    assert client.response is None
    cloud.x1.transcript.answer()
    client.receive()
    cloud.x1.transcript.answer()
    client.receive()
    assert body(client.messages) == b"two\nthree\n"
