"""A simulated node: boot, login, commands, and every way in which it goes down and comes up."""

from __future__ import annotations

import re
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consoled.backends.demo_machine import TICK
from consoled.backends.demo_node import REBOOT_SECONDS, SYSRQ_SECONDS, Node

LOGIN = b"n1 login: "


class Seat:
    """Somebody before the node's console."""

    def __init__(self, seed: int = 1) -> None:
        self.now = 0.0
        self.node = Node(0.0, 11_520, "n1", Random(seed))

    def watch(self, seconds: float) -> bytes:
        until, said = self.now + seconds, b""
        while self.now < until:
            self.now += TICK
            said += self.node.live(self.now)
        return said

    def until(self, end: bytes, limit: float = 60) -> bytes:
        """What is shown up to `end`, after which nothing comes."""
        said = b""
        for _ in range(int(limit / TICK)):
            said += self.watch(TICK)
            if said.endswith(end):
                return said
        raise AssertionError(f"no {end!r} within {limit} s, but {said[-300:]!r}")

    def type(self, data: bytes) -> None:
        self.node.typed(self.now, data)

    def log_in(self) -> Seat:
        self.until(LOGIN)
        self.type(b"root\n")
        self.until(b"Password: ")
        self.type(b"demo\n")
        self.until(b"root@n1:~# ")
        return self

    def run(self, command: bytes) -> str:
        """What the command says."""
        self.type(command + b"\n")
        said = self.until(b"root@n1:~# ").decode()
        assert said.startswith(command.decode() + "\r\n")
        return said[len(command) + 2 : -len("root@n1:~# ")].replace("\r\n", "\n")


def test_it_boots_to_a_login() -> None:
    said = Seat().until(LOGIN).decode()
    places = [said.index(text) for text in ("BIOS", "GNU GRUB", "automatically in 3s", "automatically in 1s")]
    places += [said.index(text) for text in ("[    0.000000] Linux version", "[  OK  ] Started ssh", "password: demo")]
    assert places == sorted(places)
    stamps = [float(stamp) for stamp in re.findall(r"^\[ *(\d+\.\d{6})\] ", said, re.MULTILINE)]
    assert len(stamps) > 30
    assert stamps == sorted(stamps)
    assert "\n" not in said.replace("\r\n", "")


def test_an_idle_node_never_wakes() -> None:
    seat = Seat()
    seat.until(LOGIN)
    seat.watch(1)
    assert seat.node.wakes() == float("inf")


def test_enter_shortens_the_menu() -> None:
    patient, hasty = Seat(), Seat()
    for seat in (patient, hasty):
        seat.until(b"automatically in 3s (Enter: now).")
    hasty.type(b"x")
    hasty.type(b"\n")
    patient.until(LOGIN)
    hasty.until(LOGIN)
    assert 2 < patient.now - hasty.now < 4


def test_any_name_and_any_password() -> None:
    seat = Seat()
    seat.until(LOGIN)
    seat.type(b"\n \nj\x1b[Aane\n")
    assert LOGIN in seat.until(b"Password: ")
    seat.type(b"hunter2\n")
    assert b"hunter2" not in seat.until(b"j[Aane@n1:~$ ")
    seat.type(b"whoami\n")
    assert seat.until(b"$ ").startswith(b"whoami\r\nj[Aane\r\n")


