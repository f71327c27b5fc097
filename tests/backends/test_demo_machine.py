"""The simulated line and terminal: pace, line editing, and that neither cuts nor looks change what happens."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoled.backends.demo_machine import (
    FIFO,
    LINE_LENGTH,
    STALL,
    TICK,
    TYPED_AHEAD,
    Ask,
    Instead,
    Interrupted,
    Machine,
    Press,
    Script,
)


class Told(Machine):
    """Does the script that it is given."""

    def __init__(self, script: Any, rate: float = 11_520, tty: bool = False) -> None:
        self._told = script
        super().__init__(0.0, rate)
        self.tty = tty

    def main(self) -> Script:
        return self._told()


def reader(echo: bool = True) -> Script:
    """Tells what it was given, and minds neither ^C nor ^D."""
    said = ""
    while True:
        try:
            yield f"{said}> "
            said = ""
            line = yield Ask(echo)
            if line == b"sleep":
                yield 5.0
            elif line == b"yes":
                while True:
                    yield "y\n" * 40
            said = f"{line!r}\n"
        except (Interrupted, EOFError) as thrown:
            said = f"{type(thrown).__name__}\n"


def watch(machine: Machine, until: float, step: float = TICK, since: float = 0.0) -> bytes:
    return b"".join(machine.live(since + look * step) for look in range(1, 1 + round((until - since) / step)))


def answers(*typed: bytes, echo: bool = True) -> bytes:
    machine = Told(lambda: reader(echo), tty=True)
    said = machine.live(0)
    for data in typed:
        machine.typed(0, data)
    return said + watch(machine, 6, 0.5)


@pytest.mark.parametrize(
    ("typed", "screen"),
    [
        (b"ab\n", b"ab\r\nb'ab'\r\n> "),
        (b"ab\r", b"ab\r\nb'ab'\r\n> "),
        (b"ab\r\n", b"ab\r\nb'ab'\r\n> "),
        (b"ab\r\0", b"ab\r\nb'ab'\r\n> "),
        (b"\n\n", b"\r\nb''\r\n> \r\nb''\r\n> "),
        (b"\r\r", b"\r\nb''\r\n> \r\nb''\r\n> "),
        (b"\r\n\n", b"\r\nb''\r\n> \r\nb''\r\n> "),
        (b"ax\x7fb\n", b"ax\b \bb\r\nb'ab'\r\n> "),
        (b"ax\bb\n", b"ax\b \bb\r\nb'ab'\r\n> "),
        (b"\x7fa\n", b"a\r\nb'a'\r\n> "),
        ("ä€\x7f\n".encode(), "ä€\b \b\r\nb'\\xc3\\xa4'\r\n> ".encode()),
        (b"abc\x15d\n", b"abc" + b"\b \b" * 3 + b"d\r\nb'd'\r\n> "),
        (b"a\x1b\x7f\n", b"a^[" + b"\b \b" * 2 + b"\r\nb'a'\r\n> "),
        (b"abc\x03", b"abc^C\r\nInterrupted\r\n> "),
        (b"\x04", b"EOFError\r\n> "),
        (b"a\x04b\n", b"ab\r\nb'ab'\r\n> "),
        (b"sleep\nab\n", b"sleep\r\nb'sleep'\r\n> ab\r\nb'ab'\r\n> "),
        (b"sleep\nab\n\x03c\n", b"sleep\r\n^C\r\nInterrupted\r\n> c\r\nb'c'\r\n> "),
    ],
)
def test_a_line_is_edited(typed: bytes, screen: bytes) -> None:
    assert answers(typed) == b"> " + screen


def test_a_secret_is_not_echoed() -> None:
    assert answers(b"pass\x7f\x15word\x1b\x7f\n", echo=False) == b"> \r\nb'word'\r\n> "


def test_cr_and_lf_in_two_pieces_are_one_line_end() -> None:
    assert answers(b"a\r", b"", b"\n", b"\n") == b"> a\r\nb'a'\r\n> \r\nb''\r\n> "


def test_a_running_command_is_interrupted() -> None:
    machine = Told(reader, tty=True)
    machine.live(0)
    machine.typed(0, b"yes\n")
    assert b"y\r\ny\r\ny" in watch(machine, 1)
    machine.typed(1, b"\x03")
    assert watch(machine, 2, since=1).endswith(b"^C\r\nInterrupted\r\n> ")


def test_interrupting_a_flood_drops_the_rest_of_it() -> None:
    machine = Told(reader, rate=1000, tty=True)
    machine.live(0)
    machine.typed(0, b"yes\n")
    watch(machine, 1)
    machine.typed(1, b"\x03" * 10_000)
    assert len(watch(machine, 60, since=1)) < 2 * FIFO


def test_without_a_terminal_nothing_is_kept() -> None:
    def boot() -> Script:
        yield 1.0
        yield (yield Ask())

    machine = Told(boot)
    machine.typed(0, b"lost\n\x03")
    assert watch(machine, 2) == b""
    machine.typed(2, b"kept\n")
    assert watch(machine, 3, since=2) == b"kept\r\nkept"


def test_a_key_or_its_absence() -> None:
    def menu() -> Script:
        for _ in range(3):
            key = yield Press(2)
            yield f"{key!r} at {machine.now:g}\n"

    machine = Told(menu)
    machine.typed(1, b"ab")
    assert watch(machine, 9, since=1) == b"b'a' at 1\r\nb'b' at 1\r\nb'' at 3\r\n"
    assert machine.wakes() == inf


def test_another_script_instead() -> None:
    def first() -> Script:
        yield "one\n"
        yield Instead(second())
        yield "never\n"

    def second() -> Script:
        yield b"two\n"

    assert watch(Told(first), 1) == b"one\r\ntwo\n"


KEYS = st.lists(
    st.sampled_from([b"a", b"sleep", b"yes", b"\n", b"\r", b"\r\n", b"\x03", b"\x04", b"\x7f", b"\x15", "é".encode()])
    | st.binary(min_size=1, max_size=4),
    max_size=20,
).map(b"".join)


@given(KEYS, st.data())
def test_where_the_input_is_cut_changes_nothing(typed: bytes, data: Any) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(typed)), max_size=6)))
    pieces = [typed[a:b] for a, b in zip([0, *cuts], [*cuts, len(typed)], strict=True)]
    assert answers(*pieces) == answers(typed)


@given(st.lists(st.floats(0.001, 20), max_size=30))
def test_when_one_looks_changes_nothing(gaps: list[float]) -> None:
    def clockwork() -> Script:
        for _ in range(50):
            yield f"{machine.now:.6f}\n" * 20
            yield 0.3

    machine = Told(clockwork)
    now, said = 0.0, b""
    for gap in gaps:
        now += gap
        said += machine.live(now)
    said += machine.live(1000)
    machine = Told(clockwork)
    assert said == machine.live(1000)


def test_the_line_keeps_its_pace() -> None:
    def talk() -> Script:
        while True:
            yield b"x" * 100

    machine = Told(talk, rate=1000)
    machine.live(0)
    for second in range(60):
        assert abs(len(watch(machine, second + 1, since=second)) - 1000) <= 1, second


def test_the_line_is_not_slower_than_its_rate_for_a_short_word() -> None:
    def word() -> Script:
        yield "hello"

    assert Told(word, rate=1000).live(0) == b"hello"
    assert Told(word, rate=10).live(0) == b""


def test_a_burst_waits_for_the_line() -> None:
    turns = []

    def talk() -> Script:
        while True:
            turns.append(machine.now)
            yield b"x" * FIFO

    machine = Told(talk, rate=FIFO)
    watch(machine, 3)
    # The first burst lies in the FIFO at once; each further one waits until the one before has gone.
    assert turns == [0, 0, 1, 2, 3]


def test_what_was_said_to_nobody_is_bounded() -> None:
    def talk() -> Script:
        while True:
            yield b"x" * 1000

    machine = Told(talk)
    assert len(machine.live(1e6)) <= STALL + 1000
    # It does not make up for it later.
    assert len(watch(machine, 1e6 + 10, since=1e6)) <= 11_520 * 10.2 + 2000


def test_what_is_typed_is_bounded() -> None:
    machine = Told(reader, tty=True)
    machine.live(0)
    machine.typed(0, b"sleep\n" + b"x\n" * 100_000)
    assert watch(machine, 60).count(b"b'x'") == TYPED_AHEAD // 2
    machine = Told(reader, tty=True)
    machine.live(0)
    machine.typed(0, b"y" * 100_000)
    machine.typed(60, b"\x7f\n")
    machine.typed(61, b"z\n")
    assert watch(machine, 120, since=61).endswith(b"z\r\nb'z'\r\n> ")


def test_a_paste_does_not_outrun_the_line() -> None:
    machine = Told(reader, tty=True)
    machine.live(0)
    machine.typed(0, (b"x" * 500 + b"\x15") * 1000)
    assert len(watch(machine, 60)) < 4 * (TYPED_AHEAD + 500)


def test_a_line_has_an_end() -> None:
    machine = Told(reader, tty=True)
    machine.live(0)
    for _ in range(100):
        machine.typed(0, b"x" * 100)
    machine.typed(60, b"\n")
    assert repr(b"x" * LINE_LENGTH).encode() + b"\r\n" in watch(machine, 120, since=60)


def test_the_clock_may_step_back() -> None:
    machine = Told(reader)
    machine.live(100)
    machine.typed(100, b"a\n")
    assert machine.live(50) == b"a\r\nb'a'\r\n> "
    machine.typed(50, b"b\n")
    assert machine.live(51) == b"b\r\nb'b'\r\n> "
