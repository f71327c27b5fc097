"""`[[auth.jwt]]` out of a configuration file, and in the daemon: what is asked for, when, and what is left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor

from consoled.config import ConfigError, load
from consoled.tap import Daemon
from tests.auth.keycloak import ISSUER, Keycloak

CONFIG = """
[http]
listen = ["tcp:0:interface=127.0.0.1"]
[transcript]
directory = "transcripts"
"""


def written(directory: Path, text: str) -> Path:
    path = directory / "consoled.toml"
    path.write_text(CONFIG + text)
    (directory / "realm.json").write_text(json.dumps(Keycloak().jwks()))
    return path


def test_a_provider_is_a_way_to_log_in(tmp_path: Path) -> None:
    auth = load(written(tmp_path, '[[auth.jwt]]\npreset = "csm"\nkey_files = ["realm.json"]')).auth
    assert auth is not None
    assert auth.tokens == ""
    assert auth.jwt[0].key_files == (str(tmp_path / "realm.json"),)
    assert ISSUER in auth.jwt[0].issuers


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[auth]", "auth.tokens: nobody could log in"),
        ("[[auth.jwt]]", r"auth\.jwt\[0\]\.issuers: it is needed"),
        ('[[auth.jwt]]\npreset = "csm"\nalgorithms = ["HS256"]', r"auth\.jwt\[0\]\.algorithms: 'HS256' is none of"),
        ('[[auth.jwt]]\npreset = "csm"\n[[auth.jwt.grant]]\nclaim = "a..b"', r"auth\.jwt\[0\]\.grant\[0\]\.claim: "),
        ('[[auth.jwt]]\npreset = "csm"\nverify = false', r"auth\.jwt\[0\]: .*`verify`"),
    ],
)
def test_a_mistake_names_its_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('key_files = ["absent"]', r"^auth\.jwt\[0\]: .*absent"),
        ('key_files = ["consoled.toml"]', r"^auth\.jwt\[0\]: .*consoled\.toml: it is no JSON"),
        ('ca = "realm.json"', r"^auth\.jwt\[0\]: .*realm\.json: there is no certificate"),
        ('grant = [{ claim = "a", map = { b = "c" } }]', r"^auth\.jwt\[0\]\.grant\[0\]\.map: 'c' is not a role"),
    ],
)
def test_what_cannot_be_made_names_its_key(tmp_path: Path, text: str, said: str) -> None:
    config = load(written(tmp_path, f'[[auth.jwt]]\npreset = "csm"\n{text}'))
    with pytest.raises(ValueError, match=said):
        Daemon(config, reactor)


def test_nothing_is_asked_before_the_start(tmp_path: Path) -> None:
    before = list(_calls(reactor))
    Daemon(load(written(tmp_path, '[[auth.jwt]]\npreset = "csm"')), reactor)
    assert list(_calls(reactor)) == before


def _calls(reactor: Any) -> Any:
    return (call for call in reactor.getDelayedCalls() if call.active())
