"""Every place that a secret can be in, and every way not to find it there."""

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock

from consoled.core.secret import Secret, SecretUnavailable
from consoled.secrets.fetcher import MOST, REMEMBERED, Fetcher

CANARY = "c4n4ry-passw0rd"


class Reactor(Clock):
    """The clock is the test's, the processes are real."""

    def spawnProcess(self, *arguments, **keywords):
        return reactor.spawnProcess(*arguments, **keywords)


class Vault:
    def __init__(self) -> None:
        self.asked = []
        self.answers: list[Deferred[str]] = []

    def read(self, path, field):
        self.asked.append((path, field))
        self.answers.append(Deferred())
        return self.answers[-1]


@pytest.fixture
def clock():
    return Reactor()


@pytest.fixture
def fetcher(clock, tmp_path):
    environment = {"BMC_PASSWORD": CANARY, "EMPTY": "", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    fetcher = Fetcher(clock, execute, environment, Vault())
    fetcher.vault = fetcher._vault
    return fetcher


@pytest.fixture
def written(tmp_path):
    def written(content: bytes, mode: int = 0o600) -> Secret:
        path = tmp_path / "password"
        path.write_bytes(content)
        path.chmod(mode)
        return Secret.parse({"file": str(path)})

    return written


def value(answer):
    found = []
    answer.addBoth(found.append)
    assert found, "there is no answer yet"
    return found[0]


def refusal(answer) -> str:
    found = value(answer)
    assert found.check(SecretUnavailable), found
    assert CANARY not in str(found.value)
    assert CANARY not in repr(found.value)
    return str(found.value)


def test_a_text(fetcher):
    assert value(fetcher.fetch(Secret.parse(CANARY))) == CANARY


def test_a_variable(fetcher):
    assert value(fetcher.fetch(Secret.parse({"env": "BMC_PASSWORD"}))) == CANARY


@pytest.mark.parametrize("name", ["EMPTY", "MISSING"])
def test_no_variable(fetcher, name):
    assert refusal(fetcher.fetch(Secret.parse({"env": name}))) == f"env {name}: no such variable"


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_file(fetcher, written, end):
    assert value(fetcher.fetch(written(b" two words " + end))) == " two words "


def test_a_file_keeps_all_but_one_line_end(fetcher, written):
    assert value(fetcher.fetch(written(b"a\nb\n\n"))) == "a\nb\n"


def test_a_file_is_read_each_time(fetcher, written):
    secret = written(b"old")
    assert value(fetcher.fetch(secret)) == "old"
    written(b"new")
    assert value(fetcher.fetch(secret)) == "new"


def test_a_file_that_others_can_read(fetcher, written):
    assert "others can read it" in refusal(fetcher.fetch(written(CANARY.encode(), 0o644)))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"\n", "it is empty"),
        (b"\xff", "it is not UTF-8"),
        (b"x" * (MOST + 1), "it has more than"),
    ],
)
def test_a_file_of_no_use(fetcher, written, content, said):
    assert said in refusal(fetcher.fetch(written(content)))


def test_no_file(fetcher):
    said = refusal(fetcher.fetch(Secret.parse({"file": "/nonexistent/x"})))
    assert said == "file /nonexistent/x: No such file or directory"


def test_a_credential(fetcher, written):
    written(CANARY.encode())
    assert value(fetcher.fetch(Secret.parse({"credential": "password"}))) == CANARY


def test_no_credentials(clock):
    fetcher = Fetcher(clock, execute, {})
    assert "passed no credentials" in refusal(fetcher.fetch(Secret.parse({"credential": "password"})))


@pytest_twisted.ensureDeferred
async def test_a_program_is_asked_once_for_a_while(fetcher, clock, tmp_path):
    count = tmp_path / "count"
    secret = Secret.parse({"command": ["sh", "-c", f"echo x >>{count}; printf '%s\\n' {CANARY}"]})
    together = [fetcher.fetch(secret) for _ in range(100)]
    assert [await one for one in together] == [CANARY] * 100
    assert await fetcher.fetch(secret) == CANARY
    assert count.read_text() == "x\n"
    assert await fetcher.fetch(secret, fresh=True) == CANARY
    assert count.read_text() == "x\nx\n"
    clock.advance(REMEMBERED)
    assert await fetcher.fetch(secret) == CANARY
    assert count.read_text() == "x\nx\nx\n"


@pytest_twisted.ensureDeferred
async def test_a_program_that_fails_is_asked_again(fetcher, tmp_path):
    flag = tmp_path / "flag"
    secret = Secret.parse({"command": ["sh", "-c", f"echo {CANARY}; test -e {flag}"]})
    with pytest.raises(SecretUnavailable, match="it ended with exit status 1"):
        await fetcher.fetch(secret)
    flag.touch()
    assert await fetcher.fetch(secret) == CANARY


def test_whoever_asked_first_may_leave(fetcher):
    secret = Secret.parse({"vault": "secret/bmc", "field": "Password"})
    first, second = fetcher.fetch(secret), fetcher.fetch(secret)
    first.addErrback(lambda failure: None)
    first.cancel()
    [question] = fetcher.vault.answers
    question.callback(CANARY)
    assert value(second) == CANARY
    assert fetcher.vault.asked == [("secret/bmc", "Password")]


def test_vault_says_no(fetcher):
    secret = Secret.parse({"vault": "secret/bmc", "field": "Password"})
    one, two = fetcher.fetch(secret), fetcher.fetch(secret)
    fetcher.vault.answers[0].errback(SecretUnavailable("vault secret/bmc: permission denied"))
    assert refusal(one) == refusal(two) == "vault secret/bmc: permission denied"


def test_no_vault(clock):
    fetcher = Fetcher(clock, execute, {})
    assert "no [vault] is configured" in refusal(fetcher.fetch(Secret.parse({"vault": "a/b", "field": "c"})))


def test_a_fresh_answer_that_fails_is_not_replaced_by_an_old_one(fetcher):
    secret = Secret.parse({"vault": "secret/bmc", "field": "Password"})
    fetcher.fetch(secret)
    fetcher.vault.answers[0].callback("old")
    assert value(fetcher.fetch(secret)) == "old"
    fresh = fetcher.fetch(secret, fresh=True)
    fetcher.vault.answers[1].errback(SecretUnavailable("gone"))
    assert refusal(fresh) == "gone"
    fetcher.fetch(secret)
    assert len(fetcher.vault.asked) == 3


@pytest.mark.parametrize(
    "bad",
    [
        "", 3, None, [], {}, {"file": ""}, {"file": "x", "env": "y"}, {"command": []}, {"command": "ls"},
        {"command": [1]}, {"vault": "x"}, {"vault": "x", "field": ""}, {"credential": "../x"}, {"fil": "x"},
        {"file": CANARY, "extra": 1},
    ],
)  # fmt: skip
def test_what_is_no_secret(bad):
    with pytest.raises(ValueError, match="is not a secret: write") as caught:
        Secret.parse(bad)
    assert CANARY not in str(caught.value)


def test_a_secret_shows_where_it_is_and_never_what():
    assert str(Secret.parse({"command": ["pass", "bmc"]})) == "command pass bmc"
    assert str(Secret.parse(CANARY)) == "a text in the configuration"
    assert CANARY not in repr(Secret.parse(CANARY))
