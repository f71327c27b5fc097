"""The machine under the benchmark: its two processors, and the programs that run on them.

Whatever is started here runs on one of two processors: the server under test alone on the first, all load on the
second.  Whatever is waited for has a limit; a `Trouble` says what went wrong and becomes a dash in the table.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from bench.meters import CORES, born, family_of

SERVER, LOAD = CORES[0], CORES[-1]
PATIENCE = 30.0
"""Seconds for an answer of a load program, or for a server to begin or to end."""
SOURCES = Path(__file__).with_name("load")


class Trouble(Exception):
    """A measurement cannot be made; the text says why."""


# ------------------------------------------------------------------------------------------- programs


class Program:
    """A child on one processor.  Its stdin takes commands, its stdout answers each with a line of JSON."""

    def __init__(self, argv: Sequence[str | Path], core: int, log: Path, *, cwd: Path | None = None) -> None:
        """A server's output is its log (`cwd` is its own); of a load program only stderr is."""
        self.greeting: dict[str, Any] = {}
        """What it said when it was ready."""
        self._log = log
        self._rest = b""
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(core), *map(str, argv)],  # it becomes the program, and keeps the pid
                stdin=subprocess.DEVNULL if cwd else subprocess.PIPE,
                stdout=file if cwd else subprocess.PIPE,
                stderr=file,
                cwd=cwd,
                bufsize=0,
            )
        self.pid = self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def ask(self, command: str, patience: float = PATIENCE) -> dict[str, Any]:
        """One command and its answer."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(command.encode() + b"\n")
        except OSError:
            raise Trouble(f"{self.name} has ended: {self.complaint}") from None
        return self.answer(patience)

    def answer(self, patience: float = PATIENCE) -> dict[str, Any]:
        """The next line that it says."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + patience
        while b"\n" not in self._rest:
            if not select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise Trouble(f"{self.name}: no answer within {patience:g} s")
            data = os.read(self.process.stdout.fileno(), 1 << 20)
            if not data:
                self.process.wait(PATIENCE)
                raise Trouble(f"{self.name} has ended: {self.complaint}")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def stop(self) -> None:
        """End it, and all that it has started."""
        family = {pid: born(pid) for pid in family_of(self.pid) if pid != self.pid}
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid, then in family.items():
            if then and born(pid) == then:  # it has outlived its parent
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    @property
    def name(self) -> str:
        return Path(str(self.process.args[3])).name  # type: ignore[index]

    @property
    def complaint(self) -> str:
        """The last that it said on stderr."""
        text = self._log.read_text(errors="replace").strip()
        return text.rpartition("\n")[2][-600:] or f"status {self.process.poll()}"


class Tools:
    """The programs of `bench/load`, compiled when the benchmark starts."""

    def __init__(self, place: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise Trouble("the load programs are in C: apt-get install gcc libc6-dev")
        self.place = place
        flags = ["-O2", "-Wall", "-o"]
        self.tls = _compiles(compiler, "#include <openssl/ssl.h>")
        with_tls = ["-DTLS", "-lssl", "-lcrypto"] if self.tls else []
        for name in ("nodes", "relay", "verify", "watchers", "typist"):
            source = SOURCES / f"{name}.c"
            subprocess.run([compiler, *flags, place / name, source, *with_tls], check=True, timeout=60)

    def start(self, name: str, *arguments: object, core: int = LOAD) -> Program:
        return Program([self.place / name, *map(str, arguments)], core, self.place / f"{name}.log")

    def verify(self, consoles: Iterable[Iterable[Path]]) -> dict[str, int]:
        """Whether the files of each console are the stream."""
        names = "".join(" ".join(map(str, files)) + "\n" for files in consoles)
        argv = ["taskset", "-c", str(LOAD), str(self.place / "verify")]
        done = subprocess.run(argv, input=names, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise Trouble(f"verify: {done.stderr.strip()}")
        found: dict[str, int] = json.loads(done.stdout)
        return found


def _compiles(compiler: str, text: str) -> bool:
    argv = [compiler, "-fsyntax-only", "-xc", "-"]
    return subprocess.run(argv, input=text.encode(), stderr=subprocess.DEVNULL).returncode == 0


def free_port() -> int:
    """A port that nobody listens at on any loopback address, below those that the kernel gives to clients."""
    while True:
        port = 20000 + int.from_bytes(os.urandom(2)) % 12000
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        return port


def adopt() -> None:
    """Become the parent of whatever a server leaves behind (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def rest(memory: int) -> None:
    """Let nobody pay for what others have done: wait for the disk, and have so many bytes of `memory` used just now.

    A virtual machine often returns memory that it does not use to its host.  To fetch it again costs ten times what a
    write into the page cache does: a flood that comes first has a third of its pace.
    """
    with mmap.mmap(-1, memory or mmap.PAGESIZE) as held:
        held.madvise(mmap.MADV_HUGEPAGE)  # what is fetched in large pieces stays in large pieces
        for at in range(0, memory, mmap.PAGESIZE):
            held[at] = 1
        os.sync()


def until(what: str, done: Callable[[], bool], patience: float = PATIENCE, pause: float = 0.02) -> None:
    """Wait for `done`.  Raises `Trouble` that names `what`."""
    deadline = time.monotonic() + patience
    while not done():
        if time.monotonic() > deadline:
            raise Trouble(f"{what}: not within {patience:g} s")
        time.sleep(pause)


def raise_descriptors(wanted: int) -> int:
    """How many descriptors this process and its children may have from now on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (max(hard, wanted), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return limit
        except (OSError, ValueError):
            continue
    return soft
