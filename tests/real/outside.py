"""The daemon as its operator meets it: a process, its signals, its files, its log and its exit status.

Nothing in here needs a reactor.  A `Viewer` reads only when it is told to, so that a stall is a stall and no test
depends on how fast the machine is.  `tests.soak` uses all but the `Viewer`.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from tests.real import free_port
from tests.real.bare import LIMIT, Client, upgrade

CHECKOUT = Path(__file__).parent.parent.parent
TERMINATED = -signal.SIGTERM
"""twistd ends by the signal that stopped it, which systemd counts as success."""
SHUTDOWN = 1001, "The console service is shutting down"
"""The close frame of a daemon that stops."""
_FAULT = re.compile(r"Traceback|Unhandled|#(?:critical|error)\]|early|never retrieved|was never awaited")
_OWN = re.compile(rb"(?:(?:\r\n)?<ConMan> Console \[[^\]]*\] [^\r\n]* UTC\.\r\n)+")


def eventually(look: Callable[[], Any], limit: float = LIMIT) -> Any:
    """What `look` returns once it is something."""
    deadline = time.monotonic() + limit
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
    return found


# ------------------------------------------------------------------------------------------------ what it keeps


class Transcripts:
    """What a daemon has written into `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def segments(self, name: str) -> list[tuple[int, bytes]]:
        """The offset and the bytes of each file of a console, the active one last."""
        closed = sorted(self.directory.glob(f"console.{name}.{'[0-9]' * 20}*"))
        found = [(int(path.name.removesuffix(".gz")[-20:]), _bytes(path)) for path in closed]
        start = int(re.findall(r"^start (\d+)", self._index(name), re.M)[-1])
        return [*found, (start, (self.directory / f"console.{name}").read_bytes())]

    def stream(self, name: str) -> bytes:
        """The whole stream of a console that has lost nothing."""
        data = b""
        for start, part in self.segments(name):
            assert start == len(data), f"{name} has a gap at {len(data)}"
            data += part
        return data

    def marks(self, name: str) -> list[tuple[int, int]]:
        """Where its own lines are."""
        return self._ranges(name, "mark")

    def lost(self, name: str) -> list[tuple[int, int]]:
        """What it could not keep."""
        return self._ranges(name, "lost")

    def _ranges(self, name: str, what: str) -> list[tuple[int, int]]:
        return [(int(a), int(b)) for a, b in re.findall(rf"^{what} (\d+) (\d+)", self._index(name), re.M)]

    def _index(self, name: str) -> str:
        return (self.directory / ".index" / name).read_text()


# ------------------------------------------------------------------------------------------------ the daemon


class Daemon(Transcripts):
    """A consoled with its files under `home`, transcripts in `directory`."""

    def __init__(self, home: Path, config: str, *, directory: Path | None = None, transcript: str = "") -> None:
        """`config` follows `[http]` and `[transcript]`, of which `transcript` are the further keys."""
        super().__init__(directory or home / "transcripts")
        self.port = free_port()
        self.config = home / "consoled.toml"
        self.config.write_text(
            f'[http]\nlisten = ["tcp:{self.port}:interface=127.0.0.1"]\n'
            f'[transcript]\ndirectory = "{self.directory}"\n{transcript}\n{config}'
        )
        self.command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
        self.command += ["--nodaemon", "--pidfile=", "consoled", "--config", str(self.config)]
        self.viewers: list[Viewer] = []
        self._output = home / "output"
        self._process: subprocess.Popen[bytes] | None = None

    # Its life.

    def start(self, *, ready: bool = True, descriptors: tuple[int, int] | None = None, **environment: str) -> Daemon:
        """Returns when it is `ready`.  `descriptors` are the soft and the hard limit."""
        limits = ["prlimit", "--nofile={}:{}".format(*descriptors)] if descriptors else []
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [*limits, *self.command],
                cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=os.environ | environment,
            )  # fmt: skip
        if ready:
            eventually(self.is_ready, 2 * LIMIT)
        return self

    def refused(self, *arguments: str) -> str:
        """What it says when it does not start."""
        done = subprocess.run(
            [*self.command, *arguments],
            cwd=CHECKOUT, timeout=LIMIT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1, f"status {done.returncode}: {done.stdout}"
        assert "Traceback" not in done.stdout
        return done.stdout

    def signal(self, number: int) -> None:
        self._running.send_signal(number)

    def wait(self) -> int:
        """Its exit status, within the ten seconds that it has."""
        return self._running.wait(10)

    def terminate(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        self._running.kill()
        self._running.wait()

    def end(self) -> None:
        """Whatever has become of it."""
        if self._process is not None:
            self.kill()
        for viewer in self.viewers:
            viewer.leave()

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    # What it says.

    def is_ready(self) -> bool:
        assert self._running.poll() is None, self.log
        try:
            return self._get("readiness")[0] == 204
        except OSError:
            return False

    def health(self) -> dict[str, str]:
        return dict(json.loads(self._get("health")[1]))

    @property
    def log(self) -> str:
        return self._output.read_text(errors="replace")

    def faults(self) -> list[str]:
        """What the log should not have."""
        return [line for line in self.log.splitlines() if _FAULT.search(line)]

    def _get(self, what: str) -> tuple[int, bytes]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/console-operator/{what}", timeout=LIMIT) as answer:
            return answer.status, answer.read()

    # What it takes.

    def memory(self) -> int:
        """The bytes that are its own and nobody else's."""
        rollup = Path(f"/proc/{self._running.pid}/smaps_rollup").read_text()
        return 1024 * sum(int(size) for size in re.findall(r"^(?:Private_Dirty|Swap): +(\d+) kB", rollup, re.M))

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self._running.pid}/fd").iterdir()))

    def seconds(self) -> float:
        """The processor time that it has used."""
        user, system = Path(f"/proc/{self._running.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _bytes(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def assert_marked(stream: bytes, marks: list[tuple[int, int]], start: int = 0) -> None:
    """From the offset `start` on, what is marked is the daemon's own lines, all of them and nothing else."""
    for begin, end in marks:
        assert _OWN.fullmatch(stream, begin, end), f"marked, and no line of its own: {stream[begin:end]!r}"
    for begin, end in pairwise([start, *chain.from_iterable(marks), len(stream)]):
        at = stream.find(b"<ConMan>", begin, end)
        assert at < 0 or (begin, end) in marks, f"not marked: {stream[at : at + 100]!r}"


def without_own_lines(stream: bytes) -> bytes:
    """The node's bytes alone; some of the line ends before the daemon's lines may have been the node's."""
    return _OWN.sub(b"", stream)


def without_line_ends(text: bytes) -> bytes:
    return text.translate(None, b"\r\n")


def assert_begins(stream: bytes, seen: bytes) -> None:
    """What a client has `seen` from the first byte on is what the transcript has."""
    if not stream.startswith(seen):
        differ = next((at for at, (a, b) in enumerate(zip(stream, seen, strict=False)) if a != b), None)
        where = f"differs at {differ}" if differ is not None else f"has {len(seen) - len(stream)} bytes too few"
        raise AssertionError(f"the transcript {where}: {stream[-200:]!r}")


# ------------------------------------------------------------------------------------------ nodes and clients


def demo(name: str, role: str, **keys: Any) -> str:
    """The table of a simulated console."""
    more = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    return f'[[console]]\nname = "{name}"\nkind = "demo"\nrole = "{role}"\n{more}'


def numbered(first: int, count: int) -> bytes:
    """Lines of 64 bytes that are all different."""
    return b"".join(b"line %012d %s\r\n" % (number, b"." * 44) for number in range(first, first + count))


class Node:
    """A terminal server's raw port, where the daemon finds its console."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(LIMIT)
        self.port = self._listener.getsockname()[1]
        self.line: socket.socket | None = None

    def toml(self, name: str) -> str:
        return f'[[console]]\nname = "{name}"\nkind = "tcp"\naddress = "127.0.0.1:{self.port}"\n'

    def accept(self) -> Node:
        self.hang_up()
        self.line, _ = self._listener.accept()
        self.line.settimeout(LIMIT)
        return self

    def say(self, data: bytes) -> None:
        assert self.line is not None
        self.line.sendall(data)

    def heard(self) -> bytes:
        assert self.line is not None
        return self.line.recv(65536)

    @property
    def is_called(self) -> bool:
        """Whether somebody waits to be accepted."""
        return bool(select.select([self._listener], [], [], 0)[0])

    def hang_up(self) -> None:
        if self.line is not None:
            self.line.close()

    def close(self) -> None:
        self.hang_up()
        self._listener.close()


class Viewer(Client):
    """One of `daemon`'s, by the API of CSM."""

    def __init__(
        self, daemon: Daemon, node: str, verb: str = "tail", *, lines: int = 0, follow: bool = True, buffer: int = 0
    ) -> None:
        daemon.viewers.append(self)
        super().__init__(daemon.port, upgrade(verb, node, lines, follow), buffer=buffer)
