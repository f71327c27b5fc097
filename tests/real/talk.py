"""Whoever a test talks with: a program that it started, a WebSocket of its own to the daemon, or a console's line.

What they say is kept from the first byte on; a test says what it waits for (`until`) and is woken when it has come,
or fails with what came instead: after `LIMIT` seconds, or at once when nothing more can come.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import pytest
import txaio
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

LIMIT = 30.0
"""Seconds after which what has not come will not come."""


class Talk:
    """What one of them has said, and how far the test has read."""

    def __init__(self) -> None:
        self.said = bytearray()
        self.errors = bytearray()
        """What went to where errors go; nobody waits for that."""
        self.over: Deferred[None] = Deferred()
        """Fires when no more can come."""
        self._read = 0
        self._wanted: tuple[bytes, Deferred[str], IDelayedCall] | None = None

    def until(self, text: str) -> Deferred[str]:
        """Fires with what was said since the last time, up to and with `text`."""
        found: Deferred[str] = Deferred()
        late = reactor.callLater(LIMIT, self._give_up)
        self._wanted = text.encode(), found, late
        self._look()
        return found

    def heard(self, data: bytes) -> None:
        self.said += data
        self._look()

    def finish(self) -> None:
        """They have gone."""
        self.over.callback(None)
        self._look()

    def _look(self) -> None:
        if self._wanted is None:
            return
        text, found, late = self._wanted
        at = self.said.find(text, self._read)
        if at >= 0:
            late.cancel()
            begin, self._read, self._wanted = self._read, at + len(text), None
            found.callback(bytes(self.said[begin : self._read]).decode(errors="replace"))
        elif self.over.called:
            late.cancel()
            self._give_up()

    def _give_up(self) -> None:
        assert self._wanted is not None
        (text, found, _), self._wanted = self._wanted, None
        rest, end = bytes(self.said[self._read :]), " and the end" if self.over.called else ""
        why = f"{text!r} did not come, but {rest[-1000:]!r}{end} (errors: {bytes(self.errors)!r})"
        found.errback(AssertionError(why))


class Program(Talk, ProcessProtocol):
    """A child process on pipes or, with `pty`, on a terminal, where its errors are among its output."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str] | None = None, *, pty: bool = False) -> None:
        super().__init__()
        # A proxy of the site's is no way to our loopback.
        clean = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        reactor.spawnProcess(self, argv[0], argv, env=clean | dict(env or {}), usePTY=pty)

    def type(self, line: str) -> None:
        self.transport.write(line.encode() + b"\n")

    def leave(self) -> Deferred[None]:
        """SIGKILL, if it has not ended; fires when it is gone."""
        if not self.over.called:
            self.transport.signalProcess("KILL")
        return self.over

    # Twisted calls these.

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD == 2:
            self.errors += data
        else:
            self.heard(data)

    def processEnded(self, reason: Failure) -> None:
        self.finish()


class WebSocket(Talk, WebSocketClientProtocol):
    """autobahn's client.  When the WebSocket closes it says `closed CODE REASON`, as the other clients of the tests."""

    def __init__(self) -> None:
        Talk.__init__(self)
        WebSocketClientProtocol.__init__(self)

    @classmethod
    async def open(cls, url: str, headers: Mapping[str, str] | None = None) -> WebSocket:
        txaio.config.loop = reactor  # tests with a clock of their own may have set another
        factory = WebSocketClientFactory(url, headers=dict(headers or {}), reactor=reactor)
        factory.protocol = cls
        client: WebSocket = await TCP4ClientEndpoint(reactor, factory.host, factory.port).connect(factory)
        return client

    def type(self, line: str) -> None:
        """A line without its end, as the stock clients send it."""
        self.sendMessage(line.encode())

    def press(self, keys: bytes) -> None:
        """Keystrokes and nothing else."""
        self.sendMessage(keys, isBinary=True)

    def leave(self) -> Deferred[None]:
        """Close in good order where it is open; fires when the connection is gone."""
        if self.state == self.STATE_OPEN:
            self.sendClose(1000)
        else:
            self.dropConnection(abort=True)
        return self.over

    # autobahn calls these.

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        assert not isBinary
        self.heard(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.heard(f"\nclosed {code} {reason}\n".encode())
        self.finish()


class Owner:
    """A `LineOwner` that waits for what a person would wait for."""

    def __init__(self) -> None:
        self.output = b""
        self.gone: Deferred[str] = Deferred()
        self._wanted: tuple[bytes, Deferred[bytes]] | None = None

    def received(self, data: bytes) -> None:
        self.output += data
        self._look()

    def lost(self, why: str) -> None:
        self.gone.callback(why)

    def until(self, text: bytes) -> Deferred[bytes]:
        """Fires with the output up to and with `text`."""
        found: Deferred[bytes] = Deferred()
        found.addTimeout(LIMIT, reactor, lambda *_: pytest.fail(f"{text!r} did not come after {self.output!r}"))
        self._wanted = text, found
        self._look()
        return found

    def end(self) -> Deferred[str]:
        """Fires with why the line was lost."""
        return self.gone.addTimeout(LIMIT, reactor, lambda *_: pytest.fail(f"not lost after {self.output!r}"))

    def _look(self) -> None:
        if self._wanted is not None and self._wanted[0] in self.output:
            text, found = self._wanted
            self._wanted = None
            before, _, self.output = self.output.partition(text)
            found.callback(before + text)
