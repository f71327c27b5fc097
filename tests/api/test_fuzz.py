"""Whatever comes over the wire: no accident, nothing at a node that was not said, and the next client is served."""

from __future__ import annotations

import struct

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.logger import LogEvent
from websockets.frames import Frame, Opcode

from tests.api.conftest import failures
from tests.api.test_csm_routes import HANDSHAKE
from tests.api.wire import Client
from tests.api.world import BARE, PUBLIC, World, bearer, token

bounded = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

SECRET = b"of another console"

# ------------------------------------------------------------------------------------------------ request heads

garbage = st.one_of(st.binary(max_size=30), st.text(max_size=10).map(str.encode))
segments = st.one_of(
    st.sampled_from(
        [b"x1", b"x3", b"x9", b"interact", b"tail", b"health", b"liveness", b"..", b"%2f", b"%00", b"%", b"%ff", b""]
    ),
    garbage,
)
paths = st.builds(
    lambda base, rest: base + b"/".join([b"", *rest]),
    st.sampled_from([BARE.encode(), PUBLIC.encode(), b"", b"/" + BARE.encode(), b"http://h" + BARE.encode()]),
    st.lists(segments, max_size=4),
)
routes = st.sampled_from([f"{BARE}/{verb}/x1".encode() for verb in ("interact", "tail")])
names = st.sampled_from(
    [
        *[*HANDSHAKE, "Host", "Authorization", "Cray-Tenant-Name", "Cray-Console-Lines", "Cray-Console-Follow"],
        *["Transfer-Encoding", "Content-Length", "X-Forwarded-For", "X-Forwarded-Host"],
        *["Content-Type", "Cookie", "Origin", "Expect", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"],
    ]
)
values = st.one_of(
    st.sampled_from(
        [
            *HANDSHAKE.values(),
            *[f"Bearer {token('ada')}", f"Bearer {token('bob')}", "blue", "green", "3", "-1", "True", "100-continue"],
            *["chunked", "identity", "5", "http://h", "https://evil.example", "null", "127.0.0.1, 192.0.2.1", "::1"],
            *["multipart/form-data", "multipart/form-data; boundary=", "application/x-www-form-urlencoded", "close"],
        ]
    ).map(str.encode),
    garbage,
)
headers = st.lists(st.tuples(names.map(str.encode) | garbage, values), max_size=8)
usual = st.lists(st.sampled_from([*HANDSHAKE.items(), *bearer("ada"), ("Host", "h")]), unique=True).map(
    lambda some: [(name.encode(), value.encode()) for name, value in some]
)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from([b"GET", b"GET", b"GET", b"POST", b"HEAD"]) | garbage)
    version = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"]) | garbage)
    lines = [method + b" " + draw(routes | paths) + b" " + version]
    lines += [name + b": " + value for name, value in draw(st.permutations(draw(usual) + draw(headers)))]
    body = draw(garbage)
    if draw(st.booleans()):
        lines.append(b"Content-Length: " + (b"%d" % len(body) if draw(st.booleans()) else draw(garbage)))
    return b"\r\n".join([*lines, b"", body])


def arrive(client: Client, data: bytes, cuts: list[int]) -> None:
    at = 0
    for cut in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        client.socket.arrive(data[at:cut])
        at = cut


@bounded
@given(data=heads(), more=heads() | garbage, cuts=st.lists(st.integers(0, 400), max_size=4))
def test_any_request(world: World, log: list[LogEvent], data: bytes, more: bytes, cuts: list[int]) -> None:
    client = world.client()
    arrive(client, data + more, cuts)
    world.x2.says(SECRET)
    assert b"HTTP/1.1 5" not in client.socket.sent
    assert SECRET not in client.socket.sent
    client.socket.hang_up()
    assert not failures(log)
    log.clear()
    assert not world.x1.clients
    serves(world)
    world.clients.clear()


def serves(world: World) -> None:
    """The next good client finds everything in order."""
    before = world.x1.heard
    good = world.joined(user="ada")
    good.send("echo ok")
    assert world.x1.heard == before + b"echo ok\n"
    world.x1.says(b"ok")
    assert good.news() == "ok"
    good.send("&.")
    good.receive()
    assert good.close_code == 1000


