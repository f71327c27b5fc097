# mypy: disallow-untyped-calls=False
# (Much of conch has no annotations.)

"""A line over SSH: TCP below, conch in the middle, the link above.

It stands where every stream's line stands (`stream`), and puts conch's layers between: what comes from TCP goes into
the transport layer, what comes out of the session is the node's output.  It also asks a silent server for a sign of
life, and knows in which order to leave.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from consoled.backends.ssh_algorithms import Algorithms
from consoled.backends.ssh_hosts import HostCheck
from consoled.backends.ssh_login import Credentials, Login
from consoled.backends.ssh_session import QUEUE, Connection, Request, Session
from consoled.backends.ssh_transport import SshTransport
from consoled.backends.stream import StreamLine
from consoled.backends.tcp_socket import prepare
from consoled.core.seams import Clock, LineOwner, Timer

MOST_EARLY = 65536
"""Bytes of output after which nobody waits for the server's word that the session has begun."""
PATIENCE = 2
"""Requests without any sign of life, one each `keepalive`, before the server is given up."""
LAST_WORDS = 1.0
"""Seconds between the end of the output and the hanging up: the exit status comes then, if it comes."""
HANG_UP = 5.0
"""Seconds for the server to close its side, when the session has ended, before it is aborted."""

_log = Logger()


@dataclass(frozen=True, slots=True)
class Manner:
    """How a line behaves once it is up."""

    keepalive: float
    """Seconds of silence before the server is probed; 0: never."""
    requests: bool
    """Probe by SSH requests, beside TCP's own probes."""
    break_sequence: bytes
    """What to send for a break; empty: RFC 4335's request."""


class SshLine(StreamLine):
    """One connection to an SSH server."""

    def __init__(
        self,
        name: str,
        owner: LineOwner,
        credentials: Credentials,
        host: HostCheck,
        algorithms: Algorithms,
        request: Request,
        manner: Manner,
        clock: Clock,
    ) -> None:
        super().__init__(owner)
        self.stage = "the key exchange"
        self._name = name
        self._manner = manner
        self._clock = clock
        self._session = Session(request, self)
        self._connection = Connection(self._session)
        self._login = Login(credentials, self._connection, self.drop)
        self._ssh = SshTransport(name, self, host, algorithms, self._login)
        self._output: list[bytes] = []
        self.dropped = False
        self._closing = False
        self._gone = False
        self._breaks = True
        self._heard_at = 0.0
        self._unanswered = 0
        self._timer: Timer | None = None
        """The next look at the silence, then the limit of each step of the parting."""

    @property
    def full(self) -> bool:
        return self._full

    # Twisted and `StreamLine` call these.

    def connectionMade(self) -> None:
        prepare(self.transport.socket, self._manner.keepalive)
        super().connectionMade()

    def opened(self) -> None:
        self._ssh.makeConnection(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self.was_read(len(data))
        self._heard_at = self._clock.seconds()
        self._unanswered = 0
        self._ssh.dataReceived(data)
        # One read may hold a thousand packets: the console gets it in one piece.
        output = b"".join(self._output)
        self._output.clear()
        if output:
            self.deliver(output)
            if not self.up and len(self._early) > MOST_EARLY and not self.dropped:
                self.usable()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gone = True
        self._stop_timer()
        if not self.up and (refusal := self._login.hung_up("the server hung up")):
            self.drop(refusal)
        self._ssh.connectionLost(reason)
        super().connectionLost(reason)

    def usable(self) -> None:
        if self.up:
            return
        if self._manner.keepalive and self._manner.requests and self._timer is None:
            self._wait(self._manner.keepalive, self._listen)
        super().usable()

    def drop(self, error: Exception) -> None:
        if not self.dropped:  # the first reason is the one that counts
            self.dropped = True
            super().drop(error)

    # The link calls these.

    def write(self, data: bytes) -> bool:
        return not self._full and not self._closing and self._ssh.unsent <= QUEUE and self._session.take(data)

    def send_break(self) -> bool:
        if self._manner.break_sequence:
            return self.write(self._manner.break_sequence)
        return self._breaks and not self._closing and self._session.send_break()

    def close(self) -> None:
        if not self._closing and self.transport is not None:
            self._closing = True
            self._session.hang_up()
            self._leave()  # dropbear and sshd close their side only when the program has ended

    # The layers call these.

    def hung_up(self, why: str) -> None:
        """The server has said that it goes."""
        if self.up:
            self._why = self._why or why
            self.abort()
        else:
            self.drop(self._login.hung_up(why) or ConnectionError(f"during {self.stage}: {why}"))

    def started(self) -> None:
        if not self.dropped and not self._gone:
            self.usable()

    def node_said(self, data: bytes) -> None:
        self._output.append(data)

    def finished(self) -> None:
        self._wait(LAST_WORDS, self._hang_up)

    def closed(self, why: str) -> None:
        if self._gone or self.dropped or self._closing:
            return
        if self.up:
            self._why = why
            self._leave()
        else:
            self.drop(ConnectionError(why))

    def no_break(self) -> None:
        self._breaks = False
        _log.warn("console {name}: the server refused a break; is there a break_sequence?", name=self._name)

    # Ours.

    def _hang_up(self) -> None:
        self._wait(HANG_UP, self.abort)
        self._session.hang_up()

    def _leave(self) -> None:
        if self.transport is not None:
            self._wait(HANG_UP, self.abort)
            self._ssh.say_goodbye()
            super().close()

    def _listen(self) -> None:
        keepalive = self._manner.keepalive
        silent = self._clock.seconds() - self._heard_at
        if silent < keepalive:
            self._wait(keepalive - silent, self._listen)
        elif self._unanswered == PATIENCE:
            self.drop(ConnectionError(f"the server has not answered for {silent:g} s"))
        else:
            self._unanswered += 1
            self._connection.probe()
            self._wait(keepalive, self._listen)

    def _wait(self, delay: float, call: Callable[[], object]) -> None:
        self._stop_timer()
        self._timer = self._clock.callLater(delay, call)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
