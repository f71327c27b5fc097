"""The kind `ssh`: whose host key is good enough, and what happens when it changes."""

from __future__ import annotations

import shutil
import stat
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from twisted.conch.ssh.common import NS, getNS
from twisted.logger import globalLogPublisher

from consoled.backends.address import Address
from consoled.backends.ssh_algorithms import AlgorithmSettings
from consoled.backends.ssh_hosts import (
    HostCheck,
    HostKeyChanged,
    HostsFile,
    check_fingerprint,
    fingerprint,
    host_name,
    kind_of,
)
from consoled.core.seams import Refused
from tests.backends.ssh_server import World, key, world
from tests.backends.stream_fakes import Dial

ED, OTHER = key("ed25519").public(), key("ed25519", 1).public()
RSA = key("rsa").public()


@pytest.fixture
def bmc(tmp_path: Path):
    with world(tmp_path / "state") as one:
        yield one


def line(names: str, public: Any, marker: str = "") -> str:
    return f"{marker}{names} {public.sshType().decode()} {b64encode(public.blob()).decode()} a comment\n"


def file(tmp_path: Path, text: str) -> HostsFile:
    path = tmp_path / "hosts"
    path.write_text(text)
    read = HostsFile(path, ours=False)
    read.refresh("bmc1")
    return read


def check(*files: HostsFile, at: str = "bmc1:22", **more: Any) -> HostCheck:
    one = HostCheck(Address.parse(at), files=files, **more)
    one.refresh()
    return one


# -------------------------------------------------------------------------------------------------------- the files


@pytest.mark.parametrize(
    ("names", "at"),
    [
        ("bmc1", "bmc1:22"),
        ("192.0.2.1,bmc1", "bmc1:22"),
        ("BMC1", "bmc1:22"),
        ("bmc1", "BMC1:22"),
        ("[bmc1]:2200", "bmc1:2200"),
        ("bmc*,!bmc2", "bmc1:22"),
        ("bmc?", "bmc1:22"),
        ("[*.mgmt]:2200", "a.mgmt:2200"),
        ("2001:db8::1", "[2001:db8::1]:22"),
    ],
)
def test_names_that_match(tmp_path: Path, names: str, at: str) -> None:
    check(file(tmp_path, line(names, ED)), at=at).check(ED.blob())


@pytest.mark.parametrize(
    ("names", "at"),
    [
        ("bmc1", "bmc1:2200"),
        ("[bmc1]:2200", "bmc1:22"),
        ("bmc*,!bmc1", "bmc1:22"),
        ("bmc?", "bmc10:22"),
        ("bmc.", "bmc1:22"),
        ("#bmc1", "bmc1:22"),
    ],
)
def test_names_that_do_not(tmp_path: Path, names: str, at: str) -> None:
    with pytest.raises(Refused, match="which is not in"):
        check(file(tmp_path, line(names, ED)), at=at).check(ED.blob())


def test_hashed_names(tmp_path: Path) -> None:
    keygen = shutil.which("ssh-keygen")
    if keygen is None:
        pytest.skip("ssh-keygen is missing: apt-get install openssh-client")
    path = tmp_path / "hosts"
    path.write_text(line("bmc1,[bmc1]:2200", ED) + line("bmc2", OTHER))
    subprocess.run([keygen, "-q", "-H", "-f", str(path)], check=True, capture_output=True)
    assert "bmc" not in path.read_text()
    read = HostsFile(path, ours=False)
    for at in "bmc1:22", "bmc1:2200":
        check(read, at=at).check(ED.blob())
    with pytest.raises(HostKeyChanged):
        check(read).check(OTHER.blob())


def test_lines_that_make_no_sense_are_passed_over(tmp_path: Path) -> None:
    good = line("bmc1", ED)
    text = (
        "\n# bmc1\nbmc1\nbmc1 ssh-ed25519\nbmc1 ssh-ed25519 !!!!\nbmc1 ssh-rsa " + good.split()[2] + "\n|1|x bad AAAA\n"
    )
    text += "|1|AA==|AA==|AA== ssh-ed25519 " + good.split()[2] + "\n" + line("bmc1", OTHER, "@cert-authority ")
    read = file(tmp_path, text + "\x80\n")
    assert read.keys_of("bmc1") == []
    assert file(tmp_path, text + good).keys_of("bmc1") == [ED.blob()]


