"""The kind `ipmi`: its climb to a session and its life after, with programs that the test plays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from consoled.backends import ipmi
from consoled.backends.ipmi import IpmiBackend, IpmiSettings
from consoled.backends.ipmi_line import FAREWELL, GAP, PATIENCE, IpmiLine
from consoled.backends.ipmi_program import IPMICONSOLE, IPMITOOL, LoginRefused, Program
from consoled.backends.process import ProcessLine, ProcessSettings
from consoled.core.seams import HeldElsewhere, Refused
from consoled.core.secret import Secret, SecretUnavailable
from consoled.units import units
from tests.backends.stream_fakes import Dial, Owner

CANARY = "c4nary-$ecret"
UP = {
    "ipmiconsole": b"[SOL established]\r\n",
    "ipmitool": b"Loading IANA PEN Registry...\n[SOL Session operational.  Use ~? for help]\n",
}
IN_USE = {
    "ipmiconsole": b"[error received]: SOL in use\n",
    "ipmitool": b"Info: SOL payload already active on another session\n",
}
BAD_PASSWORD = {
    "ipmiconsole": b"[error received]: password invalid\n",
    "ipmitool": b"> RAKP 2 HMAC is invalid\nError: Unable to establish IPMI v2 / RMCP+ session\n",
}
NO_SUITE = {
    "ipmiconsole": b"[error received]: cipher suite id unavailable\n",
    "ipmitool": b"Error in open session response message : no matching cipher suite\n\n"
    b"Error: Unable to establish IPMI v2 / RMCP+ session\n",
}


class Play(ProcessLine):
    """A program on a terminal, played by the test."""

    def __init__(self, settings: ProcessSettings, launched: bool) -> None:
        self.command = settings.command
        self.environment = settings.environment
        self.argv = settings.command[4:]
        self.typed = b""
        self.full = False
        self.ends: list[str] = []
        self.transport: Any = self
        self.launched: Deferred[Any] = Deferred(lambda _: self.ends.append("not launched"))
        self._launched = launched

    def dial(self, owner: Any) -> Deferred[Any]:
        self.owner = owner
        if self._launched:
            self.launched.callback(self)
        return self.launched

    def write(self, data: bytes) -> bool:
        self.typed += b"" if self.full else data
        return not self.full

    def unregisterProducer(self) -> None:
        pass

    def loseConnection(self) -> None:
        self.ends.append("terminal taken away")

    def abort(self) -> None:
        self.ends.append("killed")

    def says(self, data: bytes) -> None:
        self.owner.received(data)

    def exits(self, why: str = "exited with status 0") -> None:
        self.owner.lost(why)

    def logs_in(self, password: bytes = CANARY.encode()) -> None:
        self.says(b"Password: ")
        assert self.typed == password + b"\n"
        self.typed = b""
        self.says(b"\n")


class Vault:
    """`Secrets` with what the test puts there."""

    def __init__(self) -> None:
        self.values: list[Any] = [CANARY]
        self.fetched: list[tuple[str, bool]] = []

    def fetch(self, secret: Secret, fresh: bool = False) -> Deferred[Any]:
        self.fetched.append((str(secret), fresh))
        value = self.values.pop(0) if len(self.values) > 1 else self.values[0]
        return fail(value) if isinstance(value, Exception) else value if isinstance(value, Deferred) else succeed(value)


class World:
    """A machine with both programs installed, and one console."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.vault = Vault()
        self.plays: list[Play] = []
        self.launches = True

    def backend(self, **keys: Any) -> IpmiBackend:
        return IpmiBackend(settings(**keys), self.clock, self.vault)

    def dial(self, **keys: Any) -> Dial:
        return Dial(self.backend(**keys))

    def up(self, program: str = "ipmiconsole") -> tuple[Dial, Play]:
        attempt = self.dial(program=program)
        self.play.logs_in()
        self.play.says(UP[program])
        assert attempt.line
        return attempt, self.play

    @property
    def play(self) -> Play:
        return self.plays[-1]

    def process(self, settings: ProcessSettings, reactor: Any, clock: Any) -> Play:
        assert reactor is clock is self.clock
        self.plays.append(Play(settings, self.launches))
        return self.plays[-1]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World()
    monkeypatch.setattr(ipmi, "ProcessBackend", world.process)
    monkeypatch.setattr(ipmi.shutil, "which", lambda name, path: f"/usr/sbin/{name}")
    yield world
    assert world.clock.getDelayedCalls() == []


