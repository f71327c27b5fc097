"""A session: one open WebSocket, and the conversation that a face holds over it.

`upgrade` makes a session when every question has been answered; from then on autobahn calls it with messages and
the transport with its pace.  What is said is the business of the `Conversation`, which belongs to the face.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Protocol

import txaio
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.util import encode_truncate
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from consoled.api.frames import keystrokes
from consoled.api.pace import Bucket
from consoled.straight import Straight

MESSAGE_LIMIT = 65536
"""The most bytes in one message of a client; a longer one closes its session with 1009."""
HEARD = 1024
"""Bytes of a client's that are heard in one turn of the reactor.  They may be a hundred messages, and others wait."""
LATE = 512 * 1024
"""Bytes that may wait for a client before it is one that does not read."""
PING_INTERVAL = 30.0
PING_PATIENCE = 150.0
"""Seconds without any sign of life after which a client is gone.  Generous, because a ping waits behind the output
that a slow client has not read yet."""
CLOSING_PATIENCE = 30.0
"""Seconds for a client to read what was sent before the close frame, and to answer that."""

_log = Logger()


class Conversation(Protocol):
    """A face's side of a session.  Called by `Session`."""

    @property
    def subprotocol(self) -> str | None:
        """The one that was chosen of those that the client offers; None: none."""

    @property
    def is_recorded(self) -> bool:
        """Whether what is typed at the console is recorded.  The handshake says so, since not every face can."""

    def opened(self, session: Session) -> None:
        """The WebSocket is open."""

    def said(self, payload: bytes, is_binary: bool) -> None:
        """The client sent one whole message."""

    def paused(self) -> None:
        """The client's transport is full.  May be repeated."""

    def resumed(self) -> None:
        """The client's transport takes more.  May be repeated."""

    def closed(self) -> None:
        """The session is over, whoever ended it: nothing more can be said.  Called once."""


