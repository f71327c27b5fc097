"""`ssh` against dropbear, set up as on an OpenBMC: port 2200 there runs one command, whatever is asked for."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from consoled.backends.ssh_algorithms import AlgorithmSettings
from consoled.backends.ssh_login import LoginRefused
from consoled.core.secret import Secret
from tests.real import Spawned, descendants, free_port, need, tell
from tests.real.ssh import PASSWORD, USER, backend, new_key, soon, with_account
from tests.real.talk import Owner

pytestmark = pytest.mark.real


class Dropbear:
    """One dropbear with one account and one command, which may be started more than once."""

    def __init__(self, directory: Path, kind: str, command: str = "echo console ready; exec cat") -> None:
        self.directory = directory
        self.port = free_port()
        host_key = directory / "host"
        maker = need("dropbearkey", "dropbear-bin")
        subprocess.run([maker, "-t", kind, "-f", str(host_key)], check=True, capture_output=True)
        argv = [need("dropbear", "dropbear-bin"), "-F", "-E", "-p", f"127.0.0.1:{self.port}", "-r", str(host_key)]
        argv += ["-P", str(directory / "pid"), "-c", command]
        self._argv = with_account(directory, argv)

    def start(self) -> None:
        self.spawned = Spawned(self._argv, self.directory / "output")

    def dial(self, **more: Any) -> Any:
        owner = Owner()
        return owner, backend(self.directory / "state", self.port, user=USER, **more).dial(owner)


@pytest.fixture(params=["ed25519", "rsa", "ecdsa"])
def dropbear(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Dropbear]:
    server = Dropbear(tmp_path, request.param)
    server.start()
    yield server
    server.spawned.end()


@pytest_twisted.inlineCallbacks
def test_password_and_keepalive(dropbear: Dropbear) -> Any:
    yield dropbear.spawned.listening(reactor, dropbear.port)
    owner, dialing = dropbear.dial(password=PASSWORD, keepalive=0.2)
    line = yield dialing
    yield owner.until(b"console ready")
    assert line.write(b"typed\r")
    yield owner.until(b"typed")
    answers, receive = [], line.dataReceived
    line.dataReceived = lambda data: (answers.append(data), receive(data))
    yield soon(lambda: len(answers) >= 3)
    line.close()
    yield owner.end()
    with pytest.raises(LoginRefused, match="tried: password"):
        yield dropbear.dial(password=Secret(literal="wrong"))[1]


@pytest_twisted.inlineCallbacks
@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_key(dropbear: Dropbear, kind: str) -> Any:
    yield dropbear.spawned.listening(reactor, dropbear.port)
    key = new_key(dropbear.directory / "id", kind)
    authorized = dropbear.directory / "home" / ".ssh" / "authorized_keys"
    authorized.write_text(key.with_suffix(".pub").read_text())
    authorized.chmod(0o600)
    owner, dialing = dropbear.dial(key_files=(str(key),), command="ignored", pty=True)
    line = yield dialing
    yield owner.until(b"console ready")
    line.abort()
    yield owner.end()


@pytest_twisted.inlineCallbacks
def test_frozen_and_killed(dropbear: Dropbear) -> Any:
    yield dropbear.spawned.listening(reactor, dropbear.port)
    for number, why in (signal.SIGSTOP, "the server has not answered for"), (signal.SIGKILL, ""):
        owner, dialing = dropbear.dial(password=PASSWORD, keepalive=0.5)
        yield dialing
        yield owner.until(b"console ready")
        children = descendants(dropbear.spawned.pid)
        tell(children, number)
        assert (yield owner.end()).startswith(why)
        tell(children, signal.SIGKILL)


@pytest_twisted.inlineCallbacks
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_old_algorithms(dropbear: Dropbear) -> Any:
    yield dropbear.spawned.listening(reactor, dropbear.port)
    chosen = AlgorithmSettings(kex=("diffie-hellman-group14-sha1",), mac=("hmac-sha1",))
    owner, dialing = dropbear.dial(password=PASSWORD, algorithms=chosen)
    line = yield dialing
    yield owner.until(b"console ready")
    line.close()
    yield owner.end()
