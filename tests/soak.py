"""Minutes of rough handling: `make soak`, or `SOAK_SECONDS=600 python -m tests.soak`.

One daemon with 500 consoles, demo nodes of every role and TCP nodes of the soak's own that flood and hang up, beside
250 whose addresses give no answer at all.  200 clients come, stall, type, flood and leave, some without a word; files
are moved away under the daemon (SIGUSR1) and links are told to dial (SIGUSR2), while segments are closed every 256 KiB
and compressed.  Afterwards

* what every client saw is what the transcripts have at that place: for a tail all bytes, for an interactive session
  those of the node alone;
* no transcript has lost a byte, and each ends with its `log closed`;
* a TCP node that hung up is held again within seconds, whatever the dead ones do;
* memory and descriptors are back where they were before the clients came, but for what is stated at `GROWTH`;
* the daemon's log has no error, and it stopped within ten seconds.

Prints a table; the exit status is 1 if one of these does not hold.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import zip_longest
from pathlib import Path
from random import Random

from tests.real.bare import BINARY, CLOSE, TEXT, Frames, masked, upgrade
from tests.real.outside import (
    SHUTDOWN,
    TERMINATED,
    Daemon,
    assert_marked,
    demo,
    numbered,
    without_line_ends,
    without_own_lines,
)

SECONDS = float(os.environ.get("SOAK_SECONDS", "180"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
CLIENTS = 200
TCP_NODES = 10
DEAD = 250
RETRY_MAX = 3.0
BACK = RETRY_MAX + 5.0
"""The seconds within which a TCP node that hung up must be dialled again."""
WARM_UP = 60.0
"""Seconds of the same before the first measurement: rings fill, and the allocator gets to know its peak."""
CALM = 5.0
"""Seconds between the last client's leaving and a measurement."""
GROWTH = 12 << 20
"""The bytes that the daemon may have grown by: rings of quiet consoles that filled meanwhile (500 of 8 KiB at most),
the list of closed segments (some 300 bytes each), and what the allocator keeps in pieces."""
SPARE = 12
"""The descriptors that may be left: eight unpacked segments are kept for a minute, and a link may be dialling."""
QUIET = b"Quiet-mode enabled"
NOTE = re.compile(rb"(?:\r\n)?<ConMan>")
MISSING = re.compile(rb"\r\n<ConMan> (\d+) bytes of the log are missing here\.\r\n")


class Machines:
    """The TCP nodes: one listener each, bursts of numbered lines, and a BMC that resets the connection."""

    def __init__(self, random: Random) -> None:
        self.absences: list[float] = []
        """How long each was alone after it had hung up."""
        self._random = random
        self._hung_up: dict[int, float] = {}
        self._servers: list[asyncio.Server] = []
        self._busy: set[asyncio.Task[None]] = set()

    async def start(self) -> list[int]:
        for which in range(TCP_NODES):
            self._servers.append(await asyncio.start_server(partial(self._serve, which), "127.0.0.1", 0))
        return [server.sockets[0].getsockname()[1] for server in self._servers]

    async def _serve(self, which: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if which in self._hung_up:
            self.absences.append(time.monotonic() - self._hung_up.pop(which))
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        number = self._random.randrange(10**11)
        ends = time.monotonic() + self._random.expovariate(1 / 15)
        with suppress(ConnectionError, asyncio.CancelledError):
            while time.monotonic() < ends:
                count = self._random.choice((1, 10, 1000, 8000))
                writer.write(numbered(number, count))
                await writer.drain()
                number += count
                await asyncio.sleep(self._random.expovariate(1))
        writer.transport.abort()
        self._hung_up[which] = time.monotonic()
        self._busy.discard(task)

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._busy):
            task.cancel()


