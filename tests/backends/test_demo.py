"""Kind `demo` as the link sees it: dialling, lines, losses, timers, and the demo's configuration."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from consoled.backends.demo import DemoBackend, DemoLine, DemoSettings
from consoled.backends.demo_machine import TICK
from consoled.backends.demo_sources import flood_line
from consoled.core.seams import Refused
from consoled.units import Duration, Size
from tests.fakes import around

EXAMPLE = Path(__file__).parents[2] / "etc" / "demo.toml"


class Owner:
    """A link that only listens."""

    def __init__(self, clock: Clock, backend: DemoBackend) -> None:
        self.clock = clock
        self.line: Any = None
        self.failure: Failure | None = None
        self.pieces: list[bytes] = []
        self.why: list[str] = []
        self._inside = False
        self.dialing = backend.dial(self)
        self.dialing.addCallbacks(self._connected, self._failed)

    def _connected(self, line: DemoLine) -> None:
        assert not self.pieces
        self.line = line

    def _failed(self, failure: Failure) -> None:
        self.failure = failure

    def received(self, data: bytes) -> None:
        assert data
        assert self.line is not None
        assert not self.why
        assert not self._inside, "called from within write"
        self.pieces.append(data)

    def lost(self, why: str) -> None:
        assert not self._inside, "called from within close"
        self.why.append(why)

    def ask(self, call: str, *args: bytes) -> Any:
        self._inside = True
        try:
            return getattr(self.line, call)(*args)
        finally:
            self._inside = False

    @property
    def said(self) -> bytes:
        return b"".join(self.pieces)

    def over(self) -> bool:
        return self.line is not None or self.failure is not None


def run(clock: Clock, seconds: float, step: float = TICK) -> None:
    clock.pump([step] * round(seconds / step))


def make(**keys: Any) -> tuple[Clock, DemoBackend]:
    clock = Clock()
    clock.advance(1000)
    backend = DemoSettings(**{"name": "n1", **keys}).backend(around(clock))
    return clock, backend


def connected(**keys: Any) -> tuple[Clock, DemoBackend, Owner]:
    clock, backend = make(**keys)
    owner = Owner(clock, backend)
    assert owner.line is None
    run(clock, 0.3)
    assert owner.line is not None
    return clock, backend, owner


def test_the_address_is_in_conmans_form() -> None:
    assert make(role="chatter")[1].address == "<demo:chatter>"


def test_a_node_boots_and_is_logged_into() -> None:
    clock, _, owner = connected()
    run(clock, 40)
    assert owner.said.endswith(b"n1 login: ")
    assert clock.getDelayedCalls() == []
    assert owner.ask("write", b"root\n") is True
    run(clock, 1)
    assert owner.ask("write", b"demo\n") is True
    run(clock, 1)
    assert owner.said.endswith(b"root@n1:~# ")
    assert owner.ask("send_break") is True
    assert owner.ask("write", b"c") is True
    run(clock, 1)
    assert b"Kernel panic" in owner.said


def test_a_keystroke_is_echoed_in_the_next_turn() -> None:
    clock, _, owner = connected()
    run(clock, 40)
    owner.pieces.clear()
    owner.ask("write", b"x")
    clock.advance(0)
    assert owner.pieces == [b"x"]


def test_the_line_is_as_fast_as_it_says() -> None:
    clock, _, owner = connected(speed=9600)
    run(clock, 60)
    for typed in (b"root\n", b"demo\n", b"yes\n"):
        owner.ask("write", typed)
        run(clock, 1)
    before = len(owner.said)
    run(clock, 30)
    assert abs(len(owner.said) - before - 30 * 960) <= 2 * 960 * TICK
    assert max(map(len, owner.pieces[-20:])) <= 2 * 960 * TICK


def test_the_node_lives_on_while_nobody_is_connected() -> None:
    clock, backend, owner = connected()
    run(clock, 5)
    owner.ask("close")
    clock.advance(0)
    assert clock.getDelayedCalls() == []
    clock.advance(3600)
    again = Owner(clock, backend)
    run(clock, 1)
    assert again.said == b""  # it booted meanwhile; what it said is lost
    again.ask("write", b"\n")
    run(clock, 1)
    assert again.said == b"\r\nn1 login: "


def test_a_second_session_is_refused() -> None:
    clock, backend, owner = connected()
    second = Owner(clock, backend)
    run(clock, 0.3)
    assert second.failure is not None
    assert second.failure.check(Refused)
    owner.ask("close")
    clock.advance(0)
    third = Owner(clock, backend)
    run(clock, 0.3)
    assert third.line is not None


@pytest.mark.parametrize("ways", [["close"], ["abort"], ["close", "abort"], ["close", "close"]])
@pytest.mark.parametrize("role", ["node", "flaky", "chatter", "flood", "echo", "quiet"])
def test_hanging_up(role: str, ways: list[str]) -> None:
    clock, _, owner = connected(role=role, failures=0, mean_uptime=Duration(1e9))
    for way in ways:
        owner.ask(way)
    assert owner.ask("write", b"x") is False
    assert owner.ask("send_break") is False
    assert owner.why == []
    clock.advance(0)
    assert owner.why == ["Connection was closed cleanly"]
    assert clock.getDelayedCalls() == []


def test_hanging_up_as_soon_as_it_is_connected() -> None:
    clock, backend = make(role="flood")
    owner = Owner(clock, backend)
    owner.dialing.addCallback(lambda _: owner.ask("close"))
    run(clock, 1)
    assert owner.why == ["Connection was closed cleanly"]
    assert clock.getDelayedCalls() == []


def test_hanging_up_at_the_first_byte() -> None:
    clock, _, owner = connected(role="echo")
    take = owner.received

    def received(data: bytes) -> None:
        take(data)
        owner.line.close()

    owner.received = received  # type: ignore[method-assign]
    owner.ask("write", b"x")
    clock.advance(0)
    clock.advance(0)
    assert (owner.said, len(owner.why)) == (b"x", 1)


@pytest.mark.parametrize("role", ["node", "flaky"])
def test_a_dial_is_cancelled(role: str) -> None:
    for seed in range(20):
        clock, backend = make(role=role, seed=seed)
        owner = Owner(clock, backend)
        owner.dialing.cancel()
        assert owner.failure is not None
        assert owner.failure.check(CancelledError)
        assert clock.getDelayedCalls() == []


def dials(seed: int, count: int) -> list[str]:
    """How each of `count` dials of a flaky console ended, and each line after it."""
    clock, backend = make(role="flaky", seed=seed, failures=0.6, mean_uptime=Duration(20))
    ends = []
    for _ in range(count):
        owner, since = Owner(clock, backend), clock.seconds()
        while not owner.over() and clock.seconds() < since + 15:
            clock.advance(1)
        if owner.line is None and owner.failure is None:
            owner.dialing.cancel()
            ends.append("no answer")
        elif owner.failure is not None:
            ends.append(f"{owner.failure.value} within {clock.seconds() - since:.0f} s")
        else:
            since = clock.seconds()
            while not owner.why:
                clock.advance(1)
            assert owner.ask("write", b"x") is False
            ends.append(f"{owner.why[0]} after {clock.seconds() - since:.0f} s")
            assert clock.getDelayedCalls() == []
    return ends


def test_a_flaky_bmc_comes_and_goes() -> None:
    ends = dials(1, 300)
    for reason in (
        "Connection refused",
        "Connection timed out within 6 s",
        "No route to host",
        "SOL payload",
        "no answer",
    ):
        assert any(reason in end for end in ends), reason
    lasted = [float(end.split()[-2]) for end in ends if " after " in end]
    assert 0.3 < len(lasted) / len(ends) < 0.5
    assert 14 < sum(lasted) / len(lasted) < 28
    assert {end.split(" after ")[0] for end in ends if " after " in end} == {
        "Connection reset by peer",
        "SOL session closed by the BMC",
        "no answer to keepalive",
    }


def test_a_flaky_node_is_one_machine() -> None:
    clock, backend = make(role="flaky", failures=0, mean_uptime=Duration(5), seed=4)
    said = b""
    while clock.seconds() < 1200:
        owner = Owner(clock, backend)
        while not owner.why:
            clock.advance(TICK)
        said += owner.said
    assert said.count(b"Demo BIOS") == 1


def test_equal_seeds_make_equal_days() -> None:
    assert dials(7, 30) == dials(7, 30)
    assert dials(7, 30) != dials(8, 30)


def test_the_seed_is_the_name_if_there_is_none() -> None:
    def boot(**keys: Any) -> bytes:
        clock, _, owner = connected(**keys)
        run(clock, 6)
        return owner.said

    assert boot(name="a") == boot(name="a")
    assert boot(name="a") != boot(name="b")
    assert boot(name="a", seed=3) == boot(name="b", seed=3)


def test_a_chatter_costs_one_call_for_each_line() -> None:
    clock, _, owner = connected(role="chatter", interval=Duration(5))
    looks = []
    call_later = clock.callLater
    clock.callLater = lambda *args: looks.append(1) or call_later(*args)  # type: ignore[method-assign,func-returns-value]
    run(clock, 100)
    assert len(owner.pieces) in (20, 21)
    assert len(looks) <= len(owner.pieces)
    assert len(clock.getDelayedCalls()) == 1


def test_a_flood_through_a_line() -> None:
    clock, _, owner = connected(role="flood", rate=Size(64_000))
    run(clock, 10)
    lines = len(owner.said) // 64
    assert owner.said == b"".join(map(flood_line, range(lines)))
    assert 9900 < lines < 10_400


def test_an_echo_through_a_line() -> None:
    clock, _, owner = connected(role="echo")
    every = bytes(range(256))
    assert owner.ask("write", every[:100]) is True
    assert owner.ask("write", every[100:]) is True
    clock.advance(0)
    assert owner.said == every
    assert owner.ask("write", bytes(70_000)) is True
    assert owner.ask("write", b"x") is False


# ------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"interval": Duration(0)}, "interval"),
        ({"rate": Size(10)}, "rate"),
        ({"mean_uptime": Duration(0)}, "mean_uptime"),
    ],
)
def test_what_no_machine_can_do_is_refused(keys: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        DemoSettings(name="n1", **keys).backend(around(Clock()))


def read(text: dict[str, Any]) -> DemoSettings:
    return msgspec.convert(text, DemoSettings, dec_hook=lambda kind, value: kind.parse(value))


@pytest.mark.parametrize("keys", [{"role": "toaster"}, {"speed": 0}, {"failures": 2}, {"colour": "red"}])
def test_what_makes_no_sense_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        read({"kind": "demo", "name": "n1", **keys})


def test_the_demo_configuration_is_one() -> None:
    text = EXAMPLE.read_text()
    assert len(text.splitlines()) <= 70
    config = tomllib.loads(text)
    roles = set()
    for console in config["console"]:
        settings = read({**config["defaults"], **console})
        settings.backend(around(Clock()))
        roles.add(settings.role)
    assert roles == {"node", "flaky", "chatter", "flood", "echo"}
    assert config["http"]["listen"] == ["tcp:8080:interface=127.0.0.1"]
    assert "auth" not in config