@pytest.fixture
def logged() -> Iterator[list[str]]:
    events: list[str] = []
    observe: Callable[[Any], None] = lambda event: events.append(str(event))  # noqa: E731
    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)


def settings(**keys: Any) -> IpmiSettings:
    given = {"kind": "ipmi", "name": "x1", "address": "bmc1", "user": "op", "password": {"file": "/p"}} | keys
    return msgspec.convert(given, IpmiSettings, dec_hook=units("/"))


both = pytest.mark.parametrize("program", ["ipmiconsole", "ipmitool"])


# ---------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"address": "bmc1:0"}, "ports go from"),
        ({"address": "::1"}, "no address"),
        ({"address": "bmc1:32768", "program": "ipmiconsole"}, "cannot be told a port above 32767"),
        ({"user": ""}, "user: "),
        ({"user": "x" * 17}, "user: "),
        ({"cipher_suites": []}, "cipher_suites"),
        ({"cipher_suites": [17, 0]}, "cipher_suites: 0 is none of"),
        ({"privilege": "root"}, "privilege"),
        ({"workarounds": ["--debug"]}, "workarounds: '--debug'"),
        ({"program": "ipmitool", "workarounds": ["a", "b"]}, "ipmitool takes one"),
        ({"program": "bmc-watchdog"}, "program"),
        ({"stael": True}, "stael"),
    ],
)
def test_a_wrong_value_is_refused_and_its_key_named(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        settings(**keys)


def test_the_port_may_be_left_out(world: World) -> None:
    for address, shown in (
        ("bmc1", "<bmc1:623>"),
        ("bmc1:9623", "<bmc1:9623>"),
        ("192.0.2.1", "<192.0.2.1:623>"),
        ("[2001:db8::1]", "<[2001:db8::1]:623>"),
        ("[2001:db8::1]:624", "<[2001:db8::1]:624>"),
    ):
        assert world.backend(address=address).address == shown


# ---------------------------------------------------------------------------------------------- arguments


def test_ipmiconsoles_arguments(world: World) -> None:
    world.dial(address="[::1]", workarounds=["solstatus", "authcap"], privilege="operator", keepalive=10)
    assert world.play.argv == (
        "/usr/sbin/ipmiconsole",
        "--config-file=/dev/null",
        "--hostname=[::1]:623",
        "--username=op",
        "--password-prompt",
        "--cipher-suite-id=17",
        "--privilege-level=operator",
        "--escape-char=&",
        "--workaround-flags=solstatus,authcap",
        "--session-timeout=30000",
        "--dont-steal",
    )
    world.dial(steal=True, keepalive=1, k_g="x", cipher_suites=[3])
    assert "--dont-steal" not in world.play.argv
    assert {"--session-timeout=21000", "--k-g-prompt", "--cipher-suite-id=3"} < set(world.play.argv)
    world.dial(keepalive=0)
    assert not any("timeout" in argument for argument in world.play.argv)


def test_ipmitools_arguments(world: World) -> None:
    world.dial(program="ipmitool", address="[::1]:624", workarounds=["intelplus"], k_g="x")
    said = "-v -I lanplus -H ::1 -p 624 -U op -a -Y -C 17 -L ADMINISTRATOR -e ~ -N 1 -R 3 -o intelplus sol activate"
    assert world.play.argv == ("/usr/sbin/ipmitool", *said.split())
    for keepalive, tries in ((0, "4"), (32, "4"), (31, "3"), (21.5, "3"), (21, "2"), (1, "2")):
        world.dial(program="ipmitool", keepalive=keepalive)
        assert world.play.argv[world.play.argv.index("-R") + 1] == tries


def test_the_program_that_is_there_is_taken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"ipmiconsole", "ipmitool"}
    asked = []

    def which(name: str, path: str) -> str | None:
        asked.append(path)
        return f"/x/{name}" if name in there else None

    monkeypatch.setattr(ipmi.shutil, "which", which)
    world.dial()
    assert world.play.argv[0] == "/x/ipmiconsole"
    world.dial(address="bmc1:40000")
    assert world.play.argv[0] == "/x/ipmitool"
    there.remove("ipmiconsole")
    world.dial()
    assert world.play.argv[0] == "/x/ipmitool"
    assert world.dial(workarounds=["a", "b"]).error == "workarounds: ipmitool takes one, not a, b"
    assert "ipmiconsole (package freeipmi-tools)" in world.dial(program="ipmiconsole").error
    there.clear()
    assert "or ipmitool (package ipmitool)" in world.dial().error
    assert asked[0].startswith(os.environ["PATH"]) and asked[0].endswith("/usr/sbin:/sbin")