@implementer(IPushProducer)
class Session(WebSocketServerProtocol):  # type: ignore[misc]  # autobahn is not typed strictly
    """Joins one WebSocket to one conversation."""

    # autobahn would copy its options to each session, and print a table of them for its log: `Sessions` sets them here.
    CONFIG_ATTRS = ()

    def __init__(self, conversation: Conversation) -> None:
        super().__init__()
        self.full = False
        """Whether the client does not read: what is not paced by the conversation should not be sent now."""
        self.pour: Callable[[bytes], None]
        """Put a frame on the wire, straight.  For attachments, which are gone before the session begins to close."""
        self._conversation = conversation
        self._opened = False
        self._way: Straight
        self._strained = False
        """Whether more waits in the transport than it likes."""
        self._pinged: bytes | None = None
        self._dropping: Any = None
        self._unheard = b""
        self._hearing: Any = None
        self._held = False
        self._pace: Bucket
        self._owed = 0.0
        """Seconds until the client may be heard again."""

    # The conversation calls these.

    def send(self, frame: bytes) -> None:
        """Put a prepared frame on the wire; nothing once the session is closing."""
        if self.state == self.STATE_OPEN:
            self.pour(frame)

    def end(self, code: int, reason: str) -> None:
        """Begin the closing handshake (RFC 6455 section 7.1.2); what was sent before arrives before it."""
        self.sendCloseFrame(code, encode_truncate(reason, 123))

    def hold(self, held: bool) -> None:
        """Stop hearing the client, and in the end reading from it; or go on where it was left.  Idempotent.

        A client that closes or vanishes meanwhile is not noticed, so whoever holds it sets a limit.
        """
        if held == self._held:
            return
        self._held = held
        if held:
            self._stop_hearing()
            self.transport.pauseProducing()
        elif self._unheard:
            self._hearing = _call_later(0, self._hear)
        else:
            self.transport.resumeProducing()

    # The transport calls this, and once the HTTP channel, with what a hasty client has sent before.

    def dataReceived(self, data: bytes) -> None:
        message = keystrokes(data) if self._is_at_rest else None
        if message is not None:
            self._owed = self._pace.take()
            self._tell(self._conversation.said, *message)
            if self._owed and self.state == self.STATE_OPEN and not self._held:
                self._hear_later()
            return
        self._unheard += data
        if self._hearing is None and not self._held:
            self._hear()
        else:
            self.transport.pauseProducing()  # the HTTP channel, when it goes, lets it read once more

    # autobahn calls these.

    def onConnect(self, request: object) -> tuple[str | None, dict[str, str]]:
        return self._conversation.subprotocol, {"Consoled-Input": "recorded"} if self._conversation.is_recorded else {}

    def onOpen(self) -> None:
        # The HTTP channel had made itself the producer of this transport.
        self.transport.unregisterProducer()
        self.transport.registerProducer(self, True)
        self._way = Straight(self.transport, self._queued)
        self.pour = self._way.write
        self._pace = self.factory.pace()
        # What autobahn keeps of the handshake is of no use any more.
        self.http_request_data = self.http_response_data = b""
        self._opened = True
        self.factory.sessions.add(self)
        self._tell(self._conversation.opened, self)

    def onFrameEnd(self) -> bool | None:
        self._owed = self._pace.take()
        return super().onFrameEnd()  # type: ignore[no-any-return]

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        # autobahn delivers messages while our close frame is under way; whoever left types no more.
        if self.state == self.STATE_OPEN:
            self._tell(self._conversation.said, payload, isBinary)

    def onPing(self, payload: bytes) -> None:
        # Of the pings of a client that does not read, only the last is answered (RFC 6455 section 5.5.3).
        if self.full:
            self._pinged = payload
        else:
            self.sendPong(payload)

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        super().sendCloseFrame(code, reasonUtf8, isReply)
        self.hold(False)  # or its answer would not be heard
        self._over()

    def dropConnection(self, abort: bool = False) -> None:
        if not abort and self._dropping is None:
            self._dropping = _call_later(CLOSING_PATIENCE, self.transport.abortConnection)
        super().dropConnection(abort)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if self._dropping is not None and self._dropping.active():
            self._dropping.cancel()
        self._stop_hearing()
        self._unheard = b""
        self.factory.sessions.discard(self)
        self._over()

    # The transport calls these; the first once, or again on every write past its buffer.

    def pauseProducing(self) -> None:
        self._strained = True
        self._queued()

    def resumeProducing(self) -> None:
        self.full = self._strained = False
        if self._pinged is not None:
            pinged, self._pinged = self._pinged, None
            self.sendPong(pinged)
        self._tell(self._conversation.resumed)

    def stopProducing(self) -> None:
        """The transport is gone; `onClose` follows."""

    def _queued(self) -> None:
        """More waits in the transport.  Who is only a moment late stays in step: reading on alone costs more."""
        if self._strained and not self.full and self._way.waiting > LATE:
            self.full = True
            self._conversation.paused()

    @property
    def _is_at_rest(self) -> bool:
        """Whether the next byte begins a message, and autobahn waits for no sign of life."""
        return (
            self.state == self.STATE_OPEN
            and not (self._held or self._unheard or self.data or self.inside_message)
            and self._hearing is self.current_frame is self.autoPingTimeoutCall is None
        )

    def _hear(self) -> None:
        """Hear a little of what came, and the rest in later turns; meanwhile nothing more is read."""
        was_behind, self._hearing = self._hearing is not None, None
        data, self._unheard = self._unheard[:HEARD], self._unheard[HEARD:]
        super().dataReceived(data)
        if self._held or self._hearing is not None:
            return  # the conversation has held it meanwhile, and perhaps let it go on
        if self._unheard or self._owed:
            self._hear_later()
        elif was_behind:
            self.transport.resumeProducing()

    def _hear_later(self) -> None:
        self._hearing, self._owed = _call_later(self._owed, self._hear), 0.0
        self.transport.pauseProducing()

    def _stop_hearing(self) -> None:
        if self._hearing is not None:
            self._hearing.cancel()
            self._hearing = None

    def _over(self) -> None:
        if self._opened:
            self._opened = False
            self._tell(self._conversation.closed)

    def _tell(self, event: Callable[..., None], *details: object) -> None:
        """Tell the conversation.  Its accidents are its own session's end, and nobody else's."""
        try:
            event(*details)
        except Exception:
            _log.failure("a session failed")
            self.end(1011, "Internal error")


def _call_later(delay: float, call: Callable[[], None]) -> Any:
    return txaio.call_later(delay, call)  # type: ignore[attr-defined]  # there when txaio knows the framework


_NO_PACE = partial(Bucket, 1e9, 1e9, monotonic)


class Sessions(WebSocketServerFactory):  # type: ignore[misc]
    """What all sessions of the daemon share: autobahn's options, and the list of who is there."""

    def __init__(self, pace: Callable[[], Bucket] = _NO_PACE) -> None:
        """`pace` makes a bucket for each session, out of which each of its client's messages takes one."""
        super().__init__(server=None)
        self.sessions: set[Session] = set()
        self.pace = pace
        self.setProtocolOptions(
            versions=[13],
            webStatus=False,
            failByDrop=False,
            maxFramePayloadSize=MESSAGE_LIMIT,
            maxMessagePayloadSize=MESSAGE_LIMIT,
            autoPingInterval=PING_INTERVAL,
            autoPingTimeout=PING_PATIENCE,
            openHandshakeTimeout=5,
            closeHandshakeTimeout=CLOSING_PATIENCE,
            tcpNoDelay=True,
        )
        for option in WebSocketServerProtocol.CONFIG_ATTRS:
            setattr(Session, option, getattr(self, option))

    def abort(self) -> None:
        """Drop whoever has not gone by itself."""
        for session in list(self.sessions):
            session.transport.abortConnection()