class Silence:
    """A port of every loopback address where nobody answers: the kernel drops what a full backlog has no room for."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        self._listener.bind(("", 0))
        self._listener.listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._guests: list[socket.socket] = []
        with suppress(TimeoutError):
            while len(self._guests) < 10:
                guest = socket.socket()
                self._guests.append(guest)
                guest.settimeout(0.5)
                guest.connect(("127.0.0.1", self.port))
            raise AssertionError("a full backlog takes connections")

    def dialled(self) -> int:
        """How many connections to it are being attempted (state 02, SYN sent), by whomever."""
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        return sum(fields[2].endswith(f":{self.port:04X}") and fields[3] == "02" for fields in map(str.split, lines))

    def close(self) -> None:
        for one in (self._listener, *self._guests):
            one.close()


class Session:
    """One client's visit, and what it saw."""

    def __init__(
        self, daemon: Daemon, file: Path, node: str, verb: str, lines: int, follow: bool, buffer: int = 0
    ) -> None:
        self.node = node
        self.verb = verb
        self.file = file
        """The text, as bytes; of an interactive session what comes in quiet mode, less the daemon's answers to it."""
        self.closed: tuple[int, str] | None = None
        self._request = upgrade(verb, node, lines, follow)
        self._daemon = daemon
        self._buffer = buffer
        self._frames = Frames()
        self._seen = file.open("wb")
        self._listening = verb == "tail"

    async def open(self) -> None:
        line = socket.socket()
        line.setblocking(False)
        if self._buffer:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
        await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", self._daemon.port))
        self._reader, self._writer = await asyncio.open_connection(sock=line)
        self._writer.write(self._request)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 101 "):
            raise ConnectionError(repr(answer))
        if self.verb == "interact":
            await self.type(b"&Q")

    async def read(self, seconds: float) -> None:
        """Read for so long, or to the end."""
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(seconds):
                while data := await self._reader.read(1 << 16):
                    self._take(data)

    async def type(self, keys: bytes) -> None:
        self._writer.write(masked(BINARY, keys))
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(5):
                await self._writer.drain()

    async def say_goodbye(self) -> None:
        self._writer.write(masked(CLOSE, (1000).to_bytes(2)))
        await self.read(5)

    def leave(self) -> None:
        self._writer.transport.abort()
        self._seen.close()

    def _take(self, data: bytes) -> None:
        for opcode, payload in self._frames.feed(data):
            if opcode == TEXT:
                if self._listening and (self.verb == "tail" or MISSING.match(payload) or not NOTE.match(payload)):
                    self._seen.write(payload)
                self._listening = self._listening or QUIET in payload
            elif opcode == CLOSE:
                self.closed = int.from_bytes(payload[:2]), payload[2:].decode()
                self._writer.write(masked(CLOSE, payload))

    def judge(self, stream: bytes, node: bytes, moved: list[tuple[int, int]]) -> str | None:
        """What is wrong with what it saw: not in the `stream`, or, if it was interactive, in the `node`'s bytes alone.

        What was `moved` away may be missing; then it was told exactly how much.
        """
        pieces = MISSING.split(self.file.read_bytes())
        if self.verb == "interact":
            places = [node.find(without_line_ends(piece)) for piece in pieces[::2]]
            good = min(places) >= 0
        else:
            good = any(_fits(pieces, stream, at, moved) for at in _places(pieces[0], stream))
        return None if good else f"{self.verb} {self.node}: not in the stream: {self._beginnings(pieces)}"

    @staticmethod
    def _beginnings(pieces: list[bytes]) -> str:
        return ", ".join(f"{len(piece)} bytes {piece[:64]!r} to {piece[-64:]!r}" for piece in pieces)


def _places(piece: bytes, stream: bytes) -> Iterator[int]:
    at = stream.find(piece)
    while at >= 0:
        yield at
        at = stream.find(piece, at + 1)


def _fits(pieces: list[bytes], stream: bytes, at: int, moved: list[tuple[int, int]]) -> bool:
    """Whether the pieces, between which so many bytes are missing as it says, are in the stream from `at` on."""
    for piece, missing in zip_longest(pieces[::2], map(int, pieces[1::2]), fillvalue=0):
        if not stream.startswith(piece, at):
            return False
        at += len(piece)
        if missing and not any(start <= at and at + missing <= stop for start, stop in moved):
            return False
        at += missing
    return True