@both
def test_signals_are_not_its_end_and_its_language_is_known(world: World, program: str) -> None:
    world.dial(program=program)
    assert world.play.command[:2] == ("/bin/sh", "-c")
    assert world.play.command[2].startswith('trap "" HUP INT TERM; exec')
    assert world.play.environment == {"LC_ALL": "C"}


# ---------------------------------------------------------------------------------------------- getting there


@both
def test_a_session(world: World, program: str) -> None:
    attempt = world.dial(program=program)
    assert world.play.typed == b"", "nothing is said unasked"
    world.play.logs_in()
    assert attempt.result is None
    world.play.says(UP[program] + b"login: ")
    assert attempt.line
    assert attempt.owner.told == [("received", b"login: ")]
    assert world.vault.fetched == [("file /p", False)]


@both
@pytest.mark.parametrize(
    ("k_g", "answers"),
    [
        ("key", (b"key", b"key")),
        ("0x61ff", (b"0x61ff", b"a\xff")),
        ("0x6100", (b"0x6100", None)),
        ("0x6", (b"0x6", None)),
    ],
)
def test_a_k_g_is_answered_after_the_password(world: World, program: str, k_g: str, answers: Any) -> None:
    world.vault.values = [CANARY, k_g]
    attempt = world.dial(program=program, k_g={"env": "KG"})
    answer = answers[program == "ipmitool"]
    if answer is None:
        assert "K_g" in attempt.error
        return
    world.play.logs_in()
    world.play.says(b"K_g: " if program == "ipmiconsole" else b"Key: ")
    assert world.play.typed == answer + b"\n"
    world.play.says(b"\n" + UP[program])
    assert attempt.line


@given(st.sampled_from([IPMICONSOLE, IPMITOOL]), st.lists(st.integers(0, 200), max_size=8))
def test_the_dialogue_comes_in_any_pieces(program: Program, cuts: list[int]) -> None:
    clock, told, owner = Clock(), [], Owner()
    play = Play(ProcessSettings(name="x1", command=("x",)), True)
    line = IpmiLine(owner, program, [(b"Password: ", b"a\n")], clock)
    play.owner = line
    line.begin(play)
    line.up.addCallback(lambda line: told.append("up"))
    script = b"Password: \n" + UP[program.name] + b"node"
    places = sorted({min(cut, len(script)) for cut in cuts} | {0, len(script)})
    for start, end in pairwise(places):
        play.says(script[start:end])
    assert told == ["up"]
    assert play.typed == b"a\n"
    assert owner.output == b"node"


def test_a_banner_before_the_prompt_is_none(world: World) -> None:
    attempt = world.dial()
    world.play.says(UP["ipmiconsole"])
    assert attempt.result is None
    world.play.exits()
    assert attempt.error


def test_talk_is_not_hoarded(world: World) -> None:
    attempt = world.dial()
    for _ in range(100):
        world.play.says(b"x" * 10_000)
    world.play.logs_in()
    world.play.says(b"y" * 100_000 + UP["ipmiconsole"])
    assert attempt.line
    assert attempt.owner.told == []


# ---------------------------------------------------------------------------------------------- getting a no