def test_revoked_keys(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="revoked"):
        check(file(tmp_path, line("bmc1", ED) + line("*", ED, "@revoked "))).check(ED.blob())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match="/none: No such file"):
        check(HostsFile(tmp_path / "none", ours=False))


def test_what_an_operator_changes_counts_at_once(tmp_path: Path) -> None:
    read = file(tmp_path, line("bmc1", ED))
    asked = check(read)
    asked.check(ED.blob())
    (tmp_path / "new").write_text(line("bmc1", OTHER))
    (tmp_path / "new").rename(read.path)
    asked.refresh()
    asked.check(OTHER.blob())


# -------------------------------------------------------------------------------------------------------- the check


def test_a_changed_key_names_both_and_the_way_out(tmp_path: Path) -> None:
    read = file(tmp_path, line("[bmc1]:2200", ED))
    with pytest.raises(HostKeyChanged) as caught:
        check(read, at="bmc1:2200").check(RSA.blob())
    text = str(caught.value)
    assert f"from ssh-ed25519 {fingerprint(ED.blob())} to ssh-rsa {fingerprint(RSA.blob())}" in text
    assert f"ssh-keygen -R '[bmc1]:2200' -f {read.path}, and add the new one" in text


def test_an_unknown_key_names_the_way_in(tmp_path: Path) -> None:
    read = file(tmp_path, "")
    with pytest.raises(Refused, match=rf"ssh-keyscan -p 2200 bmc1 >> {read.path}$"):
        check(read, at="bmc1:2200").check(ED.blob())


def test_pinned(tmp_path: Path) -> None:
    pinned = check(fingerprints=[fingerprint(ED.blob()), fingerprint(RSA.blob())])
    pinned.check(ED.blob())
    pinned.check(RSA.blob())
    with pytest.raises(HostKeyChanged, match="not the pinned SHA256"):
        pinned.check(OTHER.blob())


def test_fingerprints_are_openssh_s(tmp_path: Path) -> None:
    keygen = shutil.which("ssh-keygen")
    if keygen is None:
        pytest.skip("ssh-keygen is missing: apt-get install openssh-client")
    (tmp_path / "key.pub").write_bytes(ED.toString("OPENSSH"))
    said = subprocess.run([keygen, "-lf", str(tmp_path / "key.pub")], check=True, capture_output=True, text=True)
    assert said.stdout.split()[1] == fingerprint(ED.blob())
    check_fingerprint(fingerprint(ED.blob()))
    for wrong in "MD5:00:11", "SHA256:", fingerprint(ED.blob())[:-1], fingerprint(ED.blob()) + "=", "":
        with pytest.raises(ValueError, match="ssh-keygen -lf"):
            check_fingerprint(wrong)


def test_the_known_type_is_asked_for_first(tmp_path: Path) -> None:
    algorithms = AlgorithmSettings().chosen().hostkey
    assert check(file(tmp_path, "")).preferred(algorithms) == list(algorithms)
    known = check(file(tmp_path, line("bmc1", RSA))).preferred(algorithms)
    assert known[:3] == ["rsa-sha2-512", "rsa-sha2-256", "ssh-ed25519"]
    assert sorted(known) == sorted(algorithms)


def test_keys_that_are_none() -> None:
    for blob in b"", b"\0\0", b"\xff" * 8, b"\0\0\0\x04\xff\xff\xff\xff", b"\0\0\0\x05<b>\n\n":
        assert kind_of(blob) == "unknown"


# ----------------------------------------------------------------------------------------------- trust on first use


def test_the_first_key_is_kept_and_insisted_on(tmp_path: Path) -> None:
    store = HostsFile(tmp_path / "state" / "known_hosts", ours=True)
    first = check(store=store, at="bmc1:2200")
    first.check(ED.blob())
    assert first.keep(ED.blob())
    assert not first.keep(ED.blob())
    assert store.path.read_text() == line("[bmc1]:2200", ED).replace(" a comment", "")
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    again = check(store=HostsFile(store.path, ours=True), at="bmc1:2200")
    again.check(ED.blob())
    with pytest.raises(HostKeyChanged, match=rf"ssh-keygen -R '\[bmc1\]:2200' -f {store.path}$"):
        again.check(OTHER.blob())
    check(store=store, at="bmc1:22").check(OTHER.blob())


