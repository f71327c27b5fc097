"""One server under test with its own nodes: how it begins and ends, what it logs, and how clients come in.

Console number i, `n00007`, is the node that listens at 127.1.0.7.  `servers` says what is different about each server.
"""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.machine import PATIENCE, SERVER, Program, Tools, Trouble, free_port, until
from bench.meters import memory, processor


def console(number: int) -> str:
    return f"n{number:05}"


def address(number: int) -> str:
    return f"127.1.{number // 256}.{number % 256}"


class Stand:
    """One server, its nodes, and where its clients come in."""

    name = ""
    kind = ""
    """How a client comes in: see `load/client.h`."""
    package = ""
    patience = 2 * PATIENCE
    """Seconds for all consoles to be connected."""

    def __init__(self, tools: Tools, place: Path, count: int, **options: Any) -> None:
        """Start the nodes and the server, and wait until it holds them all."""
        self.tools = tools
        # Kept until the run ends: ext4 goes out of the way of inodes that were freed a moment ago, and a thousand files
        # deleted make a thousand new ones slow.
        self.place = Path(tempfile.mkdtemp(prefix=f"{self.name}-{count}-", dir=place))
        self.count = count
        self.port = free_port()
        self.node_port = free_port()
        self.options = options
        self.logs = self.place / "logs"
        self.logs.mkdir(parents=True)
        self.nodes = tools.start("nodes", self.node_port, count)
        self._server: Program | None = None
        self.seconds = 0.0
        """How long it took from the start of the server to the last connection."""
        self.dialling = 0.0
        """And from the first."""
        try:
            self.nodes.answer()
            began = time.monotonic()
            self._server = Program(self.command(), SERVER, self.place / "server.log", cwd=self.place)
            until(f"{self.name} holds {count} consoles", self._holds_all, self.patience)
            mark = self.nodes.ask("mark")
            self.seconds, self.dialling = mark["last_up"] - began, mark["last_up"] - mark["first_up"]
            until(f"{self.name} listens", self._listens)
        except BaseException:
            self.stop()
            raise

    @classmethod
    def key(cls, count: int, options: Mapping[str, Any]) -> tuple[Any, ...]:
        """Stands of which it is the same can stand in for each other."""
        return cls.name, count, *options.items()

    def command(self) -> list[str | Path]:
        """Write the configuration; the command that starts the server in the foreground."""
        raise NotImplementedError

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
        self.nodes.stop()

    @property
    def pid(self) -> int:
        assert self._server is not None
        return self._server.pid

    @property
    def alive(self) -> bool:
        return self._server is not None and self._server.process.poll() is None

    @property
    def processor(self) -> float:
        """Seconds used so far."""
        return processor(self.pid)

    @property
    def memory(self) -> int:
        """Bytes (PSS)."""
        return memory(self.pid)

    def _holds_all(self) -> bool:
        assert self._server is not None
        if self._server.process.poll() is not None:
            raise Trouble(f"{self.name} has ended: {self._server.complaint}")
        return bool(self.nodes.ask("mark")["up"] == self.count)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    # ------------------------------------------------------------------------------------------- logs

    def files(self, number: int) -> list[Path]:
        """The log of a console, in its order."""
        return [self.logs / f"{console(number)}.log"]

    def logged(self) -> int:
        """The bytes in all logs."""
        return sum(path.stat().st_size for path in self.logs.iterdir() if path.is_file())

    def forget(self) -> None:
        """Give the disk back; the server goes on writing.  Of use only while it is silent."""
        for number in range(self.count):
            for path in self.files(number):
                with path.open("r+b") as file:
                    file.truncate()

    # ------------------------------------------------------------------------------------------- clients

    def watchers(
        self,
        first: int,
        last: int,
        each: int = 1,
        *,
        window: int = 8,
        lines: int = 0,
        verb: str = "tail",
        tls: bool = False,
        patience: float = PATIENCE,
    ) -> Program:
        """Clients that read, when all of them are in.  What they do next: `load/watchers.c`.

        `window` of them come in at once; ConMan has room for ten at its door, and others wait a second or more.  To
        consoled they are of the kind `verb`.
        """
        port, how = self._door(tls)
        way = [verb, f"Cray-Console-Lines: {lines}\r\nCray-Console-Follow: true\r\n" if verb == "tail" else ""]
        program = self.tools.start("watchers", self.kind, port, first, last, each, window, how, *self._path(*way))
        try:
            program.greeting = program.answer(patience)
        except Trouble as trouble:
            program.stop()
            raise Trouble(f"its {each * (last - first)} clients do not all get in: {trouble}") from None
        except BaseException:
            program.stop()
            raise
        return program

    def typist(self, number: int, count: int, interval: float = 0.002, *, tls: bool = False) -> dict[str, Any]:
        """How long `count` keys take to come back, in seconds."""
        port, how = self._door(tls)
        arguments = (self.kind, port, console(number), count, int(interval * 1e6), how, *self._path("interact", ""))
        with self.tools.start("typist", *arguments) as program:
            return program.answer(10 + count * (interval + 0.1))

    def _door(self, tls: bool) -> tuple[int, str]:
        if tls:
            raise Trouble(f"TLS is not set up for {self.name}")
        return self.port, "plain"

    def _path(self, verb: str, headers: str) -> tuple[str, str]:
        return "/", headers
