"""TLS with clients, in memory: who is shown which certificate, who is let in with which, and what a renewal does."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs

from consoled.listening.contexts import Contexts
from consoled.listening.listeners import secured
from consoled.listening.settings import CertificateFiles, TlsSettings
from tests.listening.pipe import Pipe, client_context, write_pair

NOW = datetime(2026, 11, 22, tzinfo=UTC).timestamp()


class Echo(Protocol):
    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class World:
    """An authority, and a server with certificates of its."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = trustme.CA()
        self.clock = Clock()
        self.late = 0.0
        self.factory = Factory.forProtocol(Echo)
        self.factory.noisy = False
        self.leaf = self.ca.issue_cert("console.example", "*.lab.example")
        self.files = write_pair(directory, "server", self.leaf)
        self.contexts: Contexts

    def settings(self, *more: dict[str, str], **keys: Any) -> TlsSettings:
        files = tuple(CertificateFiles(**one) for one in (self.files, *more))
        return TlsSettings(certificates=files, **keys)

    def begin(self, *more: dict[str, str], **keys: Any) -> World:
        self.contexts = Contexts(self.settings(*more, **keys), lambda: NOW + self.late)
        return self

    def connect(self, name: str | None = "console.example", context: ssl.SSLContext | None = None) -> Pipe:
        server = secured(self.factory, self.contexts, self.clock)
        return Pipe(server, self.clock, context or client_context(self.ca), name)

    def shown(self, name: str | None = "console.example", **more: Any) -> set[str]:
        """The names in the certificate that the server shows to whoever asks for `name`."""
        pipe = self.connect(name, client_context(self.ca, check_hostname=False, **more)).shake_hands()
        return {value for _, value in pipe.tls.getpeercert()["subjectAltName"]}

    def people(self) -> dict[str, Any]:
        """Settings that ask clients for a certificate of the same authority."""
        (self.directory / "clients.pem").write_bytes(self.ca.cert_pem.bytes())
        return {"client_ca": str(self.directory / "clients.pem")}

    def revoke(self, *leaves: trustme.LeafCert, until: float = 86400) -> dict[str, Any]:
        """Settings with a list on which those certificates are."""
        issuer = x509.load_pem_x509_certificate(self.ca.cert_pem.bytes())
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.subject)
            .last_update(datetime.now(UTC) - timedelta(days=2))
            .next_update(datetime.now(UTC) + timedelta(seconds=until))
        )
        for leaf in leaves:
            serial = parsed(leaf).serial_number
            when = datetime.now(UTC) - timedelta(days=1)
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
            )
        key: Any = load_pem_private_key(self.ca.private_key_pem.bytes(), None)
        file = self.directory / "crl.pem"
        file.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return {"crl": str(file)}


def parsed(leaf: trustme.LeafCert) -> x509.Certificate:
    return x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# --------------------------------------------------------------------------------------------- what is spoken


def test_bytes_go_both_ways(world: World) -> None:
    pipe = world.begin().connect().shake_hands()
    pipe.send(b"x" * 100_000)
    assert pipe.receive() == b"x" * 100_000


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_modern_versions_with_forward_secrecy(world: World, version: ssl.TLSVersion) -> None:
    context = client_context(world.ca, minimum_version=version, maximum_version=version)
    name, spoken, bits = world.begin().connect(context=context).shake_hands().tls.cipher()
    assert spoken == version.name.replace("v1_", "v1.")
    assert bits >= 128
    assert "GCM" in name or "CHACHA20" in name


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_tls_1_1_is_too_old(world: World) -> None:
    old = ssl.TLSVersion.TLSv1_1
    context = client_context(world.ca, minimum_version=old, maximum_version=old)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        world.begin().connect(context=context).shake_hands()