def test_an_interrupted_login_begins_anew() -> None:
    seat = Seat()
    seat.until(LOGIN)
    seat.type(b"ro\x03")
    assert seat.until(LOGIN).startswith(b"ro^C\r\n\r\nDebian")
    seat.type(b"root\n\x04")
    assert seat.until(LOGIN).startswith(b"root\r\nPassword: \r\nDebian")
    seat.type(b"\x03" * 50 + b"\x04" * 50)
    assert seat.until(LOGIN)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("help", r"(  \w+ +.+\n){21}A break, then c, .*\n"),
        ("uname", r"Linux\n"),
        ("uname -a", r"Linux n1 6\.1\.0-18-amd64 #1 SMP .* x86_64 GNU/Linux\n"),
        ("uptime", r" 00:00:\d\d up  0:00,  1 user,  load average: .*\n"),
        ("hostname", r"n1\n"),
        ("date", r"Thu Jan  1 00:00:\d\d UTC 1970\n"),
        ("whoami", r"root\n"),
        ("dmesg", r"\[    0\.000000\] Linux version .*\n(\[ .*\n){30,}"),
        ("ps", r" +PID TTY .*\n( +\d+ .*\n)+"),
        ("df", r"Filesystem .*\n(\S+ +\d+ .*\n)+"),
        ("free", r" +total .*\nMem: .*\nSwap: .*\n"),
        ("cat /etc/os-release", r'PRETTY_NAME="Debian.*\n(.*\n)+'),
        ("cat /etc/hostname /nowhere", r"n1\ncat: /nowhere: No such file or directory\n"),
        ("echo 'a  b' c # no", r"a  b c\n"),
        ("echo", r"\n"),
        ("seq 3", r"1\n2\n3\n"),
        ("seq 0", r""),
        ("seq x", r"seq: give a whole number\n"),
        ("seq", r"seq: give a whole number\n"),
        ("sleep 1", r""),
        ("sleep nan", r"sleep: give a number of seconds\n"),
        ("sleep -1", r"sleep: give a number of seconds\n"),
        ("colours", r"(?s).*\x1b\[31m.*\x1b\[48;5;231m.*\x1b\[0m\n"),
        ("hello", r".*Grüß.*こんにちは.*\n"),
        ("rm -rf /", r"sh: rm: command not found\n"),
        ("echo 'a", r"sh: syntax error: .*\n"),
        ("", r""),
        ("# nothing", r""),
    ],
)
def test_a_command(command: str, said: str) -> None:
    assert re.fullmatch(said, Seat().log_in().run(command.encode()))


def test_a_long_seq_is_whole() -> None:
    assert Seat().log_in().run(b"seq 1000") == "".join(f"{number}\n" for number in range(1, 1001))


def test_uptime_grows() -> None:
    seat = Seat().log_in()
    seat.now += 90_061 + 3600
    assert "up 1 days,  2:01," in seat.run(b"uptime")


def test_yes_goes_on_until_it_is_interrupted() -> None:
    seat = Seat().log_in()
    seat.type(b"yes no\n")
    seat.watch(1)
    said = seat.watch(10)
    assert abs(len(said) - 115_200) < 11_520 * TICK + 2
    assert set(said.split(b"\r\n")[1:-1]) == {b"no"}
    seat.type(b"\x03")
    assert re.fullmatch(rb"[no\r\n]*\^C\r\nroot@n1:~# ", seat.until(b"# "))
    seat.type(b"yes\n" + b"\x03" * 20 + b"whoami\n")
    assert seat.until(b"root\r\nroot@n1:~# ")


def test_a_sleep_is_interrupted() -> None:
    seat = Seat().log_in()
    seat.type(b"sleep 1000\nxyz\x03")
    assert seat.until(b"# ", 1) == b"sleep 1000\r\n^C\r\nroot@n1:~# "


@pytest.mark.parametrize("typed", [b"exit\n", b"\x04"])
def test_log_out(typed: bytes) -> None:
    seat = Seat().log_in()
    seat.type(typed)
    assert b"logout\r\n\r\nDebian" in seat.until(LOGIN)


def reboots(seat: Seat) -> bytes:
    said = seat.until(LOGIN)
    assert b"Demo BIOS" in said
    assert b"] Linux version" in said
    return said


