"""What is asked of the kernel."""

import socket

import pytest

from consoled.backends.tcp_socket import prepare


@pytest.fixture
def sock():
    with socket.socket() as one:
        yield one


@pytest.mark.parametrize("keepalive", [2, 10, 30, 90])
def test_a_vanished_peer_is_noticed_within_three_keepalives(sock: socket.socket, keepalive: float) -> None:
    prepare(sock, keepalive)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    idle = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
    interval = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
    unacknowledged = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) / 1000
    assert idle == keepalive
    # With a user timeout, the kernel gives up at the first probe after it, whatever the count.
    given_up = max(idle + interval, unacknowledged)
    assert given_up + unacknowledged <= 3 * keepalive


def test_keystrokes_go_at_once_and_urgent_bytes_stay_in_place(sock: socket.socket) -> None:
    prepare(sock, 0)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE)
    assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