# ------------------------------------------------------------------------------------------ behind the upgrade

payloads = st.one_of(
    st.sampled_from([b"", b"ls", b"&", b"&&", b"&.", b"&Z", b"&Q", b"&E", b"&M", b"&J", b"\xe2\x82", b"\xff", b"\n"]),
    garbage,
)
good_frames = st.builds(
    lambda opcode, fin, data: Frame(opcode, data, fin or opcode > 7).serialize(mask=True),
    st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.PING, Opcode.PONG, Opcode.TEXT]),
    st.sampled_from([True, True, True, False]),
    payloads,
)
odd_frames = st.builds(
    lambda first, second, length, mask, data: bytes([first, second]) + length + mask + data,
    st.integers(0, 255),
    st.integers(0, 255),
    st.sampled_from([b"", b"\0\x05", struct.pack("!Q", 5), struct.pack("!Q", 2**63)]),
    st.sampled_from([b"", b"\0\0\0\0", b"\xff\0\xff\0"]),
    garbage,
)
streams = st.lists(good_frames | good_frames | odd_frames | garbage, max_size=12).map(b"".join)


def valid_messages(stream: bytes) -> list[tuple[bool, bytes]]:
    """What a client has said in whole, valid messages before its first fault, by RFC 6455, written down once more."""
    messages: list[tuple[bool, bytes]] = []
    parts: list[bytes] | None = None
    text = False
    while len(stream) >= 2:
        first, second = stream[:2]
        fin, opcode, length, at = first & 0x80, first & 0x0F, second & 0x7F, 2
        if length >= 126:
            size = 2 if length == 126 else 8
            if len(stream) < at + size:
                break
            length, at = int.from_bytes(stream[at : at + size], "big"), at + size
            if length < (126 if size == 2 else 65536) or length >> 63:
                break
        if first & 0x70 or not second & 0x80 or 2 < opcode < 8 or opcode > 10 or length > 65536:
            break
        if opcode > 7 and (not fin or length > 125):
            break
        mask, data = stream[at : at + 4], stream[at + 4 : at + 4 + length]
        if len(mask) < 4 or len(data) < length:
            break
        stream = stream[at + 4 + length :]
        data = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
        if opcode == 8:
            break
        if opcode > 7:
            continue
        if (opcode == 0) != (parts is not None):
            break
        if opcode:
            parts, text = [], opcode == 1
        assert parts is not None
        parts.append(data)
        if fin:
            whole, parts = b"".join(parts), None
            if text:
                try:
                    whole.decode()
                except UnicodeDecodeError:
                    break
            messages.append((text, whole))
    return messages


@bounded
@given(stream=streams, cuts=st.lists(st.integers(0, 300), max_size=5))
def test_any_bytes_behind_the_upgrade(world: World, log: list[LogEvent], stream: bytes, cuts: list[int]) -> None:
    # An independent reading of the stream says what may reach the node; a second client says those messages properly.
    world.x1.link.written.clear()
    twin = world.joined(user="ada")
    for is_text, message in valid_messages(stream):
        if not twin.socket.closed:
            twin.send(message.decode() if is_text else message)
            twin.receive()
    twin.socket.hang_up()
    expected = world.x1.heard
    world.x1.link.written.clear()

    client = world.joined(user="ada")
    arrive(client, stream, cuts)
    assert world.x1.heard == expected
    world.x2.says(SECRET)
    assert SECRET not in client.socket.sent
    client.socket.hang_up()
    assert not failures(log)
    log.clear()
    assert not world.x1.clients
    serves(world)
    world.clients.clear()


@bounded
@given(stream=streams, cuts=st.lists(st.integers(0, 300), max_size=5))
def test_any_bytes_behind_a_tail(world: World, log: list[LogEvent], stream: bytes, cuts: list[int]) -> None:
    client = world.tail(follow=True, user="ada")
    arrive(client, stream, cuts)
    client.socket.hang_up()
    assert world.x1.heard == b""
    assert not failures(log)
    log.clear()
    assert not world.x1.clients
    world.clients.clear()