def test_the_way_out_works(tmp_path: Path) -> None:
    keygen = shutil.which("ssh-keygen")
    if keygen is None:
        pytest.skip("ssh-keygen is missing: apt-get install openssh-client")
    store = HostsFile(tmp_path / "known_hosts", ours=True)
    asked = check(store=store, at="bmc1:2200")
    asked.keep(ED.blob())
    subprocess.run([keygen, "-R", "[bmc1]:2200", "-f", str(store.path)], check=True, capture_output=True)
    asked.refresh()
    asked.check(OTHER.blob())
    assert asked.keep(OTHER.blob())


def test_a_torn_line_does_no_harm(tmp_path: Path) -> None:
    store = HostsFile(tmp_path / "known_hosts", ours=True)
    store.path.write_text(line("bmc2", OTHER) + line("bmc1", RSA)[:50])
    asked = check(store=store)
    asked.check(ED.blob())
    asked.keep(ED.blob())
    fresh = HostsFile(store.path, ours=True)
    fresh.refresh("bmc1")
    assert fresh.keys_of("bmc1") == [ED.blob()]
    assert fresh.keys_of("bmc2") == [OTHER.blob()]


def test_what_others_added_meanwhile_is_read(tmp_path: Path) -> None:
    ours, theirs = (HostsFile(tmp_path / "known_hosts", ours=True) for _ in range(2))
    ours.add("a", ED.blob())
    theirs.add("b", ED.blob())
    ours.add("c", ED.blob())
    ours.refresh("b")
    assert ours.keys_of("b") == [ED.blob()]


def test_thousands_are_kept_without_reading_the_file_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = HostsFile(tmp_path / "known_hosts", ours=True)
    check(store=store, at="first:22").keep(ED.blob())
    monkeypatch.setattr("consoled.backends.ssh_hosts._Entries.parse", lambda text: pytest.fail("read again"))
    for number in range(2000):
        assert check(store=store, at=f"bmc{number}:22").keep(ED.blob())
    assert len(store.path.read_text().splitlines()) == 2001


def test_two_consoles_that_meet_different_keys(tmp_path: Path) -> None:
    store = HostsFile(tmp_path / "known_hosts", ours=True)
    one, other = check(store=store), check(store=store)
    one.check(ED.blob())
    other.check(OTHER.blob())
    one.keep(ED.blob())
    with pytest.raises(HostKeyChanged):
        other.keep(OTHER.blob())


def test_names() -> None:
    assert host_name(Address("BMC1", 22)) == "bmc1"
    assert host_name(Address("2001:db8::1", 2200)) == "[2001:db8::1]:2200"


# ------------------------------------------------------------------------------------------------------ whole dials


def events_of(bmc: World, **more: Any) -> tuple[Any, list[str]]:
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    try:
        attempt = bmc.dial(**more)
    finally:
        globalLogPublisher.removeObserver(events.append)
    return attempt, [f"{one['log_level'].name} {one['log_format'].format(**one)}" for one in events]


def test_dials_with_trust_on_first_use(bmc: World) -> None:
    attempt, said = events_of(bmc)
    assert attempt.line
    assert said == ["info console x1: host key of bmc1:22 trusted on first use"]
    assert host_name(Address("bmc1", 22)) in (bmc.state / "known_hosts").read_text()
    attempt, said = events_of(bmc)
    assert attempt.line
    assert said == []


def test_a_key_is_not_kept_before_the_server_has_signed_with_it(bmc: World) -> None:
    bmc.server.offers = {"_getHostKeys": lambda kind: (key("ed25519").public(), key("ed25519", 1))}
    attempt = bmc.dial()
    assert attempt.error == "bad signature"
    assert not (bmc.state / "known_hosts").exists()


def test_a_store_that_cannot_be_written(bmc: World) -> None:
    bmc.state.write_text("in the way")
    attempt = bmc.dial()
    assert "known_hosts: Not a directory" in attempt.error
    bmc.state.unlink()
    bmc.state.mkdir()
    backend = bmc.backend()
    (bmc.state / "known_hosts").mkdir()
    backend._host.__dict__["refresh"] = lambda: None
    bmc.backend = lambda **_: backend
    assert "cannot be kept in" in bmc.dial().error


