"""`ssh` against OpenSSH's sshd, run in the foreground by the test, with its own keys and configuration."""

from __future__ import annotations

import getpass
import hashlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from consoled.backends.ssh_algorithms import LEGACY, AlgorithmSettings
from consoled.backends.ssh_hosts import HostKeyChanged
from consoled.backends.ssh_login import LoginRefused
from consoled.core.seams import Refused
from consoled.core.secret import Secret
from tests.real import Spawned, descendants, free_port, need, tell
from tests.real.ssh import PASSWORD, USER, backend, new_key, soon, with_account
from tests.real.talk import Owner

pytestmark = pytest.mark.real

CONFIG = """
ListenAddress 127.0.0.1
PidFile none
StrictModes no
PermitRootLogin yes
PrintMotd no
PrintLastLog no
LogLevel VERBOSE
# A bash that believes that it is not the outermost leaves ~/.bashrc, and what that may wait for, alone.
SetEnv SHLVL=1
"""


class Sshd:
    """One sshd, which may be started more than once."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.argv = [need("sshd", "openssh-server"), "-D", "-e", "-f", str(directory / "config")]
        self.spawned: Spawned | None = None
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd insists; its service makes it at each start

    def start(self, more: str = "UsePAM no\nPasswordAuthentication no\n", hosts: tuple[str, ...] = ("ed25519",)) -> Any:
        """Fires when it listens."""
        lines = [CONFIG, more, f"Port {self.port}", f"AuthorizedKeysFile {self.directory}/authorized_keys"]
        for kind in hosts:
            path = self.directory / f"host_{kind}"
            if not path.exists():
                new_key(path, kind)
            lines.append(f"HostKey {path}")
        (self.directory / "config").write_text("\n".join(lines) + "\n")
        self.spawned = Spawned(self.argv, self.directory / "output")
        return self.spawned.listening(reactor, self.port)

    @property
    def children(self) -> list[int]:
        return descendants(self.spawned.pid)

    def stop(self) -> None:
        if self.spawned is not None:
            self.spawned.end()

    def key(self, kind: str = "ed25519", passphrase: str = "") -> str:
        """A key that the server takes."""
        path = new_key(self.directory / f"id_{kind}", kind, passphrase)
        with (self.directory / "authorized_keys").open("a") as file:
            file.write(path.with_suffix(".pub").read_text())
        return str(path)

    def backend(self, **more: Any) -> Any:
        return backend(self.directory / "state", self.port, **({"user": getpass.getuser()} | more))

    def dial(self, **more: Any) -> Any:
        owner = Owner()
        return owner, self.backend(**more).dial(owner)


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    server = Sshd(tmp_path)
    yield server
    server.stop()


@pytest_twisted.inlineCallbacks
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_key_and_command(sshd: Sshd, kind: str) -> Any:
    yield sshd.start(hosts=(kind,))
    owner, dialing = sshd.dial(key_files=(sshd.key(kind),), command="echo $((6*7)); echo oops >&2; tty; exit 3")
    yield dialing
    assert (yield owner.end()).endswith("ended with status 3")
    assert sorted(owner.output.splitlines()) == [b"42", b"not a tty", b"oops"]


@pytest_twisted.inlineCallbacks
def test_an_encrypted_key_in_a_shell_on_a_terminal(sshd: Sshd) -> Any:
    yield sshd.start()
    path = sshd.key(passphrase="fleet")
    owner, dialing = sshd.dial(key_files=(path,), passphrase=Secret(literal="fleet"), rows=33, columns=99)
    line = yield dialing
    assert line.write(b"exec sh\n")
    assert line.write(b"echo got-$(tty | cut -c1-5)-$(stty size)-$TERM\n")
    yield owner.until(b"got-/dev/-33 99-vt100")
    line.close()
    assert (yield owner.end())
    yield soon(lambda: "Received disconnect from" in sshd.spawned.output.read_text())


@pytest_twisted.inlineCallbacks
def test_a_command_on_a_terminal_and_a_signal(sshd: Sshd) -> Any:
    yield sshd.start()
    owner, dialing = sshd.dial(key_files=(sshd.key(),), command="tty; echo $$; exec sleep 1000", pty=True)
    yield dialing
    yield owner.until(b"/dev/pts/")
    yield owner.until(b"\n")
    pid = int((yield owner.until(b"\n")))
    assert pid in sshd.children
    os.kill(pid, signal.SIGTERM)
    assert (yield owner.end()).endswith("was ended by signal TERM")


@pytest_twisted.inlineCallbacks
def test_a_subsystem_and_one_that_there_is_not(sshd: Sshd) -> Any:
    yield sshd.start("UsePAM no\nSubsystem console /bin/cat\n")
    key = sshd.key()
    owner, dialing = sshd.dial(key_files=(key,), subsystem="console")
    line = yield dialing
    assert line.write(bytes(range(256)))
    assert (yield owner.until(b"\xff")) == bytes(range(256))
    line.abort()
    yield owner.end()
    with pytest.raises(Refused, match="the server refuses subsystem 'nothing'"):
        yield sshd.dial(key_files=(key,), subsystem="nothing")[1]


@pytest_twisted.inlineCallbacks
def test_an_agent(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> Any:
    yield sshd.start()
    socket = sshd.directory / "agent"
    agent = Spawned([need("ssh-agent", "openssh-client"), "-D", "-a", str(socket)], sshd.directory / "agent.output")
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        for kind in "rsa", "ed25519":
            add = [need("ssh-add", "openssh-client"), "-q", sshd.key(kind)]
            yield soon(lambda add=add: subprocess.run(add, check=False, capture_output=True).returncode == 0)
            owner, dialing = sshd.dial(agent=True, command="echo in")
            yield dialing
            yield owner.until(b"in")
            yield owner.end()
            subprocess.run([add[0], "-q", "-D"], check=True)
        with pytest.raises(LoginRefused, match="nothing that we have"):
            yield sshd.dial(agent=True)[1]
    finally:
        agent.end()


@pytest_twisted.inlineCallbacks
def test_a_stranger(sshd: Sshd) -> Any:
    yield sshd.start()
    sshd.key()
    other = str(new_key(sshd.directory / "stranger"))
    with pytest.raises(LoginRefused, match="tried: ssh-ed25519 SHA256:"):
        yield sshd.dial(key_files=(other,))[1]


@pytest_twisted.inlineCallbacks
def test_too_many_keys(sshd: Sshd) -> Any:
    yield sshd.start("UsePAM no\nMaxAuthTries 2\n")
    files = tuple(str(new_key(sshd.directory / f"stranger{number}")) for number in range(5))
    with pytest.raises(LoginRefused, match="Too many authentication failures, after ssh-ed25519"):
        yield sshd.dial(key_files=files)[1]


@pytest_twisted.inlineCallbacks
def test_a_changed_host_key(sshd: Sshd) -> Any:
    yield sshd.start()
    more = {"key_files": (sshd.key(),), "command": "exec cat"}
    owner, dialing = sshd.dial(**more)
    (yield dialing).close()
    yield owner.end()
    sshd.stop()
    (sshd.directory / "host_ed25519").unlink()
    yield sshd.start()
    with pytest.raises(HostKeyChanged) as caught:
        yield sshd.dial(**more)[1]
    command = str(caught.value).partition("forget the old one: ")[2]
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)  # as an operator would
    owner, dialing = sshd.dial(**more)
    (yield dialing).close()
    yield owner.end()
    with pytest.raises(HostKeyChanged):
        yield sshd.dial(fingerprint="SHA256:" + "A" * 43, **more)[1]


@pytest_twisted.inlineCallbacks
def test_the_known_one_of_several_host_keys(sshd: Sshd) -> Any:
    yield sshd.start(hosts=("ed25519", "rsa"))
    path = sshd.directory / "hosts"
    public = (sshd.directory / "host_rsa.pub").read_text()
    path.write_text(f"[127.0.0.1]:{sshd.port} {public}")
    owner, dialing = sshd.dial(key_files=(sshd.key(),), known_hosts=(str(path),), command="true")
    yield dialing
    assert "status 0" in (yield owner.end())


@pytest_twisted.inlineCallbacks
def test_killed(sshd: Sshd) -> Any:
    yield sshd.start()
    owner, dialing = sshd.dial(key_files=(sshd.key(),), command="exec cat")
    yield dialing
    children = sshd.children
    sshd.spawned.kill()
    tell(children, signal.SIGKILL)
    assert (yield owner.end())


@pytest_twisted.inlineCallbacks
def test_frozen(sshd: Sshd) -> Any:
    yield sshd.start()
    owner, dialing = sshd.dial(key_files=(sshd.key(),), command="exec cat", keepalive=0.5)
    line = yield dialing
    yield line.write(b"alive\n")
    yield owner.until(b"alive")
    children = sshd.children
    tell(children, signal.SIGSTOP)
    try:
        assert (yield owner.end()).startswith("the server has not answered for 1.5")
    finally:
        tell(children, signal.SIGKILL)


@pytest_twisted.inlineCallbacks
def test_keys_are_renewed_in_mid_flood(sshd: Sshd) -> Any:
    yield sshd.start("UsePAM no\nRekeyLimit 256K\n")
    blob = sshd.directory / "blob"
    blob.write_bytes(os.urandom(2_000_000))
    owner, dialing = sshd.dial(key_files=(sshd.key(),), command=f"cat {blob}; exec cat")
    line = yield dialing
    assert line.write(b"typed-meanwhile")
    flood = yield owner.until(b"typed-meanwhile")
    whole = flood.removesuffix(b"typed-meanwhile")
    assert hashlib.sha256(whole).digest() == hashlib.sha256(blob.read_bytes()).digest()
    line.close()
    yield owner.end()


@pytest_twisted.inlineCallbacks
def test_a_server_that_does_not_read(sshd: Sshd) -> Any:
    yield sshd.start()
    owner, dialing = sshd.dial(key_files=(sshd.key(),), command="echo up; exec sleep 1000")
    line = yield dialing
    yield owner.until(b"up")
    written = 0
    while line.write(b"x" * 10_000):
        written += 10_000
    assert 0 < written <= (4 << 20)
    line.close()
    yield owner.end()


@pytest_twisted.inlineCallbacks
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize(
    ("what", "name"),
    [("kex", name) for name in sorted(LEGACY) if name.startswith("diffie")]
    + [("cipher", name) for name in sorted(LEGACY) if name.endswith("-cbc")]
    + [("mac", name) for name in sorted(LEGACY) if name.startswith("hmac")]
    + [("hostkey", "ssh-rsa")]
    + [("kex", "diffie-hellman-group-exchange-sha256"), ("kex", "ecdh-sha2-nistp521")],
)
def test_old_servers_by_name(sshd: Sshd, what: str, name: str) -> Any:
    directive = {"kex": "KexAlgorithms", "cipher": "Ciphers", "mac": "MACs", "hostkey": "HostKeyAlgorithms"}[what]
    yield sshd.start(f"UsePAM no\n{directive} {name}\n", hosts=("rsa",))
    more = {"key_files": (sshd.key(),), "command": "echo in"}
    if name in LEGACY:
        with pytest.raises(Refused, match=rf'in common \(see "algorithms.{what}"\): the server has {name}'):
            yield sshd.dial(**more)[1]
    owner, dialing = sshd.dial(algorithms=AlgorithmSettings(**{what: (f"+{name}",)}), **more)
    yield dialing
    yield owner.until(b"in")
    yield owner.end()


@pytest_twisted.inlineCallbacks
@pytest.mark.parametrize(
    "how",
    [
        "UsePAM no\nKbdInteractiveAuthentication no\n",
        "UsePAM yes\nPasswordAuthentication no\nKbdInteractiveAuthentication yes\n",
    ],
)
def test_password(sshd: Sshd, how: str) -> Any:
    sshd.argv = with_account(sshd.directory, sshd.argv)
    yield sshd.start(how)
    owner, dialing = sshd.dial(user=USER, password=PASSWORD, command="echo $HOME")
    yield dialing
    yield owner.until(str(sshd.directory / "home").encode())
    yield owner.end()
    with pytest.raises(LoginRefused, match="tried: "):
        yield sshd.dial(user=USER, password=Secret(literal="wrong"))[1]