def verdicts() -> Iterator[tuple[str, str, type[Exception], str]]:
    for said, kind, words in (
        ("SOL in use", HeldElsewhere, "held by another session"),
        ("username invalid", LoginRefused, "user name"),
        ("password invalid", LoginRefused, "password"),
        ("password verification timeout", LoginRefused, "password"),
        ("k_g invalid", LoginRefused, "K_g"),
        ("privilege level insufficient", LoginRefused, "privilege"),
        ("privilege level cannot be obtained for this user", LoginRefused, "privilege"),
        ("authentication type unavailable for attempted privilege level", LoginRefused, "authenticate"),
        ("SOL unavailable", Refused, "Serial-over-LAN is off"),
        ("SOL requires no encryption", Refused, "with no encryption"),
        ("SOL requires encryption", Refused, "with encryption"),
        ("connection timeout", ConnectionError, "connection timeout"),
        ("BMC Busy", ConnectionError, "BMC Busy"),
        ("hostname invalid", ConnectionError, "hostname invalid"),
    ):
        yield "ipmiconsole", f"[error received]: {said}\n", kind, words
    yield "ipmiconsole", "password too long\n", LoginRefused, "the password is not"
    yield "ipmiconsole", "ipmiconsole: invalid workaround flags\n", ConnectionError, "invalid workaround flags"
    unable = "Error: Unable to establish IPMI v2 / RMCP+ session\n"
    for said, kind, words in (
        ("Info: SOL payload already active on another session\n", HeldElsewhere, "held by another session"),
        ("Info: SOL payload activation limit reached\n", HeldElsewhere, "held by another session"),
        (f"> RAKP 2 HMAC is invalid\n{unable}", LoginRefused, "password"),
        (f"RAKP 2 message indicates an error : unauthorized name\n{unable}", LoginRefused, "user name"),
        (
            f"RAKP 2 message indicates an error : unauthorized role requested\n{unable}",
            LoginRefused,
            "unauthorized role",
        ),
        (f"RAKP 4 message indicates an error : invalid integrity check value\n{unable}", LoginRefused, "integrity"),
        (f"> RAKP 4 message has invalid integrity check value\n{unable}", LoginRefused, "K_g"),
        (f"> Error: no response from RAKP 3 message\n{unable}", LoginRefused, "password"),
        (f"> Error: no response from RAKP 1 message\n{unable}", ConnectionError, "no answer"),
        (
            f"RAKP 2 message indicates an error : insufficient resources for session\n{unable}",
            ConnectionError,
            "insufficient resources",
        ),
        ("Set Session Privilege Level to ADMINISTRATOR failed\n", LoginRefused, "privilege"),
        ("lanplus: password is longer than 20 bytes.\n", LoginRefused, "the password is not"),
        ("Info: SOL payload disabled\n", Refused, "Serial-over-LAN is off"),
        ("Info: cannot activate SOL payload without encryption\n", Refused, "without encryption"),
        ("Error: BMC requests SOL session on different port\n", ConnectionError, "different port"),
        ("Address lookup for bmc1 failed\n", ConnectionError, "cannot be resolved"),
        (f"Get Auth Capabilities error\n{unable}", ConnectionError, "no answer"),
    ):
        yield "ipmitool", said, kind, words


@pytest.mark.parametrize(("program", "said", "kind", "words"), list(verdicts()))
def test_what_the_programs_say_is_understood(
    world: World, program: str, said: str, kind: type[Exception], words: str
) -> None:
    attempt = world.dial(program=program)
    world.play.logs_in()
    world.play.says(said.encode())
    world.play.exits("exited with status 1")
    assert attempt.result.type is kind
    assert words in attempt.error
    assert len(world.plays) == 1, "no second try"
    assert attempt.owner.told == []


def test_a_program_that_only_dies(world: World) -> None:
    attempt = world.dial()
    world.play.exits("killed by signal SIGSEGV")
    assert attempt.error == "ipmiconsole: ipmiconsole killed by signal SIGSEGV"


@both
def test_the_next_suite_is_tried_where_the_bmc_has_not_the_first(world: World, program: str, logged: list[str]) -> None:
    attempt = world.dial(program=program)
    for _ in range(2):
        assert attempt.result is None
        world.play.logs_in()
        world.play.says(NO_SUITE[program] if len(world.plays) == 1 else UP[program])
        if len(world.plays) == 1:
            world.play.exits()
    assert attempt.line
    assert [any("17" in word for word in play.argv) for play in world.plays] == [True, False]
    assert any("takes no better cipher suite" in event for event in logged)


