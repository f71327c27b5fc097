"""Where an operator works: an installed consoled, a shell, what systemd does with the unit, and who watches all day.

Used by `test_operators_day`.  Everything is under a root of its own, in the places where docs/operations.md has it
under `/`; what the operator sees of it is printed, for whoever reads a failure.
"""

from __future__ import annotations

import json
import shlex
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

from tests.environment import CHECKOUT, Environment, build_wheel, copy_of_the_checkout
from tests.real.bare import CLOSE, TEXT, Client, asking, masked
from tests.real.outside import Node, eventually, numbered

LIMIT = 30.0
"""Seconds after which what is waited for will not come any more."""
_SCRIPTS = {"twistd": "twisted.scripts.twistd:run", "wsdump": "websocket._wsdump:main"}
"""What pip would have made of the packages that the environment has from ours."""


class Shell:
    """A shell, and the files of a machine of which `root` stands for `/`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.etc, self.log, self.lib = root / "etc/consoled", root / "var/log/consoled", root / "var/lib/consoled"
        for directory in (self.etc / "conf.d", self.log, self.lib):
            directory.mkdir(parents=True, exist_ok=True)
        self.path = f"{root}/opt/consoled/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self.variables = {"PATH": self.path, "LC_ALL": "C.UTF-8", "ETC": str(self.etc), "LOG": str(self.log)}

    def __call__(self, line: str, status: int = 0) -> str:
        """Everything that `line` prints; fails if its exit status is another."""
        print("$", line)
        done = subprocess.run(
            ["sh", "-c", line], cwd=self.root, env=self.variables, timeout=LIMIT, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        print(done.stdout)
        assert done.returncode == status, f"status {done.returncode}"
        return done.stdout

    def write(self, name: str, text: str) -> None:
        """A file of the configuration, as the documentation advises: beside it, and then in its place."""
        fresh = self.etc / f"{name}.new"
        fresh.write_text(text)
        fresh.chmod(0o640)
        fresh.rename(self.etc / name)

    def install(self) -> None:
        """From a wheel, into an environment of its own.  The packages that it needs are those of the tests."""
        environment = Environment(self.root / "opt" / "consoled")
        environment.install(build_wheel(copy_of_the_checkout(self.root / "source"), self.root / "wheels"))
        for name, where in _SCRIPTS.items():
            module, _, function = where.partition(":")
            script = environment.bin / name
            script.write_text(f"#!{environment.python}\nfrom {module} import {function}\n{function}()\n")
            script.chmod(0o755)


class Systemd:
    """What systemd does with the unit as it is shipped, but for the user and the sandbox."""

    def __init__(self, shell: Shell) -> None:
        text = (CHECKOUT / "etc" / "systemd" / "consoled.service").read_text()
        for place in ("/opt/", "/etc/"):
            text = text.replace(place, f"{shell.root}{place}")
        self._unit = text.splitlines()
        self._credentials = shell.root / "run" / "credentials"
        self._credentials.mkdir(mode=0o700, parents=True)
        self._shell = shell
        self._journal = shell.root / "journal"
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._line.bind(str(shell.root / "run" / "notify"))
        self._told: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._listen, name="systemd")
        self._thread.start()

    def give(self, name: str, secret: str) -> None:
        """`LoadCredential=` of the unit."""
        file = self._credentials / name
        file.touch(0o400)
        file.write_text(secret)

    def start(self) -> None:
        """Returns when the daemon has said that it is ready."""
        for line in self._says("ExecStartPre"):
            self._shell(line)
        service = {
            "PATH": self._shell.path,
            "NOTIFY_SOCKET": self._line.getsockname(),
            "WATCHDOG_USEC": "30000000",
            "CREDENTIALS_DIRECTORY": str(self._credentials),
        }
        service |= dict(line.split("=", 1) for line in self._says("Environment"))
        [start], [umask] = self._says("ExecStart"), self._says("UMask")
        with self._journal.open("ab") as journal:
            self._process = subprocess.Popen(
                shlex.split(start), cwd=self._shell.lib, env=service, umask=int(umask, 8),
                stdin=subprocess.DEVNULL, stdout=journal, stderr=journal,
            )  # fmt: skip
        self._hears("READY=1")

    def reload(self, status: int = 0) -> str:
        """`systemctl reload`, which ends with `status`.  Returns what that and the log say of it."""
        before, told = len(self.journal), len(self._told)
        *checks, signal_it = self._says("ExecReload")
        said = "".join(self._shell(line, status) for line in checks)
        if not status:
            self._shell(signal_it.replace("$MAINPID", str(self.pid)))
            self._hears("RELOADING=1", "READY=1", since=told)
        return said + self._said_since(before)

    def hang_up(self) -> str:
        """SIGHUP alone.  Returns what the log says of it."""
        before, told = len(self.journal), len(self._told)
        self.kill(signal.SIGHUP)
        self._hears("RELOADING=1", "READY=1", since=told)
        return self._said_since(before)

    def kill(self, number: signal.Signals) -> None:
        """`systemctl kill --kill-who=main`."""
        self.process.send_signal(number)

    def stop(self) -> int:
        """The exit status, within the ten seconds that are promised."""
        self.kill(signal.SIGTERM)
        status = self.process.wait(10)
        self._hears("STOPPING=1")
        return status

    def end(self) -> None:
        """Whatever has become of it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._line.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._line.close()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def journal(self) -> str:
        return self._journal.read_text(errors="replace")

    def _says(self, key: str) -> list[str]:
        """What the unit has for `key`."""
        return [line.partition("=")[2] for line in self._unit if line.startswith(f"{key}=")]

    def _said_since(self, before: int) -> str:
        said = self.journal[before:]
        print(said)
        return said

    def _hears(self, *states: str, since: int = 0) -> None:
        """Until the last of `states` has come after the others."""

        def have_come() -> bool:
            told = iter(self._told[since:])
            return all(state in told for state in states)

        eventually(lambda: have_come() or not self.is_running, LIMIT)
        assert have_come(), self.journal

    def _listen(self) -> None:
        while said := self._line.recv(4096):
            self._told += said.decode().splitlines()


