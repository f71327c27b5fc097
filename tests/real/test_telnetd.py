"""`telnet` against a login host: inetutils' telnetd, started for each connection as inetd would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks

from consoled.backends.telnet import TelnetSettings
from tests.fakes import around
from tests.real import Spawned, free_port, need
from tests.real.talk import Owner

pytestmark = pytest.mark.real

LOGIN = """#!/bin/sh
printf 'login: '; read -r user
stty -echo; printf 'Password: '; read -r password; stty echo; echo
[ "$user:$password" = root:secret ] || exit 1
export PS1='sh> ' ENV=
exec /bin/sh -i
"""


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
    spawned.end()


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
    assert (yield owner.end())


@pytest_twisted.inlineCallbacks
def test_without_binary_lines_end_as_on_a_terminal(server: tuple[Spawned, int]) -> Any:
    owner, line = yield log_in(server, binary=False)
    line.write(b"echo $((6*7))\r")
    yield owner.until(b"42\r\nsh> ")
    line.write(b"printf 'a\\rb\\377c\\n'\r")
    yield owner.until(b"a\rb\xffc\r\nsh> ")
    line.abort()
    yield owner.end()


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
    yield owner.end()