def test_the_changed_key_is_loud_once_and_stays_refused(bmc: World) -> None:
    backend = bmc.backend()
    bmc.backend = lambda **_: backend
    assert bmc.dial().line
    bmc.server.host_keys = [key("ed25519", 1)]
    attempt, said = events_of(bmc)
    assert attempt.result.check(HostKeyChanged)
    assert len(said) == 1
    assert said[0].startswith("critical console x1: HOST KEY: the host key of bmc1:22 has changed from ssh-ed25519 ")
    assert fingerprint(ED.blob()) in said[0]
    assert fingerprint(OTHER.blob()) in said[0]
    assert "password" not in str(bmc.server.asked[2:]), "no credentials for a stranger"
    attempt, said = events_of(bmc)
    assert attempt.result.check(Refused)
    assert said == []
    bmc.server.host_keys = [key("ed25519")]
    assert bmc.dial().line
    bmc.server.host_keys = [key("ed25519", 1)]
    attempt, said = events_of(bmc)
    assert len(said) == 1, "it was right in between"
    (bmc.state / "known_hosts").write_text("")
    assert bmc.dial().line


def test_dials_with_known_hosts(bmc: World, tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text(line("bmc1", RSA))
    bmc.server.host_keys = [key("ed25519"), key("rsa")]
    assert bmc.dial(known_hosts=(str(path),), trust_on_first_use=False).line
    assert bmc.server.agreed[1] == b"rsa-sha2-512"
    bmc.server.host_keys = [key("ed25519")]
    attempt = bmc.dial(known_hosts=(str(path),), trust_on_first_use=True)
    assert attempt.result.check(HostKeyChanged), "another type is no first use"
    (tmp_path / "other").write_text("")
    attempt = bmc.dial(known_hosts=(str(tmp_path / "other"),), trust_on_first_use=False)
    assert "which is not in" in attempt.error
    assert not (bmc.state / "known_hosts").exists()


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_dials_with_a_fingerprint(bmc: World, kind: str) -> None:
    bmc.server.host_keys = [key(kind)]
    assert bmc.dial(fingerprint=fingerprint(key(kind).blob()), trust_on_first_use=False).line
    attempt = bmc.dial(fingerprint=fingerprint(OTHER.blob()), trust_on_first_use=False)
    assert attempt.result.check(HostKeyChanged)
    assert not bmc.state.exists()


def test_what_an_operator_changes_ends_no_connection(bmc: World) -> None:
    attempt = bmc.dial()
    (bmc.state / "known_hosts").write_text(line("bmc1", OTHER))
    other = bmc.dial()
    assert other.result.check(HostKeyChanged)
    bmc.wires[0][1].sendKexInit()
    bmc.run()
    assert attempt.line.write(b"x")
    assert attempt.owner.told == []


def test_a_key_is_not_kept_by_a_trick(bmc: World) -> None:
    """A good exchange, then another's key with a bad signature, and the new keys, all in one read."""
    attempt = Dial(bmc.backend())
    wire, server = bmc.connect()
    bmc.wires.clear()
    server.dataReceived(wire.sent())
    wire.says(server.transport.value())
    server.transport.clear()
    sent: list[tuple[int, bytes]] = []
    send = server.sendPacket
    server.sendPacket = lambda number, payload: sent.append((number, payload))
    server.dataReceived(wire.sent())
    good = next(payload for number, payload in sent if number == 31)
    _, their_public, signature, _ = getNS(good, 3)
    send(31, good)
    send(31, NS(OTHER.blob()) + NS(their_public) + NS(signature))
    send(21, b"")
    wire.says(server.transport.value())
    assert attempt.error == "bad signature"
    assert not (bmc.state / "known_hosts").exists()
    wire.socket.close()


def test_another_key_in_mid_connection(bmc: World) -> None:
    attempt = bmc.dial()
    _, server = bmc.wires[-1]
    server._getHostKeys = lambda kind: (OTHER, key("ed25519", 1))
    server.sendKexInit()
    bmc.run()
    assert attempt.owner.told[-1] == ("lost", "the server changed its host key in mid-connection")