# ------------------------------------------------------------------------------------------------ who is there


class Lobby(threading.Thread):
    """The node behind a console that nobody touches: it says a line every few milliseconds until the line is gone."""

    def __init__(self) -> None:
        super().__init__(name="lobby", daemon=True)
        self.node = Node()
        self.said = 0
        """How many lines."""
        self.start()

    def run(self) -> None:
        self.node.accept()
        pause = threading.Event()
        try:
            for number in count():
                self.node.say(numbered(number, 1))
                self.said = number + 1
                pause.wait(0.002)
        except OSError:
            pass  # the daemon has hung up: `is_alive` says so

    def end(self) -> None:
        self.node.close()  # the thread hears of it when it speaks next
        self.join(LIMIT)


class Stream(Client):
    """A client of `/v1`'s stream from the offset 0 on."""

    def __init__(self, port: int, console: str, token: str, *, tls: ssl.SSLContext | None = None) -> None:
        self.events: list[dict[str, Any]] = []
        request = asking(f"/v1/consoles/{console}/stream?offset=0", Authorization=f"Bearer {token}")
        super().__init__(port, request, tls=tls)

    def heard(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            self.events.append(json.loads(payload))
        else:
            assert int.from_bytes(payload[:8]) == len(self.seen), "bytes were missed, or came twice"
            self.seen += payload[8:]


class Watcher(threading.Thread):
    """Reads all that a client gets, from its first message to its last."""

    def __init__(self, client: Client) -> None:
        super().__init__(name="watcher", daemon=True)
        self.client = client
        client.socket.settimeout(None)  # a node may be silent for as long as it likes
        self.start()

    def run(self) -> None:
        try:
            self.client.rest()
        finally:
            self.client.leave()

    @property
    def seen(self) -> bytearray:
        return self.client.seen

    def until(self, text: bytes) -> None:
        eventually(lambda: text in self.seen or not self.is_alive(), LIMIT)
        assert text in self.seen, f"closed {self.client.closed} before {text!r}: {bytes(self.seen[-200:])!r}"

    def ended(self) -> tuple[int, str] | None:
        """What the close frame said, once it has come."""
        self.join(LIMIT)
        assert not self.is_alive(), "it is still there"
        return self.client.closed

    def leave(self) -> None:
        """Not with TLS: see `bare`."""
        self.client.socket.sendall(masked(CLOSE, (1000).to_bytes(2)))
        self.ended()


@contextmanager
def terminal(shell: Shell, line: str) -> Iterator[Callable[[str], None]]:
    """A second terminal, in which `line` runs; yields how to wait for a text on it.  Ended by its pid."""
    screen = shell.root / "screen"
    print("$", line, "&")
    with screen.open("wb") as file:
        process = subprocess.Popen(
            ["sh", "-c", f"exec {line}"],
            cwd=shell.root,
            env=shell.variables,
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
        )

    def shows(text: str) -> None:
        eventually(lambda: text in screen.read_text(errors="replace") or process.poll() is not None, LIMIT)
        assert text in screen.read_text(errors="replace")

    try:
        yield shows
    finally:
        process.kill()
        process.communicate()
        print(screen.read_text(errors="replace"))


@contextmanager
def web(answer: Callable[[str, Message], Any]) -> Iterator[str]:
    """A web server on loopback; yields its URL.  It says what `answer` makes of path and headers, None being a 401."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answer(self.path, self.headers)
            body = json.dumps(found).encode()
            self.send_response(401 if found is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