@both
def test_no_suite_that_was_not_named_is_tried(world: World, program: str) -> None:
    attempt = world.dial(program=program, cipher_suites=[17])
    world.play.logs_in()
    world.play.says(NO_SUITE[program])
    world.play.exits()
    assert attempt.error.endswith("does not do this cipher suite (cipher suites tried: 17)")
    assert len(world.plays) == 1


@both
def test_a_refused_login_is_tried_again_only_with_another_secret(world: World, program: str) -> None:
    world.vault.values = ["stale", CANARY]
    attempt = world.dial(program=program)
    world.play.logs_in(b"stale")
    world.play.says(BAD_PASSWORD[program])
    world.play.exits()
    assert [fresh for _, fresh in world.vault.fetched] == [False, True]
    world.play.logs_in()
    world.play.says(BAD_PASSWORD[program])
    world.play.exits()
    assert attempt.result.type is LoginRefused
    assert len(world.plays) == 2


@both
def test_a_user_whose_name_is_kept_beside_the_password(world: World, program: str) -> None:
    world.vault.values = ["admin", CANARY]
    attempt = world.dial(program=program, user="", user_from={"vault": "secret/x", "field": "Username"})
    assert any(word.endswith("admin") for word in world.play.argv)
    world.play.logs_in()
    world.play.says(UP[program])
    assert attempt.line


@both
def test_a_refused_login_is_tried_again_with_another_user(world: World, program: str) -> None:
    world.vault.values = ["admin", CANARY, "root", CANARY]
    world.dial(program=program, user="nobody", user_from={"vault": "secret/x", "field": "Username"})
    world.play.logs_in()
    world.play.says(BAD_PASSWORD[program])
    world.play.exits()
    assert [fresh for _, fresh in world.vault.fetched] == [False, False, True, True]
    assert any(word.endswith("root") for word in world.play.argv)
    assert not any("nobody" in word for play in world.plays for word in play.argv)


@pytest.mark.parametrize("user", ["", "x" * 17, "a\0b"])
def test_a_user_that_can_be_none(world: World, user: str) -> None:
    world.vault.values = [user, CANARY]
    assert world.dial(user_from={"vault": "secret/x", "field": "Username"}).result.type is Refused
    assert world.plays == []


def test_a_refusal_stays_one_when_the_secret_cannot_be_had_again(world: World) -> None:
    world.vault.values = [CANARY, SecretUnavailable("vault is sealed")]
    attempt = world.dial()
    world.play.logs_in()
    world.play.says(BAD_PASSWORD["ipmiconsole"])
    world.play.exits()
    assert attempt.result.type is LoginRefused
    assert len(world.plays) == 1


def test_without_a_secret_nothing_is_started(world: World) -> None:
    world.vault.values = [SecretUnavailable("file /p: No such file")]
    assert world.dial().error == "file /p: No such file"
    world.vault.values = ["two\nlines"]
    assert world.dial().result.type is Refused
    assert world.plays == []


@both
def test_a_session_held_elsewhere_is_left_alone(world: World, program: str) -> None:
    attempt = world.dial(program=program)
    world.play.logs_in()
    world.play.says(IN_USE[program])
    world.play.exits()
    assert attempt.error == "held by another session"
    assert issubclass(attempt.result.type, Refused)
    assert len(world.plays) == 1


@pytest.mark.parametrize("status", ["exited with status 0", "exited with status 1"])
def test_stealing_with_ipmitool_is_deactivating_first(world: World, status: str) -> None:
    attempt = world.dial(program="ipmitool", steal=True)
    world.play.logs_in()
    world.play.says(IN_USE["ipmitool"])
    world.play.exits()
    assert world.play.argv[-2:] == ("sol", "deactivate")
    world.play.logs_in()
    world.play.exits(status)
    assert world.play.argv[-2:] == ("sol", "activate")
    world.play.logs_in()
    world.play.says(UP["ipmitool"])
    assert attempt.line
    assert len(world.plays) == 3


def test_a_theft_that_does_not_help_ends(world: World) -> None:
    attempt = world.dial(program="ipmitool", steal=True)
    for said in (IN_USE["ipmitool"], b"", IN_USE["ipmitool"]):
        world.play.logs_in()
        world.play.says(said)
        world.play.exits()
    assert attempt.error == "held by another session"


