"""What is asked of the kernel."""

import socket

import pytest

from consoled.backends.tcp_socket import prepare


@pytest.fixture
def sock():
    with socket.socket() as one:
        yield one


@pytest.mark.parametrize("keepalive", [2, 2.5, 3, 4, 5, 7, 10, 30, 90, 3600])
def test_a_vanished_peer_is_noticed_within_three_keepalives(sock: socket.socket, keepalive: float) -> None:
    prepare(sock, keepalive)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    idle = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
    interval = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
    probes = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
    unacknowledged = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) / 1000
    assert idle == int(keepalive)
    assert idle + probes * interval == unacknowledged, "the user timeout is looked at when a probe is due"
    assert 2 * unacknowledged <= 3 * keepalive, "idle, and then a keystroke just before the end of that"


def test_a_short_keepalive_is_what_the_kernel_can(sock: socket.socket) -> None:
    prepare(sock, 0.1)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 1


def test_keystrokes_go_at_once_and_urgent_bytes_stay_in_place(sock: socket.socket) -> None:
    prepare(sock, 0)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE)
    assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