class Soak:
    """All of it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.random = Random(SEED)
        self.machines = Machines(self.random)
        self.silence = Silence()
        self.sessions: list[Session] = []
        self.failures: list[str] = []
        self.figures: dict[str, str] = {}
        self.moved: dict[str, list[Path]] = {}
        self.counts: Counter[str] = Counter()
        self.latencies: list[float] = []
        self.peak = [0, 0]
        self.most_dialled = 0
        self._tasks: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------------------------------------ the run

    async def run(self) -> None:
        ports = await self.machines.start()
        roles = {
            "n": (240, {"role": "node"}),
            "k": (100, {"role": "flaky", "failures": 0.3, "mean_uptime": "10s"}),
            "c": (80, {"role": "chatter", "interval": "200ms"}),
            "f": (8, {"role": "flood", "rate": "128 KiB"}),
            "g": (32, {"role": "flood", "rate": "8 KiB"}),
            "e": (20, {"role": "echo"}),
            "q": (10, {"role": "quiet"}),
        }
        self.names = [f"{kind}{number}" for kind, (count, _) in roles.items() for number in range(1, count + 1)]
        config = '[hub]\nring = "4 KiB"\n[defaults]\n' + f"retry_max = {RETRY_MAX}\n"
        config += "".join(demo(f"{kind}[1-{count}]", **keys) for kind, (count, keys) in roles.items())
        for number, port in enumerate(ports, 1):
            self.names.append(f"t{number}")
            config += f'[[console]]\nname = "t{number}"\nkind = "tcp"\naddress = "127.0.0.1:{port}"\n'
        assert len(self.names) == 500
        dead = f"127.9.0.{{index+1}}:{self.silence.port}"
        config += f'[[console]]\nname = "d[1-{DEAD}]"\nkind = "tcp"\naddress = "{dead}"\n'
        self.daemon = Daemon(self.home, config, transcript='max_size = "256 KiB"\ncompress = true\nmax_total = 0')
        # One pool for all threads: what malloc keeps for each of them would hide what the daemon itself keeps.
        await asyncio.to_thread(self.daemon.start, MALLOC_ARENA_MAX="1")
        try:
            await self._play()
        finally:
            self.daemon.end()
            self.silence.close()
            await self.machines.stop()

    async def _play(self) -> None:
        daemon = self.daemon
        await self._crowd(WARM_UP)
        memory, descriptors, began = daemon.memory(), self._descriptors(), time.monotonic()
        used = daemon.seconds()
        self.figures["before"] = f"{memory / 2**20:.1f} MiB, {descriptors} descriptors"
        self.peak = [0, 0]
        await self._crowd(SECONDS)
        after, left = daemon.memory(), self._descriptors()
        self.figures["peak"] = f"{self.peak[0] / 2**20:.1f} MiB, {self.peak[1]} descriptors"
        self.figures["after"] = f"{after / 2**20:.1f} MiB, {left} descriptors"
        self.figures["processor"] = f"{(daemon.seconds() - used) / (time.monotonic() - began):.0%} of one core"
        self.check(daemon.health()["clients"] == "0", f"{daemon.health()['clients']} clients are still attached")
        self.check(daemon.health()["status"] == "ok", f"health: {daemon.health()['status']}")
        self.check(after <= memory + GROWTH, f"the daemon has grown by {(after - memory) / 2**20:.1f} MiB")
        self.check(left <= descriptors + SPARE, f"{left - descriptors} descriptors are left open")

        absences = sorted(self.machines.absences)
        self.check(bool(absences), "no TCP node was dialled again")
        self.figures["TCP nodes"] = (
            f"back after {absences[len(absences) // 2]:.1f} s, at the latest {absences[-1]:.1f} s"
        )
        self.check(absences[-1] <= BACK, f"a TCP node that hung up was alone for {absences[-1]:.1f} s")
        self.check(self.most_dialled > DEAD / 2, f"only {self.most_dialled} of the dead were dialled at once")
        self.figures["dead"] = f"{DEAD}, up to {self.most_dialled} dialled at once"

        last = [self._visit(name, "tail", 10**6, True) for name in self.random.sample(self.names, 50)]
        for session in last:
            await session.open()
        daemon.signal(signal.SIGTERM)
        began = time.monotonic()
        await asyncio.gather(*(session.read(10) for session in last))
        status = await asyncio.to_thread(daemon.wait)
        self.figures["stopped"] = f"in {time.monotonic() - began:.1f} s with 50 clients in the middle of a tail"
        self.check(status == TERMINATED, f"the daemon ended with {status}")
        for session in last:
            session.leave()
            self.check(session.closed == SHUTDOWN, f"{session.node}: its client was closed with {session.closed}")
        self._judge()

    def _descriptors(self) -> int:
        """The daemon's, but for those that it tries to reach the dead with: they come and go."""
        return self.daemon.descriptors() - self.silence.dialled()

    async def _crowd(self, seconds: float) -> None:
        """All clients and all troubles for so long.  Returns when they have been gone for a moment."""
        self.ends = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._client(Random(self.random.random())))
            for trouble in (self._rotate_by_hand(), self._dial_now(), self._watch()):
                group.create_task(trouble)
        await asyncio.sleep(CALM)

    async def _client(self, random: Random) -> None:
        """One seat: visitors come and go."""
        while time.monotonic() < self.ends:
            kind = random.choice("nnkkcffggett")
            node = random.choice([name for name in self.names if name[0] == kind])
            verb = random.choice(("tail", "tail", "interact"))
            follow = random.random() < 0.8
            stalls = random.random() < 0.3
            lines = random.choice((0, 10, 1000, 1_000_000 if random.random() < 0.2 else 5000))
            session = self._visit(node, verb, lines, follow, 8192 if stalls else 0)
            try:
                await session.open()
            except (OSError, EOFError) as error:
                self.failures.append(f"{verb} {node}: not let in: {error}")
                await asyncio.sleep(1)
                continue
            self.counts[verb] += 1
            for _ in range(random.randrange(1, 4)):
                if stalls:
                    self.counts["stalls"] += 1
                    await asyncio.sleep(random.uniform(1, 20))
                if verb == "interact":
                    for _ in range(random.choice((1, 50))):
                        await session.type(random.choice((b"root\r", b"help\r", b"x" * 1000 + b"\r")))
                await session.read(random.uniform(0.1, 10))
            if random.random() < 0.7:
                await session.say_goodbye()
            else:
                self.counts["vanished"] += 1
            session.leave()
            await asyncio.sleep(random.uniform(0, 0.5))

    def _visit(self, node: str, verb: str, lines: int, follow: bool, buffer: int = 0) -> Session:
        session = Session(self.daemon, self.home / f"session-{len(self.sessions)}", node, verb, lines, follow, buffer)
        self.sessions.append(session)
        return session

    async def _rotate_by_hand(self) -> None:
        """What logrotate does.  A file that has another name by then was closed by the daemon itself."""
        while time.monotonic() < self.ends:
            await asyncio.sleep(4)
            for name in self.random.sample(self.names, 25):
                moved = self.moved.setdefault(name, [])
                target = self.home / f"{name}.moved-{len(moved)}"
                with suppress(FileNotFoundError):
                    (self.daemon.directory / f"console.{name}").rename(target)
                    moved.append(target)
                    self.counts["moved"] += 1
            self.daemon.signal(signal.SIGUSR1)

    async def _dial_now(self) -> None:
        while time.monotonic() < self.ends:
            await asyncio.sleep(11)
            self.daemon.signal(signal.SIGUSR2)

    async def _watch(self) -> None:
        """How long the daemon takes to answer, and how much it takes."""
        while time.monotonic() < self.ends:
            began = time.monotonic()
            health = await asyncio.to_thread(self.daemon.health)
            self.latencies.append(time.monotonic() - began)
            self.counts["most clients"] = max(self.counts["most clients"], int(health["clients"]))
            self.peak = [max(self.peak[0], self.daemon.memory()), max(self.peak[1], self.daemon.descriptors())]
            self.most_dialled = max(self.most_dialled, self.silence.dialled())
            self.check(health["status"] == "ok", f"health: {health['status']}")
            await asyncio.sleep(0.5)

    # --------------------------------------------------------------------------------------- the judgement

    def check(self, good: bool, complaint: str) -> None:
        if not good:
            self.failures.append(complaint)

    def _judge(self) -> None:
        visits: dict[str, list[Session]] = {}
        for session in self.sessions:
            visits.setdefault(session.node, []).append(session)
        total = segments = losses = 0
        for name in self.names:
            try:
                stream, moved, count = self._whole(name)
                # Of what was moved away the marks are forgotten.
                assert_marked(stream, self.daemon.marks(name), moved[-1][1] if moved else 0)
            except (AssertionError, OSError, IndexError) as error:
                self.failures.append(f"{name}: {error}")
                continue
            total += len(stream)
            node = without_line_ends(without_own_lines(stream))
            segments += count
            losses += stream.count(b"] disconnected from ")
            self.check(not self.daemon.lost(name), f"{name}: lost {self.daemon.lost(name)}")
            self.check(b"log closed" in stream[-100:], f"{name}: ends with {stream[-100:]!r}")
            for session in visits.get(name, ()):
                if complaint := session.judge(stream, node, moved):
                    self.failures.append(complaint)
        for fault in self.daemon.faults()[:10]:
            self.failures.append(fault)
        seen = sum(session.file.stat().st_size for session in self.sessions)
        self.figures["sessions"] = f"{len(self.sessions)}, {seen / 2**20:.0f} MiB compared"
        self.figures["streams"] = f"{total / 2**20:.0f} MiB in {segments} closed segments"
        self.figures["links lost"] = str(losses)
        for what, number in sorted(self.counts.items()):
            self.figures[what] = str(number)
        slow = sorted(self.latencies)
        self.figures["answers"] = f"median {slow[len(slow) // 2] * 1000:.0f} ms, slowest {slow[-1] * 1000:.0f} ms"

    def _whole(self, name: str) -> tuple[bytes, list[tuple[int, int]], int]:
        """The stream of a console: its segments, with the files that were moved away in the holes between them.

        And what was moved away, and how many segments were closed.
        """
        parts = self.daemon.segments(name)
        moved = iter([path.read_bytes() for path in self.moved.get(name, ()) if path.stat().st_size])
        data, holes = b"", []
        for start, part in parts:
            if len(data) < start:
                holes.append((len(data), start))
            while len(data) < start:
                data += next(moved, b"") or _gap(len(data), start)
            assert len(data) == start, f"the file at {start} begins {len(data) - start} bytes too early"
            data += part
        assert not any(moved), "a file that was moved away is in no hole"
        return data, holes, len(parts) - 1


def _gap(at: int, start: int) -> bytes:
    raise AssertionError(f"nothing from {at} to {start}")


def main() -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="consoled-soak-") as place:
        soak = Soak(Path(place))
        asyncio.run(soak.run())
        for what, figure in {"asked for": f"{SECONDS:.0f} s, seed {SEED}", **soak.figures}.items():
            print(f"{what:>14}  {figure}")
        print(f"{'whole run':>14}  {time.monotonic() - began:.0f} s")
        for failure in soak.failures[:40]:
            print(f"FAILED  {failure[:600]}")
        if soak.failures:
            print(f"{len(soak.failures)} failures; the daemon's log ends with\n{soak.daemon.log[-2000:]}")
    return bool(soak.failures)


if __name__ == "__main__":
    sys.exit(main())
