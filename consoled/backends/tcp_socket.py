"""What every TCP connection to a node asks of the kernel.

Called by the lines of the kinds `tcp` and `telnet` as soon as the connection is there, before any TLS.
"""

from __future__ import annotations

import socket

DEAD_AFTER = 1.5
"""Silence, in keepalives, after which the kernel gives a peer up; see `prepare` for the sum."""


def prepare(sock: socket.socket, keepalive: float) -> None:
    """Send keystrokes at once, keep urgent data in its place, and notice a vanished peer.

    `keepalive` is in seconds; 0 leaves it to the kernel (a silent peer is never missed).  Otherwise a peer that
    vanishes is noticed within three times that: an idle connection is probed after one keepalive of silence and
    given up after one and a half; and should a keystroke be sent just before that, the kernel drops its probes
    and waits one and a half more for the keystroke's acknowledgement (TCP_USER_TIMEOUT, in milliseconds).

    TCP_USER_TIMEOUT counts a peer that keeps its window shut for so long as gone, too.  That takes a node that
    leaves more unread than its BMC and both kernels have room for; a new connection is the better bet then.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Out of line, the mark of a telnet Synch (RFC 854: IAC DM, sent as urgent data) would lose its DM, and the
    # IAC before it would swallow a byte of output.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    if not keepalive:
        return
    interval = max(1, round(keepalive / 4))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, round(keepalive)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(keepalive * DEAD_AFTER * 1000)))
