"""What every TCP connection to a node asks of the kernel.

Called by the lines of the kinds `tcp` and `telnet` as soon as the connection is there, before any TLS.
"""

from __future__ import annotations

import socket


def prepare(sock: socket.socket, keepalive: float) -> None:
    """Send keystrokes at once, keep urgent data in its place, and notice a vanished peer.

    `keepalive` is in seconds; 0: a silent peer is never missed.  Otherwise one that vanishes is noticed within about
    three times that (the kernel counts whole seconds: at least four).  An idle connection is probed after one
    keepalive, twice, and given up at one and a half.  Should something be typed just before that, the kernel stops
    probing and waits as long again for the acknowledgement (TCP_USER_TIMEOUT, in milliseconds).

    TCP_USER_TIMEOUT also counts a peer as gone that keeps its window shut for so long.  It takes a node that leaves
    more unread than its BMC and both kernels have room for; a new connection is the better bet then.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Out of line, the mark of a telnet Synch (RFC 854: IAC DM, sent as urgent data) would lose its DM, and the
    # IAC before it would swallow a byte of output.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    if not keepalive:
        return
    idle = max(1, int(keepalive))
    interval = max(1, idle // 4)
    probes = 2 if idle >= 4 else 1
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes)
    # With it the kernel gives up at the first probe after so long, whatever the count: they must agree.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * (idle + probes * interval))