def test_panic_and_reboot() -> None:
    seat = Seat().log_in()
    seat.type(b"panic\nlost\n")
    said = seat.until(b"Rebooting in 10 seconds..\r\n")
    assert b"Kernel panic - not syncing" in said
    assert b"Call Trace:" in said
    assert re.search(rb"PID: \d{4} Comm: sh ", said)
    seat.type(b"\x03still lost\n")
    assert seat.watch(REBOOT_SECONDS - 0.5) == b""
    reboots(seat)
    seat.type(b"root\n\n")
    seat.until(b"# ")
    assert "panic" not in seat.run(b"dmesg")


def test_reboot() -> None:
    seat = Seat().log_in()
    seat.type(b"reboot\n")
    said = reboots(seat)
    assert b"[  OK  ] Stopped ssh.service" in said
    assert said.index(b"reboot: Restarting system") < said.index(b"Demo BIOS")


@pytest.mark.parametrize("how", ["break", "enter"])
def test_power_off_and_on(how: str) -> None:
    seat = Seat().log_in()
    seat.type(b"poweroff\n")
    assert b"reboot: Power down" in seat.until(b"switches it on)\r\n")
    seat.type(b"x\x03")
    assert seat.watch(3600) == b""
    if how == "break":
        seat.node.broke(seat.now)
    else:
        seat.type(b"\r")
    reboots(seat)
    seat.node.broke(seat.now)
    seat.type(b"h")
    assert b"HELP" in seat.watch(1)


def test_sysrq_crashes() -> None:
    seat = Seat().log_in()
    seat.node.broke(seat.now)
    seat.watch(SYSRQ_SECONDS - 0.5)
    seat.type(b"cx")
    assert b"Comm: swapper/0" in seat.until(b"Rebooting in 10 seconds..\r\n")
    reboots(seat)


def test_sysrq_reboots_at_once() -> None:
    seat = Seat().log_in()
    seat.node.broke(seat.now)
    seat.type(b"b")
    assert b"sysrq: Resetting" in (said := reboots(seat))
    assert b"Stopped" not in said


def test_sysrq_helps_and_disturbs_nothing() -> None:
    seat = Seat().log_in()
    for key, text in ((b"h", b"HELP"), (b"s", b"Emergency Sync"), (b"\n", b"HELP")):
        seat.type(b"echo a")
        seat.node.broke(seat.now)
        seat.type(key + b"b\n")
        said = seat.until(b"# ")
        assert text in said
        assert said.endswith(b"b\r\nab\r\nroot@n1:~# ")


@pytest.mark.parametrize("case", ["late", "twice", "firmware"])
def test_no_sysrq(case: str) -> None:
    seat = Seat()
    if case == "firmware":
        seat.until(b"BIOS 1.4.2  (C) consoled\r\n")
    else:
        seat.log_in()
    seat.node.broke(seat.now)
    if case == "late":
        seat.watch(SYSRQ_SECONDS + TICK)
    elif case == "twice":
        seat.node.broke(seat.now)
    seat.type(b"c\x15")
    assert b"panic" not in seat.watch(1)


def test_equal_seeds_make_equal_nodes() -> None:
    assert Seat(1).until(LOGIN) == Seat(1).until(LOGIN)
    assert Seat(1).until(LOGIN) != Seat(2).until(LOGIN)


WORDS = st.sampled_from(
    [b"echo a b", b"seq 200", b"yes", b"sleep 3", b"dmesg", b"exit", b"me", b"\x03", b"\x04", b"\x7f"]
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n", b""])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(WORDS, ENDS), max_size=8), st.data())
def test_where_the_input_is_cut_changes_nothing(words: list[tuple[bytes, bytes]], data: Any) -> None:
    typed = b"".join(word + end for word, end in words)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(typed)), max_size=6)))
    screens = []
    for pieces in ([typed], [typed[a:b] for a, b in zip([0, *cuts], [*cuts, len(typed)], strict=True)]):
        seat = Seat().log_in()
        for piece in pieces:
            seat.type(piece)
        screens.append(seat.watch(8))
    assert screens[0] == screens[1]
