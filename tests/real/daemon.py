"""The whole daemon, started as a user would start it, for tests that look at it from outside only."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import ConnectError, ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseFailed
from twisted.web.http_headers import Headers

from tests.real import free_port

READY = 30.0
"""Seconds for the daemon to start: the machine may be busy with other tests."""
STOPPED = 10.0
"""Seconds that it has to stop after SIGTERM: its promise."""


class RunningDaemon:
    """`twistd --nodaemon consoled` on a free port of loopback.

    `config` is the rest of the TOML file, without `[http]`; of `[transcript]` it has the further keys in `transcript`.
    Files that it names relatively (tokens) belong into `directory`.  It may be started again after it has ended.
    """

    def __init__(self, reactor: Any, directory: Path, config: str, *, transcript: str = "") -> None:
        self.directory = directory
        self.transcripts = directory / "transcripts"
        self.token = ""
        """Of somebody who may list consoles, for the health page; empty where nobody has to log in."""
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._reactor = reactor
        self._config = directory / "consoled.toml"
        self._config.write_text(
            f'[http]\nlisten = ["tcp:{self.port}:interface=127.0.0.1"]\n'
            f'[transcript]\ndirectory = "transcripts"\n{transcript}\n{config}'
        )
        self._log = directory / "consoled.log"
        self._process: _Process | None = None

    # ------------------------------------------------------------------------------------------- its life

    async def start(self) -> None:
        """Fires once it listens and knows its consoles; fails with its log if it does not, and is gone then."""
        process = self._spawn()
        deadline = self._reactor.seconds() + READY
        while not await self._ready():
            if process.ended.called or self._reactor.seconds() > deadline:
                await self.kill()
                raise AssertionError(f"consoled is not ready:\n{self.log}")
            await deferLater(self._reactor, 0.05)

    async def holds(self, links: int) -> None:
        """Fires once so many consoles are connected."""
        deadline = self._reactor.seconds() + READY
        while (up := (await self.health()).get("links_up", "0")) != str(links):
            assert self._reactor.seconds() < deadline, f"{up} links are up, not {links}:\n{self.log}"
            await deferLater(self._reactor, 0.05)

    async def stop(self) -> None:
        """SIGTERM; fires when it has ended, fails if that takes it longer than it may.  Harmless when it has ended."""
        process = self._process
        if process is None or process.ended.called:
            return
        process.transport.signalProcess("TERM")
        late = self._reactor.callLater(STOPPED, process.transport.signalProcess, "KILL")
        how = await process.ended
        if not late.active():
            raise AssertionError(f"consoled did not stop within {STOPPED:g} s:\n{self.log}")
        late.cancel()
        # twistd ends by the signal that it was sent.
        if how.signal not in (None, signal.SIGTERM) or how.exitCode:
            raise AssertionError(f"consoled did not stop in good order: {how}\n{self.log}")

    async def kill(self) -> None:
        """SIGKILL, as a crash would; fires when it is gone."""
        assert self._process is not None
        if not self._process.ended.called:
            self._process.transport.signalProcess("KILL")
            await self._process.ended

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.transport.signalProcess(number.value)

    def _spawn(self) -> _Process:
        twistd = str(Path(sys.executable).with_name("twistd"))
        argv = [twistd, "--nodaemon", "--pidfile=", "consoled", "--config", str(self._config)]
        self._process = process = _Process()
        with self._log.open("ab") as log, Path(os.devnull).open() as nothing:
            files = {0: nothing.fileno(), 1: log.fileno(), 2: log.fileno()}
            self._reactor.spawnProcess(process, twistd, argv, env=dict(os.environ), childFDs=files)
        self.pid: int = process.transport.pid
        return process

    async def _ready(self) -> bool:
        try:
            return bool((await self._get("readiness")).code == 204)
        except (ConnectError, ResponseFailed, TimeoutError):
            return False

    async def _get(self, path: str) -> Any:
        headers = Headers({"Authorization": [f"Bearer {self.token}"]} if self.token else {})
        asking = Agent(self._reactor, connectTimeout=1).request(b"GET", self.http(path).encode(), headers)
        return await asking.addTimeout(READY, self._reactor)

    # ------------------------------------------------------------------------------------------- what is to see

    def http(self, path: str) -> str:
        """The address of `path` behind CSM's gateway."""
        return f"http://{self.address}/console-operator/{path}"

    def ws(self, path: str) -> str:
        """The same as a WebSocket's."""
        return f"ws://{self.address}/console-operator/{path}"

    async def health(self) -> dict[str, str]:
        """What its health page says."""
        body = _Body()
        (await self._get("health")).deliverBody(body)
        page: dict[str, str] = json.loads(await body.whole)
        return page

    @property
    def log(self) -> str:
        """Everything it has logged, in all its lives."""
        return self._log.read_text(errors="replace")

    @property
    def memory(self) -> int:
        """The bytes of memory that are its own."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def descriptors(self) -> int:
        """How many files and sockets it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def transcript(self, console: str) -> bytes:
        """What the active file of `console` holds."""
        return (self.transcripts / f"console.{console}").read_bytes()

    def stream(self, console: str) -> bytes:
        """All its files, in their order.  Of use only while none is being closed."""
        closed = sorted(self.transcripts.glob(f"console.{console}.{'[0-9]' * 20}"))
        return b"".join(path.read_bytes() for path in closed) + self.transcript(console)


class _Process(ProcessProtocol):
    def __init__(self) -> None:
        self.ended: Deferred[ProcessDone | ProcessTerminated] = Deferred()
        """Fires with how it ended."""

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(reason.value)


class _Body(Protocol):
    """The body of an answer.  (`readBody` warns that its transport cannot be aborted, and warnings are errors here.)"""

    def __init__(self) -> None:
        self.whole: Deferred[bytes] = Deferred()
        self._data = b""

    def dataReceived(self, data: bytes) -> None:
        self._data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.whole.callback(self._data)
