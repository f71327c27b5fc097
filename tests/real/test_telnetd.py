"""`telnet` against a login host: inetutils' telnetd, started for each connection as inetd would."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks

from consoled.backends.telnet import TelnetSettings
from tests.fakes import around
from tests.real import Spawned, free_port, need

pytestmark = pytest.mark.real

LIMIT = 10.0
LOGIN = """#!/bin/sh
printf 'login: '; read -r user
stty -echo; printf 'Password: '; read -r password; stty echo; echo
[ "$user:$password" = root:secret ] || exit 1
export PS1='sh> ' ENV=
exec /bin/sh -i
"""


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

    def _look(self) -> None:
        if self._wanted is not None and self._wanted[0] in self.output:
            text, found = self._wanted
            self._wanted = None
            before, _, self.output = self.output.partition(text)
            found.callback(before + text)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Spawned, int]]:
    telnetd, socat = need("telnetd", "inetutils-telnetd"), need("socat", "socat")
    login = tmp_path / "login"
    login.write_text(LOGIN)
    login.chmod(0o755)
    port = free_port()
    spawned = Spawned(
        [socat, f"TCP4-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork", f"EXEC:{telnetd} -h -E {login},nofork"],
        tmp_path / "output",
    )
    yield spawned, port
    children = Path(f"/proc/{spawned.pid}/task/{spawned.pid}/children")
    pids = children.read_text().split()
    spawned.end()
    if pids:
        subprocess.run(["kill", *pids], check=False, stderr=subprocess.DEVNULL)


@inlineCallbacks
def log_in(server: tuple[Spawned, int], **more: Any) -> Any:
    spawned, port = server
    yield spawned.listening(reactor, port)
    owner = Owner()
    line = yield TelnetSettings(name="x1", address=f"127.0.0.1:{port}", **more).backend(around(reactor)).dial(owner)
    yield owner.until(b"login: ")
    assert line.write(b"root\r")
    yield owner.until(b"Password: ")
    assert line.write(b"secret\r")
    assert b"secret" not in (yield owner.until(b"sh> "))
    return owner, line


@pytest_twisted.inlineCallbacks
@pytest.mark.parametrize("binary", [True, False])
def test_log_in_and_run_a_command(server: tuple[Spawned, int], binary: bool) -> Any:
    owner, line = yield log_in(server, binary=binary)
    line.write(b"echo $((6*7))\r")
    yield owner.until(b"42")
    line.write(b"exit\r")
    assert (yield owner.gone)


@pytest_twisted.inlineCallbacks
def test_without_binary_lines_end_as_on_a_terminal(server: tuple[Spawned, int]) -> Any:
    owner, line = yield log_in(server, binary=False)
    line.write(b"echo $((6*7))\r")
    yield owner.until(b"42\r\nsh> ")
    line.write(b"printf 'a\\rb\\377c\\n'\r")
    yield owner.until(b"a\rb\xffc\r\nsh> ")
    line.abort()
    yield owner.gone


@pytest_twisted.inlineCallbacks
def test_an_interrupt_takes_no_output_with_it(server: tuple[Spawned, int]) -> Any:
    """telnetd answers ^C with a Synch: IAC DM, the DM as urgent data, which is easily lost from its place."""
    owner, line = yield log_in(server, binary=False)
    for _ in range(5):
        # Not before it runs: an interrupt between the shell's fork and exec is nobody's.
        line.write(b'sh -c "echo be""gun; exec sleep 1000"\r')
        yield owner.until(b"begun\r\n")
        line.write(b"\x03")
        assert (yield owner.until(b"sh> ")).endswith(b"\r\nsh> ")
    line.close()
    yield owner.gone
