"""The kind `ssh`: private keys in every form, and an agent, with nothing of them to be seen."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from twisted.conch.ssh.agent import SSHAgentServer
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.keys import Key
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from consoled.backends import ssh_identities
from consoled.backends.ssh_identities import Agent, KeyUnusable, read_key, read_key_file, signature_algorithms
from tests.backends.ssh_server import PASSWORD, World, key, world
from tests.backends.stream_fakes import Dial

KINDS = {
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
    "ecdsa": ec.generate_private_key(ec.SECP384R1()),
    "rsa": rsa.generate_private_key(65537, 2048),
}
FORMS = {
    "OpenSSH": PrivateFormat.OpenSSH,
    "PEM": PrivateFormat.TraditionalOpenSSL,
    "PKCS#8": PrivateFormat.PKCS8,
}


def written(private: Any, form: Any, passphrase: str = "") -> bytes:
    how = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return private.private_bytes(Encoding.PEM, form, how)


@pytest.mark.parametrize("passphrase", ["", "pässword"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_form(kind: str, form: str, passphrase: str) -> None:
    if (kind, form) == ("ed25519", "PEM"):
        return  # there is no such form
    private = KINDS[kind]
    text = written(private, FORMS[form], passphrase)
    own = read_key(text, passphrase or "not needed", "key")
    assert own.blob == Key(private).blob()
    algorithm = "rsa-sha2-256" if kind == "rsa" else own.blob[4 : 4 + own.blob[3]].decode()
    signatures: list[bytes] = []
    own.sign(b"data", algorithm).addCallback(signatures.append)
    assert Key(private).public().verify(signatures[0], b"data")
    if passphrase:
        with pytest.raises(KeyUnusable, match=r"^key is encrypted, and there is no passphrase"):
            read_key(text, None, "key")
        with pytest.raises(KeyUnusable, match=r"^key cannot be read as a private key with this passphrase"):
            read_key(text, "wrong", "key")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"hunter2",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n-----END OPENSSH PRIVATE KEY-----\n",
        b"-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----\n",
        key("ed25519").public().toString("OPENSSH"),
        written(ed448.Ed448PrivateKey.generate(), PrivateFormat.PKCS8),
    ],
)
def test_what_is_no_key_is_named_and_not_shown(text: bytes) -> None:
    with pytest.raises(KeyUnusable) as caught:
        read_key(text, None, "/etc/key")
    assert str(caught.value) == "/etc/key cannot be read as a private key"
    assert "hunter2" not in repr(caught.value)


def test_dsa_is_read_and_left_to_the_server() -> None:
    assert read_key(written(dsa.generate_private_key(1024), PrivateFormat.PKCS8), None, "x").blob[4:11] == b"ssh-dss"


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "id"
    path.write_bytes(written(KINDS["ed25519"], PrivateFormat.OpenSSH))
    assert read_key_file(str(path), None).blob == Key(KINDS["ed25519"]).blob()
    with pytest.raises(KeyUnusable, match="/none: No such file or directory"):
        read_key_file(str(tmp_path / "none"), None)


def test_an_encrypted_key_is_decrypted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = written(KINDS["ecdsa"], PrivateFormat.OpenSSH, "fleet")
    first = read_key(text, "fleet", "a")
    monkeypatch.setattr(ssh_identities, "load_ssh_private_key", lambda *_: pytest.fail("again"))
    assert read_key(text, "fleet", "b") is first


def test_nothing_of_a_key_in_a_repr() -> None:
    own = read_key(written(KINDS["rsa"], PrivateFormat.OpenSSH), None, "x")
    assert "attr" not in repr(own)
    assert len(repr(own)) < 100


def test_how_a_key_may_sign() -> None:
    rsa_blob, ed_blob = key("rsa").blob(), key("ed25519").blob()
    assert signature_algorithms(ed_blob, ["rsa-sha2-256"], sha1=False) == ["ssh-ed25519"]
    assert signature_algorithms(rsa_blob, None, sha1=False) == ["rsa-sha2-512", "rsa-sha2-256"]
    assert signature_algorithms(rsa_blob, None, sha1=True)[-1] == "ssh-rsa"
    assert signature_algorithms(rsa_blob, ["ssh-rsa", "rsa-sha2-256"], sha1=False) == ["rsa-sha2-256"]
    assert signature_algorithms(rsa_blob, ["ssh-rsa"], sha1=False) == []


# ------------------------------------------------------------------------------------------------------------ dials


@pytest.fixture
def bmc(tmp_path: Path):
    with world(tmp_path) as one:
        yield one


def test_a_passphrase_by_reference(bmc: World, tmp_path: Path) -> None:
    path = tmp_path / "id"
    path.write_bytes(written(KINDS["ed25519"], PrivateFormat.OpenSSH, "secret"))
    bmc.server.keys = {Key(KINDS["ed25519"]).blob()}
    assert bmc.dial(key_files=(str(path),), passphrase=PASSWORD, password=None).line
    attempt = bmc.dial(key_files=(str(path),), password=None)
    assert attempt.result.check(ConnectionError)
    assert f"{path} is encrypted" in attempt.error
    assert len(bmc.wires) == 1, "nothing is dialled without the key"


def test_keys_are_read_in_a_thread(bmc: World, tmp_path: Path) -> None:
    path = tmp_path / "id"
    path.write_bytes(written(KINDS["ed25519"], PrivateFormat.OpenSSH))
    bmc.pool.held = []
    attempt = Dial(bmc.backend(key_files=(str(path),)))
    assert bmc.net.calls == []
    path.unlink()
    bmc.pool.held.pop()()
    assert "No such file" in attempt.error


# -------------------------------------------------------------------------------------------------------- the agent


class AgentServer(SSHAgentServer):
    """conch's, but with signatures of the kind that is asked for; `silent` answers nothing."""

    silent = False

    def agentc_SIGN_REQUEST(self, data: bytes) -> None:
        if self.silent:
            return
        blob, signed, flags = getNS(data, 2)
        algorithm = {0: None, 2: b"rsa-sha2-256", 4: b"rsa-sha2-512"}[struct.unpack(">L", flags)[0]]
        self.sendResponse(14, NS(self.factory.keys[blob][0].sign(signed, algorithm)))


