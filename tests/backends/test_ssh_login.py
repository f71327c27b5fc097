"""The kind `ssh`: every way to log in, and every way to be refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.logger import globalLogPublisher

from consoled.backends.ssh_login import LoginRefused, said
from consoled.core.seams import Refused
from consoled.core.secret import Secret
from tests.backends.ssh_server import PASSWORD, World, key, world
from tests.backends.stream_fakes import Dial

QUESTION = ([(b"admin@bmc1's password: ", False)], 1)


@pytest.fixture
def bmc(tmp_path: Path):
    with world(tmp_path) as one:
        yield one


def key_file(tmp_path: Path, kind: str, which: int = 0) -> str:
    path = tmp_path / f"id_{kind}{which}"
    path.write_bytes(key(kind, which).toString("OPENSSH"))
    return str(path)


def refused(attempt: Dial) -> str:
    assert attempt.result.check(LoginRefused), attempt.result
    assert attempt.owner.told == []
    return attempt.error


def test_password(bmc: World) -> None:
    assert bmc.dial().line
    assert bmc.server.user == b"admin"
    assert bmc.server.asked == [("none",), ("password", "secret")]


def test_a_server_that_asks_for_nothing(bmc: World) -> None:
    bmc.server.takes = {"none"}
    assert bmc.dial().line
    assert bmc.server.asked == [("none",)]


@pytest.mark.parametrize(
    ("kind", "algorithm"), [("ed25519", "ssh-ed25519"), ("ecdsa", "ecdsa-sha2-nistp256"), ("rsa", "rsa-sha2-512")]
)
def test_key(bmc: World, tmp_path: Path, kind: str, algorithm: str) -> None:
    bmc.server.keys = {key(kind).blob()}
    attempt = bmc.dial(key_files=(key_file(tmp_path, kind),), password=None)
    assert attempt.line
    assert bmc.server.asked == [("none",), ("publickey", algorithm, True)]


def test_key_by_reference(bmc: World) -> None:
    reference = Secret(credential="bmc.key")
    bmc.vault.cached[reference] = key("ed25519").toString("OPENSSH").decode()
    bmc.server.keys = {key("ed25519").blob()}
    assert bmc.dial(key=reference, password=None).line


def test_rsa_signs_as_the_server_says(bmc: World, tmp_path: Path) -> None:
    bmc.server.keys = {key("rsa").blob()}
    bmc.server.sig_algs = [b"rsa-sha2-256"]
    assert bmc.dial(key_files=(key_file(tmp_path, "rsa"),), password=None).line
    assert bmc.server.asked[1:] == [("publickey", "rsa-sha2-256", True)]


def test_rsa_tries_what_an_old_server_does_not_say(bmc: World, tmp_path: Path) -> None:
    bmc.server.keys = {key("rsa").blob()}
    bmc.server.sig_algs, bmc.server.tells = [b"ssh-rsa"], False
    file = key_file(tmp_path, "rsa")
    sha2 = [("publickey", "rsa-sha2-512", False), ("publickey", "rsa-sha2-256", False)]
    assert "tried: ssh-rsa SHA256:" in refused(bmc.dial(key_files=(file,), password=None))
    assert bmc.server.asked[1:] == sha2, "SHA-1 is used only where it is configured"
    bmc.server.asked.clear()
    legacy = bmc.settings().algorithms.__class__(hostkey=("+ssh-rsa",))
    assert bmc.dial(key_files=(file,), password=None, algorithms=legacy).line
    assert bmc.server.asked[1:] == [*sha2, ("publickey", "ssh-rsa", True)]


def test_rsa_that_the_server_takes_in_no_way(bmc: World, tmp_path: Path) -> None:
    bmc.server.sig_algs = [b"ssh-rsa"]
    text = refused(bmc.dial(key_files=(key_file(tmp_path, "rsa"),), password=None))
    assert "can sign in no way that the server takes" in text
    assert bmc.server.asked == [("none",)]


def test_keys_come_before_the_password_each_once(bmc: World, tmp_path: Path) -> None:
    bmc.server.keys = {key("ed25519", 2).blob()}
    files = tuple(key_file(tmp_path, "ed25519", which) for which in (1, 2, 3))
    assert bmc.dial(key_files=files).line
    assert [what[0] for what in bmc.server.asked] == ["none", "publickey", "publickey"]
    bmc.server.asked.clear()
    bmc.server.keys.clear()
    assert bmc.dial(key_files=files).line
    assert [what[0] for what in bmc.server.asked] == ["none", *3 * ["publickey"], "password"]


def test_a_method_that_the_server_has_not_is_not_tried(bmc: World, tmp_path: Path) -> None:
    bmc.server.methods = ["password"]
    assert bmc.dial(key_files=(key_file(tmp_path, "ed25519"),)).line
    assert [what[0] for what in bmc.server.asked] == ["none", "password"]


def test_key_and_password_where_both_are_wanted(bmc: World, tmp_path: Path) -> None:
    bmc.server.partial = {"publickey"}
    bmc.server.keys = {key("ed25519").blob()}
    assert bmc.dial(key_files=(key_file(tmp_path, "ed25519"),)).line
    assert [what[0] for what in bmc.server.asked] == ["none", "publickey", "password"]


def test_nothing_that_the_server_takes(bmc: World) -> None:
    bmc.server.methods = ["gssapi-with-mic", "publickey"]
    text = refused(bmc.dial())
    assert "'admin' refused: the server takes gssapi-with-mic, publickey; tried: nothing that we have" in text


# ---------------------------------------------------------------------------------------------- keyboard-interactive


def test_the_question_for_a_password(bmc: World) -> None:
    bmc.server.methods = ["keyboard-interactive"]
    bmc.server.questions = [QUESTION]
    assert bmc.dial().line


def test_empty_questions_around_it(bmc: World) -> None:
    bmc.server.methods = ["keyboard-interactive"]
    bmc.server.questions = [([], 0), QUESTION, ([], 0)]
    assert bmc.dial().line


@pytest.mark.parametrize(
    "question",
    [
        ([(b"Verification code: ", False)], 1),
        ([(b"Password: ", True)], 1),
        ([(b"Password: ", False), (b"Again: ", False)], 2),
    ],
)
def test_other_questions_are_not_answered(bmc: World, question: Any) -> None:
    bmc.server.methods = ["keyboard-interactive"]
    bmc.server.questions = [question]
    assert f"the server asks {question[0][0][0].decode().strip()!r}" in refused(bmc.dial())
    assert "secret" not in str(bmc.server.asked)


def test_only_one_question_is_answered(bmc: World) -> None:
    bmc.server.methods = ["keyboard-interactive"]
    bmc.server.questions = [QUESTION, QUESTION]
    assert "to which we have no answer" in refused(bmc.dial())


def test_endless_empty_questions(bmc: World) -> None:
    bmc.server.methods = ["keyboard-interactive"]
    bmc.server.questions = [([], 0)] * 50
    attempt = bmc.dial()
    assert attempt.result is not None
    assert len(bmc.server.questions) > 40


def test_a_password_is_one_strike_not_two(bmc: World) -> None:
    bmc.server.passwords = {"another"}
    text = refused(bmc.dial())
    assert "tried: password" in text
    assert bmc.server.asked == [("none",), ("password", "secret")]


def test_an_expired_password(bmc: World) -> None:
    bmc.server.expired = True
    assert "has expired" in refused(bmc.dial())


# ------------------------------------------------------------------------------------------------------ once more


def test_a_rotated_password_heals_by_itself(bmc: World) -> None:
    bmc.server.passwords = {"rotated"}
    bmc.vault.fresh[PASSWORD] = "rotated"
    assert bmc.dial().line
    assert bmc.vault.asked == [(PASSWORD, False), (PASSWORD, True)]
    assert len(bmc.wires) == 2, "over a new connection"
    assert bmc.wires[0][0].disconnected


def test_the_same_password_is_not_sent_again(bmc: World) -> None:
    bmc.server.passwords = {"rotated"}
    refused(bmc.dial())
    assert len(bmc.wires) == 1
    assert bmc.vault.asked[-1] == (PASSWORD, True)


def test_once_more_and_not_twice(bmc: World) -> None:
    bmc.server.passwords = {"another"}
    bmc.vault.fresh[PASSWORD] = "rotated"
    refused(bmc.dial())
    assert [what for what in bmc.server.asked if what[0] == "password"] == [
        ("password", "secret"),
        ("password", "rotated"),
    ]


def test_a_user_whose_name_is_kept_beside_the_password(bmc: World) -> None:
    who = Secret(vault="secret/hms-creds/bmc1", field="Username")
    bmc.vault.cached[who] = "root"
    assert bmc.dial(user_from=who).line
    assert bmc.server.user == b"root", "and not the one of the settings"


def test_no_fresh_secret(bmc: World) -> None:
    bmc.server.passwords = {"another"}
    del bmc.vault.fresh[PASSWORD]
    text = refused(bmc.dial())
    assert "tried: password" in text
    assert "env BMC_PASSWORD: gone" in text


def test_other_refusals_fetch_nothing(bmc: World) -> None:
    bmc.server.grants = lambda request: request != b"shell"
    attempt = bmc.dial()
    assert attempt.result.check(Refused)
    assert not attempt.result.check(LoginRefused)
    assert bmc.vault.asked == [(PASSWORD, False)]


# ------------------------------------------------------------------------------------------------------ hanging up


def test_a_server_that_hangs_up_after_a_refusal(bmc: World, tmp_path: Path) -> None:
    bmc.server.strikes = 2
    text = refused(bmc.dial(key_files=(key_file(tmp_path, "ed25519"),)))
    assert "the server hung up: user closed connection, after ssh-ed25519 SHA256:" in text


def test_a_server_that_just_goes_after_a_refusal(bmc: World, tmp_path: Path) -> None:
    bmc.server.strikes = 2
    bmc.server.strikes_out = lambda transport: transport.transport.loseConnection()
    assert "refused: the server hung up, after" in refused(bmc.dial(key_files=(key_file(tmp_path, "ed25519"),)))


def test_a_loss_before_any_refusal_is_an_ordinary_one(bmc: World) -> None:
    bmc.server.strikes = 1
    bmc.server.strikes_out = lambda transport: transport.transport.loseConnection()
    attempt = bmc.dial()
    assert not attempt.result.check(Refused)
    assert attempt.error == "lost during the login: Connection was closed cleanly."


def test_what_a_peer_says_is_made_fit_for_a_log() -> None:
    assert said(b"no\r\n\x1b[31m<ConMan>\xff" + b"x" * 1000) == "no   [31m<ConMan>�" + "x" * 182


def test_no_secret_and_nothing_of_conch_in_the_log(bmc: World, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(events.append)
    try:
        attempt = bmc.dial(key_files=(key_file(tmp_path, "ed25519", 1),))
        assert attempt.line
        attempt.line.close()
        bmc.run()
        bmc.server.passwords = {"another"}
        failed = bmc.dial()
        bmc.dial(known_hosts=("/dev/null",), trust_on_first_use=False)
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert {event["log_namespace"] for event in events} <= {"consoled.backends.ssh_transport", "consoled.backends.ssh"}
    everything = repr(events) + repr(failed.result.getTraceback()) + repr(bmc.backend()) + repr(bmc.settings())
    assert '"secret"' not in everything.replace("'", '"')