# ---------------------------------------------------------------------------------------------- cancelling


def test_cancelled_while_the_secret_is_fetched(world: World) -> None:
    world.vault.values = [Deferred()]
    attempt = world.dial()
    attempt.deferred.cancel()
    assert attempt.result.check(CancelledError)
    assert world.plays == []


def test_cancelled_while_the_program_is_launched(world: World) -> None:
    world.launches = False
    attempt = world.dial()
    attempt.deferred.cancel()
    assert attempt.result.check(CancelledError)
    assert world.play.ends == ["not launched"]


def test_cancelled_within_the_dialogue(world: World) -> None:
    attempt = world.dial()
    world.play.logs_in()
    attempt.deferred.cancel()
    assert attempt.result.check(CancelledError)
    assert world.play.ends == ["terminal taken away"]
    world.play.says(UP["ipmiconsole"] + b"node")
    world.play.exits()
    assert attempt.owner.told == []


# ---------------------------------------------------------------------------------------------- being there


@both
def test_what_is_typed_is_escaped(world: World, program: str) -> None:
    attempt, play = world.up(program)
    assert attempt.line.write(b"a&~\r~") is True
    assert play.typed == {"ipmiconsole": b"a&&~\r~", "ipmitool": b"a&~\r~~"}[program]


def test_what_is_not_taken_does_not_move_the_escape(world: World) -> None:
    attempt, play = world.up("ipmitool")
    attempt.line.write(b"x")
    play.full, play.typed = True, b""
    assert attempt.line.write(b"\r") is False
    assert attempt.line.send_break() is False
    play.full = False
    attempt.line.write(b"~")
    assert play.typed == b"~"


@both
def test_a_break_and_its_echo(world: World, program: str) -> None:
    attempt, play = world.up(program)
    assert attempt.line.send_break() is True
    assert play.typed == {"ipmiconsole": b"&B", "ipmitool": b"~B"}[program]
    play.says(
        b"SysRq" + {"ipmiconsole": b"[generate break]\r\n", "ipmitool": b"~B [send break]\n"}[program] + b" : HELP"
    )
    assert attempt.owner.output == b"SysRq : HELP"


BREAKS = {"ipmiconsole": b"&B", "ipmitool": b"~B"}


@both
def test_a_break_comes_after_what_was_typed_before_it_and_before_what_was_typed_after(
    world: World, program: str
) -> None:
    attempt, play = world.up(program)
    line = attempt.line
    line.write(b"ab\r")
    world.clock.advance(GAP / 2)
    line.write(b"cd\r")
    assert line.send_break() is True
    assert line.write(b"h") is True
    assert line.send_break() is True
    assert line.write(b"i") is True
    world.clock.advance(0.9 * GAP)
    assert play.typed == b"ab\rcd\r"
    world.clock.advance(0.2 * GAP)
    # ipmitool has to be told a line end before it hears of the second break.
    end = b"\r" if program == "ipmitool" else b""
    assert play.typed == b"ab\rcd\r" + BREAKS[program] + b"h" + end
    world.clock.advance(1.1 * GAP)
    assert play.typed == b"ab\rcd\r" + BREAKS[program] + b"h" + end + BREAKS[program] + b"i"
    assert line.write(b"j") is True
    assert play.typed.endswith(b"ij")


def test_a_break_waits_for_a_terminal_that_takes_it(world: World) -> None:
    attempt, play = world.up()
    attempt.line.write(b"x")
    attempt.line.send_break()
    attempt.line.write(b"y")
    play.full = True
    for _ in range(5):
        world.clock.advance(1.1 * GAP)
    assert play.typed == b"x"
    play.full = False
    world.clock.advance(1.1 * GAP)
    assert play.typed == b"x&By"


def test_what_is_typed_while_a_break_waits_has_a_bound(world: World) -> None:
    attempt, play = world.up()
    attempt.line.write(b"x")
    attempt.line.send_break()
    assert attempt.line.write(b"y" * 65535) is True
    assert attempt.line.write(b"z") is False
    assert attempt.line.send_break() is False
    world.clock.advance(1.1 * GAP)
    assert play.typed == b"x&B" + b"y" * 65535
    attempt.line.write(b"z")
    attempt.line.send_break()
    assert attempt.line.write(b"y" * 65535) is True
    world.clock.advance(1.1 * GAP)


