"""The kind `ssh`: what its table may say, and which algorithms follow from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.conch.ssh.transport import SSHClientTransport

from consoled.backends.settings import Surroundings
from consoled.backends.ssh import SshSettings
from consoled.backends.ssh_algorithms import KNOWN, LEGACY, AlgorithmSettings
from consoled.core.secret import Secret
from consoled.units import units

LEAST = {"kind": "ssh", "name": "x", "address": "bmc1", "user": "root", "trust_on_first_use": True}


def read(**more: Any) -> SshSettings:
    table = {key: value for key, value in (LEAST | more).items() if value is not None}
    return msgspec.convert(table, SshSettings, dec_hook=units("/etc/consoled"))


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("bmc1", "<bmc1:22>"),
        ("bmc1:2200", "<bmc1:2200>"),
        ("[2001:db8::1]", "<[2001:db8::1]:22>"),
        ("[2001:db8::1]:2200", "<[2001:db8::1]:2200>"),
    ],
)
def test_addresses(address: str, shown: str) -> None:
    assert read(address=address).backend(Surroundings(None, None, Path("/nowhere"))).address == shown


def test_secrets_by_reference() -> None:
    settings = read(password={"env": "P"}, passphrase={"file": "phrase"}, key="-----BEGIN OPENSSH PRIVATE KEY-----\nx")
    assert settings.password == Secret(env="P")
    assert settings.passphrase == Secret(file="/etc/consoled/phrase")
    assert "BEGIN" not in repr(settings)


def test_paths_begin_at_the_configuration() -> None:
    settings = read(key_files=["id", "/abs/id"], known_hosts=["hosts"])
    assert settings.key_files == ("/etc/consoled/id", "/abs/id")
    assert settings.known_hosts == ("/etc/consoled/hosts",)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"address": "2001:db8::1"}, "is no address"),
        ({"address": "bmc1:ssh"}, "is no address"),
        ({"user": ""}, "user"),
        ({"key": "/etc/consoled/id"}, "name files in key_files"),
        ({"password": {"literal": "x"}}, "is not a secret"),
        ({"trust_on_first_use": None}, "nothing says how to know the server"),
        ({"trust_on_first_use": False}, "nothing says how to know the server"),
        ({"fingerprint": "SHA256:" + "A" * 43}, 'are not asked with "fingerprint"'),
        ({"trust_on_first_use": None, "fingerprint": "aa:bb"}, "ssh-keygen -lf"),
        ({"trust_on_first_use": None, "fingerprint": ["SHA256:" + "A" * 43, "x"]}, "'x' is none"),
        ({"command": "a", "subsystem": "b"}, "contradict"),
        ({"break_sequence": "\u0100"}, "not a byte"),
        ({"rows": 0}, "rows"),
        (
            {"algorithms": {"kex": ["diffie-hellman-group1-sha1"]}},
            "'diffie-hellman-group1-sha1' is unknown; there are ",
        ),
        ({"algorithms": {"cipher": ["none"]}}, "'none' is unknown"),
        ({"algorithms": {"mac": ["+hmac-sha1", "hmac-sha2-256"]}}, "either a whole list"),
        ({"algorithms": {"cipher": ["-aes128-ctr", "-aes192-ctr", "-aes256-ctr"]}}, "nothing is left"),
        ({"algorithms": {"ciphers": []}}, "unknown field"),
    ],
)
def test_what_contradicts_itself(more: dict[str, Any], text: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=text):
        read(**more)


def test_all_that_is_known_is_conch_s() -> None:
    theirs = {
        "kex": SSHClientTransport.supportedKeyExchanges,
        "hostkey": SSHClientTransport.supportedPublicKeys,
        "cipher": SSHClientTransport.supportedCiphers,
        "mac": SSHClientTransport.supportedMACs,
    }
    for what, names in KNOWN.items():
        assert sorted(names) == sorted(name.decode() for name in theirs[what])
    assert {name for names in KNOWN.values() for name in names} >= LEGACY


def test_the_default_is_sound() -> None:
    chosen = AlgorithmSettings().chosen()
    assert not LEGACY & {*chosen.kex, *chosen.hostkey, *chosen.cipher, *chosen.mac}
    assert chosen.kex[0] == "curve25519-sha256"
    assert chosen.cipher == ("aes128-ctr", "aes192-ctr", "aes256-ctr")


def test_lists_replace_add_and_take_away() -> None:
    chosen = AlgorithmSettings(
        kex=("+diffie-hellman-group14-sha1",), cipher=("aes256-ctr", "3des-cbc"), mac=("-hmac-sha2-256", "+hmac-md5")
    ).chosen()
    assert chosen.kex[0] == "curve25519-sha256"
    assert chosen.kex[-1] == "diffie-hellman-group14-sha1"
    assert chosen.cipher == ("aes256-ctr", "3des-cbc")
    assert chosen.mac == ("hmac-sha2-384", "hmac-sha2-512", "hmac-md5")


def test_every_name_is_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "ssh.md").read_text()
    for names in KNOWN.values():
        for name in names:
            assert f"`{name}`" in text, name