@pytest.mark.parametrize(
    "ciphers", ["AES128-SHA", "AES256-GCM-SHA384", "ECDHE-RSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA"]
)
def test_weak_ciphers_are_not_spoken(world: World, ciphers: str) -> None:
    context = client_context(world.ca, maximum_version=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(ciphers)
    with pytest.raises(ssl.SSLError):
        world.begin().connect(context=context).shake_hands()


def test_http_1_1_is_all_that_is_agreed_on(world: World) -> None:
    world.begin()
    for offered, agreed in ((["h2", "http/1.1"], "http/1.1"), (["h2"], None)):
        context = client_context(world.ca)
        context.set_alpn_protocols(offered)
        assert world.connect(context=context).shake_hands().tls.selected_alpn_protocol() == agreed


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_every_session_begins_anew(world: World, version: ssl.TLSVersion) -> None:
    context = client_context(world.ca, minimum_version=version, maximum_version=version)
    first = world.begin().connect(context=context).shake_hands()
    first.send(b"x")
    first.receive()
    if not (session := first.tls.session) or not (session.id or session.has_ticket):
        return
    again = world.connect(context=context)
    again.tls.session = session
    assert not again.shake_hands().tls.session_reused


# ----------------------------------------------------------------------------------------------- several names


def test_the_certificate_is_that_of_the_name(world: World) -> None:
    noc = write_pair(world.directory, "noc", world.ca.issue_cert("noc.example", "10.0.0.1"))
    world.begin(noc)
    first = {"console.example", "*.lab.example"}
    assert world.shown() == world.shown("CONSOLE.example") == world.shown("rack1.lab.example") == first
    assert world.shown("noc.example") == {"noc.example", "10.0.0.1"}
    for stranger in (None, "elsewhere.example", "a.b.lab.example", "lab.example"):
        assert world.shown(stranger) == first


def test_the_chain_is_sent_along(world: World) -> None:
    leaf = world.ca.create_child_ca().issue_cert("deep.example")
    world.files = write_pair(world.directory, "deep", leaf)
    assert world.begin().shown("deep.example") == {"deep.example"}


# ----------------------------------------------------------------------------------------- clients' certificates


def serves(pipe: Pipe) -> bool:
    """Whether the server speaks with a client; in TLS 1.3 a refusal comes after the client's handshake."""
    try:
        pipe.shake_hands()
        pipe.send(b"hello")
        return pipe.receive() == b"hello"
    except (ssl.SSLError, OSError):
        return False


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(("rule", "none", "ours"), [("optional", True, True), ("required", False, True)])
def test_who_comes_with_which_certificate(
    world: World, version: ssl.TLSVersion, rule: str, none: bool, ours: bool
) -> None:
    world.begin(client_certificates=rule, **world.people())

    def comes(mine: trustme.LeafCert | None) -> bool:
        return serves(world.connect(context=client_context(world.ca, mine, maximum_version=version)))

    assert comes(None) is none
    assert comes(world.ca.issue_cert("ada@example.com")) is ours
    # What is shown must be good, also where it need not be shown.
    assert not comes(trustme.CA().issue_cert("ada@example.com"))
    assert not comes(world.ca.issue_cert("ada@example.com", not_after=datetime.now(UTC) - timedelta(days=1)))


def test_nobody_is_asked_without_an_authority(world: World) -> None:
    pipe = world.begin().connect(context=client_context(world.ca, trustme.CA().issue_cert("ada@example.com")))
    pipe.shake_hands()
    assert pipe.socket.protocol.getPeerCertificate() is None


def test_the_verified_certificate_is_the_one_that_is_seen(world: World) -> None:
    mine = world.ca.issue_cert("ada@example.com")
    pipe = world.begin(**world.people()).connect(context=client_context(world.ca, mine)).shake_hands()
    assert pipe.socket.protocol.getPeerCertificate().to_cryptography() == parsed(mine)


def test_the_revoked_stay_out(world: World) -> None:
    good, bad = world.ca.issue_cert("ada@example.com"), world.ca.issue_cert("eve@example.com")
    world.begin(**world.people(), **world.revoke(bad))
    assert serves(world.connect(context=client_context(world.ca, good)))
    assert not serves(world.connect(context=client_context(world.ca, bad)))
    assert world.contexts.is_revoked(parsed(bad))
    assert not world.contexts.is_revoked(parsed(good))
    # The same number from another authority is another certificate.
    assert not world.contexts.is_revoked(parsed(trustme.CA().issue_cert("eve@example.com")))
    world.revoke(good)
    world.contexts.look()
    assert world.contexts.is_revoked(parsed(good))
    assert not serves(world.connect(context=client_context(world.ca, good)))


def test_a_list_that_is_out_of_date_lets_nobody_in_and_is_trouble(world: World) -> None:
    world.late = datetime.now(UTC).timestamp() - NOW
    world.begin(**world.people(), **world.revoke(until=-3600))
    assert not serves(world.connect(context=client_context(world.ca, world.ca.issue_cert("ada@example.com"))))
    assert serves(world.connect())
    assert "crl.pem: a list ended at" in (world.contexts.trouble or "")


# ------------------------------------------------------------------------------------------------------ renewal


def test_a_renewed_certificate_is_shown_and_nobody_is_dropped(world: World) -> None:
    before = world.begin().connect().shake_hands()
    write_pair(world.directory, "server", world.ca.issue_cert("console.example", "new.example"))
    assert "new.example" not in world.shown()
    with capturedLogs() as logs:
        world.contexts.look()
    assert [event["log_level"] for event in logs] == [LogLevel.info]
    assert "new.example" in world.shown()
    before.send(b"still here")
    assert before.receive() == b"still here"
    with capturedLogs() as logs:
        world.contexts.look()
    assert not logs


def break_key(world: World) -> None:
    write_pair(world.directory, "other", world.ca.issue_cert("other.example"))
    Path(world.files["key"]).write_bytes((world.directory / "other.key").read_bytes())


def truncate(world: World) -> None:
    file = Path(world.files["certificate"])
    file.write_bytes(file.read_bytes()[:200])


BREAKAGES = [
    (break_key, "is not the key of"),
    (truncate, "server.pem: "),
    (lambda world: Path(world.files["key"]).unlink(), "server.key: No such file"),
    (lambda world: Path(world.files["key"]).chmod(0o644), "everybody may read or write it"),
    (lambda world: Path(world.files["key"]).write_bytes(b""), "server.key: "),
    (lambda world: Path(world.files["certificate"]).write_bytes(b"\xff" * (2 << 20)), "larger than"),
]


@pytest.mark.parametrize(("breaks", "why"), BREAKAGES)
def test_what_cannot_be_used_changes_nothing_and_is_said_until_it_is_mended(
    world: World, breaks: Any, why: str
) -> None:
    world.begin()
    good = {name: Path(file).read_bytes() for name, file in world.files.items()}
    breaks(world)
    with capturedLogs() as logs:
        for _ in range(3):
            world.contexts.look()
    [event] = logs
    assert event["log_level"] is LogLevel.error
    assert why in event["failure"]
    assert why in (world.contexts.trouble or "")
    assert "console.example" in world.shown()
    Path(world.files["key"]).unlink(missing_ok=True)
    Path(world.files["key"]).touch(0o600)
    for name, data in good.items():
        Path(world.files[name]).write_bytes(data)
    world.contexts.look()
    assert world.contexts.trouble is None


@pytest.mark.parametrize(("breaks", "why"), BREAKAGES)
def test_a_bad_certificate_at_the_start_is_an_error_that_names_its_key(world: World, breaks: Any, why: str) -> None:
    fine = write_pair(world.directory, "fine", world.ca.issue_cert("fine.example"))
    breaks(world)
    world.files, other = fine, world.files
    with pytest.raises(ValueError, match=r"^tls\.certificates\[1\]: ") as caught:
        world.begin(other)
    assert why in str(caught.value)


def test_a_key_behind_a_passphrase_is_refused(world: World) -> None:
    key = load_pem_private_key(Path(world.files["key"]).read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    Path(world.files["key"]).write_bytes(locked)
    with pytest.raises(ValueError, match=r"^tls\.certificates\[0\]: .*server\.key: .*encrypted"):
        world.begin()


@pytest.mark.parametrize("key", ["client_ca", "crl"])
def test_lists_that_are_none_are_named(world: World, key: str) -> None:
    (world.directory / "empty.pem").write_text("")
    keys = world.people() | {key: str(world.directory / "empty.pem")}
    with pytest.raises(ValueError, match=rf"^tls\.{key}: .*empty\.pem: "):
        world.begin(**keys)


def test_a_fifo_does_not_stop_the_daemon(world: World) -> None:
    Path(world.files["key"]).unlink()
    os.mkfifo(world.files["key"], 0o600)
    with pytest.raises(ValueError, match="not a regular file"):
        world.begin()


# -------------------------------------------------------------------------------------------------- coming ends


def test_an_end_that_comes_is_warned_about_once_a_day(world: World) -> None:
    write_pair(world.directory, "server", world.ca.issue_cert("console.example"))
    world.begin()
    end = parsed_file(world).not_valid_after_utc.timestamp()
    said = []
    for days in (15.0, 13.9, 13.8, 13.0, 12.8, 0.5, -0.5):
        world.late = end - days * 86400 - NOW
        with capturedLogs() as logs:
            world.contexts.look()
        assert all(event["log_level"] is LogLevel.warn for event in logs)
        said.append(len(logs))
        assert (world.contexts.trouble is None) == (days > 0)
    assert said == [0, 1, 0, 0, 1, 1, 1]


def parsed_file(world: World) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(world.files["certificate"]).read_bytes())


@pytest.mark.parametrize("keys", [{"client_certificates": "required"}, {"crl": "x"}])
def test_settings_that_need_an_authority(world: World, keys: Any) -> None:
    with pytest.raises(ValueError, match="client_ca"):
        world.settings(**keys)