class AgentWorld:
    def __init__(self, bmc: World, *keys: Key) -> None:
        self.bmc = bmc
        self.server = AgentServer()
        self.server.factory = type("Factory", (), {"keys": {one.blob(): (one, b"comment") for one in keys}})()
        self.server.makeConnection(StringTransport())
        self.client: Agent | None = None
        self.wire: Any = None

    def accept(self) -> None:
        _, factory, *_ = self.bmc.net.reactor.unixClients[-1]
        self.client = factory.buildProtocol(None)
        self.wire = StringTransport()
        self.wire.abortConnection = lambda: setattr(self.wire, "disconnected", True)
        self.client.makeConnection(self.wire)

    def run(self) -> None:
        while self.wire.value() or self.server.transport.value():
            asked, answered = self.wire.value(), self.server.transport.value()
            self.wire.clear()
            self.server.transport.clear()
            if asked:
                self.server.dataReceived(asked)
            if answered:
                self.client.dataReceived(answered)
            if self.bmc.net.reactor.tcpClients:
                self.bmc.run()


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_an_agent_signs(bmc: World, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    bmc.server.keys = {key(kind).blob()}
    attempt = Dial(bmc.backend(agent=True, password=None))
    agent = AgentWorld(bmc, key(kind))
    agent.accept()
    agent.run()
    assert attempt.line
    assert bmc.server.asked[-1] == ("publickey", "rsa-sha2-512" if kind == "rsa" else "ssh-ed25519", True)
    assert agent.wire.disconnected, "the agent is let go after the login"


def test_no_agent(bmc: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    assert "SSH_AUTH_SOCK is not in the daemon's environment" in Dial(bmc.backend(agent=True)).error


@pytest.mark.parametrize("says", [b"", b"\0\0\0\1\5", b"\0\0\0\0", b"\0\0\0\2\x0c\xff", b"\xff" * 10, b"\0\0\0\1\6"])
def test_an_agent_that_is_none(bmc: World, monkeypatch: pytest.MonkeyPatch, says: bytes) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    attempt = Dial(bmc.backend(agent=True))
    agent = AgentWorld(bmc)
    agent.accept()
    if says:
        agent.client.dataReceived(says)
    if attempt.result is None:
        agent.client.connectionLost(Failure(ConnectionDone()))
    assert attempt.error.startswith("agent: ")
    assert agent.wire.disconnected
    assert bmc.net.reactor.tcpClients == []


def test_an_agent_that_answers_what_nobody_asked() -> None:
    agent, wire = Agent(), StringTransport()
    wire.abortConnection = wire.loseConnection
    agent.makeConnection(wire)
    agent.dataReceived(b"\0\0\0\1\6")
    assert wire.disconnecting


def test_an_agent_that_dies_during_the_login(bmc: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    attempt = Dial(bmc.backend(agent=True))
    agent = AgentWorld(bmc, key("ed25519"))
    agent.server.silent = True
    agent.accept()
    agent.run()
    assert attempt.result is None
    agent.client.connectionLost(Failure(ConnectionDone()))
    bmc.run()
    assert attempt.line, "there is still the password"


def test_cancelled_while_the_agent_thinks(bmc: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    attempt = Dial(bmc.backend(agent=True))
    agent = AgentWorld(bmc, key("ed25519"))
    agent.accept()
    attempt.deferred.cancel()
    assert attempt.result is not None
    assert agent.wire.disconnected
    agent.client.connectionLost(Failure(ConnectionDone()))
    bmc.net.assert_quiet()