@pytest.mark.parametrize("end", ["close", "abort", "lost"])
def test_a_break_that_waits_goes_with_its_line(world: World, end: str) -> None:
    attempt, play = world.up()
    attempt.line.write(b"x")
    attempt.line.send_break()
    play.exits() if end == "lost" else getattr(attempt.line, end)()
    assert world.clock.getDelayedCalls() == []
    assert attempt.line.send_break() is False
    assert attempt.line.write(b"y") is False


def test_a_line_end_waits_a_moment(world: World) -> None:
    attempt, play = world.up()
    play.says(b"line\r\n")
    assert attempt.owner.output == b"line"
    world.clock.advance(PATIENCE)
    assert attempt.owner.output == b"line\r\n"
    play.says(b"\r\n")
    play.says(b"$ ")
    assert attempt.owner.output == b"line\r\n\r\n$ "


@pytest.mark.parametrize(
    ("program", "last", "why"),
    [
        (
            "ipmiconsole",
            b"\r\n[error received]: session timeout\r\n\r\n[closing the connection]\r\n",
            "session timeout",
        ),
        ("ipmiconsole", b"\r\n[SOL session stolen]\r\n\r\n[closing the connection]\r\n", "SOL session stolen"),
        ("ipmiconsole", b"\r\n[closing the connection]\r\n", "ipmiconsole exited with status 0"),
        ("ipmiconsole", b"", "ipmiconsole exited with status 0"),
        ("ipmitool", b"SOL session closed by BMC\n", "SOL session closed by BMC"),
        ("ipmitool", b"", "ipmitool exited with status 0"),
    ],
)
def test_its_last_words_are_the_reason_and_no_output(world: World, program: str, last: bytes, why: str) -> None:
    attempt, play = world.up(program)
    play.says(b"node\r" + last)
    world.clock.advance(FAREWELL * 0.9 if last else 0)
    play.exits()
    assert attempt.owner.output == b"node\r"
    assert attempt.owner.told[-1] == ("lost", why)
    assert attempt.line.write(b"x") is False
    assert attempt.line.send_break() is False


def test_last_words_that_were_not_the_last_are_output(world: World) -> None:
    attempt, play = world.up()
    said = b"\r\n[closing the connection]\r\n"  # somebody runs ipmiconsole on the node
    play.says(said)
    assert attempt.owner.output == b""
    world.clock.advance(FAREWELL)
    play.says(said + b"$ ")
    assert attempt.owner.output == said + said + b"$ "


def test_closing_takes_the_terminal_away(world: World) -> None:
    attempt, play = world.up()
    attempt.line.close()
    assert play.ends == ["terminal taken away"]
    assert attempt.line.write(b"x") is False
    play.exits("killed by signal SIGKILL")
    assert attempt.owner.told == [("lost", "closed")]


def test_aborting_kills(world: World) -> None:
    attempt, play = world.up()
    attempt.line.abort()
    assert play.ends == ["killed"]
    play.exits("killed by signal SIGKILL")
    attempt.line.abort()  # harmless
    attempt.line.close()
    assert attempt.owner.told == [("lost", "closed")]


# ---------------------------------------------------------------------------------------------- secrets


@both
def test_no_secret_is_anywhere(world: World, program: str, logged: list[str]) -> None:
    made = settings(password=CANARY, k_g=CANARY, program=program)
    attempt = Dial(IpmiBackend(made, world.clock, world.vault))
    seen = [repr(made), str(made), f"{made}", repr(world.play.command), repr(world.play.environment)]
    world.play.logs_in()
    world.play.says(IPMICONSOLE.k_g_prompt if program == "ipmiconsole" else IPMITOOL.k_g_prompt)
    world.play.says(f"what is {CANARY}?\n".encode())
    world.play.exits()
    assert isinstance(attempt.result, Failure)
    seen += [attempt.error, repr(attempt.result), *logged]
    assert attempt.error == f"{program}: what is ***?"
    assert not any(CANARY in text for text in seen)
