"""The escapes, against models of what the two programs do with their input (FreeIPMI 1.6.10, ipmitool 1.8.19)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoled.backends.ipmi_escape import AfterNewline, Anywhere, Escape

BREAK = "break"
Heard = list[Any]
"""What the node gets: byte values, and `BREAK`."""


class Quit(Exception):
    """The program took something for a command that nobody gave."""


def ipmiconsole() -> Iterator[Any]:
    """Its `_stdin`, a byte at a time."""
    heard: Heard = []
    escaped = False
    while True:
        byte = yield heard
        if not escaped:
            escaped = byte == ord("&")
            heard += [] if escaped else [byte]
            continue
        escaped = False
        match chr(byte):
            case "?" | ".":
                raise Quit
            case "B":
                heard.append(BREAK)
            case "D":
                heard.append(0x7F)
            case "&":
                heard.append(byte)
            case _:
                heard += [ord("&"), byte]


def ipmitool() -> Iterator[Any]:
    """Its `processSolUserInput`, a byte at a time."""
    heard: Heard = []
    escaped, fresh = False, True
    while True:
        byte = yield heard
        if escaped:
            escaped = False
            match chr(byte):
                case "." | "?" | "\x18" | "\x1a":
                    raise Quit
                case "B":
                    heard.append(BREAK)
                    continue
                case "~":
                    heard.append(byte)
                case _:
                    heard += [ord("~"), byte]
        elif fresh and byte == ord("~"):
            escaped = True
            continue
        else:
            heard.append(byte)
        fresh = byte in b"\r\n"


def play(escape: Escape, program: Iterator[Any], acts: list[Any]) -> Heard:
    """What the node hears of `acts`: typing, and breaks."""
    heard: Heard = next(program)
    for act in acts:
        if act == BREAK and not escape.listens:
            heard = written(escape, program, escape.encode(b"\r")) or heard
        heard = written(escape, program, escape.break_() if act == BREAK else escape.encode(act)) or heard
    return heard


def written(escape: Escape, program: Iterator[Any], wire: bytes) -> Heard:
    heard: Heard = []
    for byte in wire:
        heard = program.send(byte)
    escape.sent()
    return heard


TYPING = st.binary(max_size=20) | st.text(alphabet="&~\r\nBD.?x\x18\x1a", max_size=12).map(str.encode)
ACTS = st.lists(TYPING | st.just(BREAK), max_size=12)


@given(ACTS)
def test_ipmiconsole_hears_exactly_what_was_meant(acts: list[Any]) -> None:
    meant = [part for act in acts for part in ([BREAK] if act == BREAK else act)]
    assert play(Anywhere(), ipmiconsole(), acts) == meant


@given(ACTS)
def test_ipmitool_hears_exactly_what_was_meant_but_for_a_cr_before_a_break(acts: list[Any]) -> None:
    meant: Heard = []
    for act in acts:
        if act != BREAK:
            meant += act
            continue
        last = next((part for part in reversed(meant) if part != BREAK), ord("\n"))
        meant += [BREAK] if last in b"\r\n" else [ord("\r"), BREAK]
    assert play(AfterNewline(), ipmitool(), acts) == meant


@pytest.mark.parametrize(("escape", "program"), [(Anywhere, ipmiconsole), (AfterNewline, ipmitool)])
def test_every_byte_after_every_byte(escape: type[Escape], program: Any) -> None:
    everything = [bytes([first, second]) for first in range(256) for second in range(256)]
    assert bytes(play(escape(), program(), everything)) == b"".join(everything)


def test_what_was_not_written_changes_nothing() -> None:
    escape = AfterNewline()
    escape.encode(b"x")
    escape.sent()
    escape.encode(b"\r")
    escape.break_()
    assert escape.encode(b"~") == b"~"
