"""The values of `conserver.cf`(5): how keys are laid upon one another, and what ports, substitutions and escapes mean.

Called by `conserver` for the keys of one console, by name, with all that it inherits.
"""

from __future__ import annotations

import re
import socket

from consoled.importing.conserver_syntax import Pair

_SUBSTITUTION = re.compile(r"(.)=([chrbpP])(\d*)([sdxXaA])", re.DOTALL)
_ESCAPE = re.compile(r"\\([0-7]{1,3}|.)|\^(.)", re.DOTALL)
_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def lay(settings: dict[str, Pair], pair: Pair) -> None:
    """`pair` upon what is there; lists add up until an empty one clears them."""
    before = settings.get(pair.key)
    if before and pair.value and pair.key in ("options", "rw", "ro", "ipmiworkaround", "aliases"):
        pair = Pair(pair.where, pair.key, f"{before.value},{pair.value}")
    settings[pair.key] = pair


def said(settings: dict[str, Pair], key: str) -> str:
    """The value of `key`; empty if it has none, which is what an empty one means."""
    return settings[key].value if key in settings else ""


def listed(text: str) -> list[str]:
    """A list with commas or spaces between."""
    return [one for one in re.split(r"[,\s]+", text) if one]


def options_of(settings: dict[str, Pair]) -> dict[str, bool]:
    """Each option that is said, and whether it is on."""
    return {one.lstrip("!"): not one.startswith("!") for one in listed(said(settings, "options").lower())}


def port_of(settings: dict[str, Pair]) -> int:
    """The port that is dialled.  Raises `ValueError`."""
    text = said(settings, "port")
    try:
        port = int(text) if re.fullmatch(r"\d+", text) else socket.getservbyname(text, "tcp")
    except OSError:
        raise ValueError(f"port: {text!r} is unknown on this machine") from None
    port = int(said(settings, "portbase") or 0) + int(said(settings, "portinc") or 1) * port
    if not 0 <= port <= 65535:
        raise ValueError(f"port: with portbase and portinc it is {port}")
    return port


def substituted(key: str, name: str, settings: dict[str, Pair]) -> str:
    """The value of `key` with its `...subst` worked out.  Raises `ValueError`."""
    text = said(settings, key)
    rules = {}
    for rule in _SUBSTITUTION.finditer(said(settings, f"{key}subst")):
        character, what, width, form = rule.groups()
        if form == "s":
            source = {"c": name, "h": said(settings, "host"), "r": said(settings, "replstring")}[what]
            rules[character] = source.rjust(int(width or 0))
        else:
            number = {
                "b": lambda: int(said(settings, "baud") or 0),
                "p": lambda: int(said(settings, "port") or 0),
                "P": lambda: port_of(settings),
            }[what]()
            rules[character] = _number(number, form).rjust(int(width or 0), "0" if width.startswith("0") else " ")
    return "".join(rules.get(character, character) for character in text)


def _number(number: int, form: str) -> str:
    base = {"d": 10, "x": 16, "a": 36}[form.lower()]
    digits = ""
    while number or not digits:
        number, digit = divmod(number, base)
        digits = _DIGITS[digit] + digits
    return digits.upper() if form.isupper() else digits


def unescaped(text: str, *, control: bool = True) -> str:
    r"""A break string, or a K_g, without `control` characters written `^c`, as the characters that it stands for."""

    def one(found: re.Match[str]) -> str:
        after, controlled = found.groups()
        if controlled is not None:
            return (chr(127) if controlled == "?" else chr(ord(controlled) & 0x1F)) if control else found[0]
        return chr(int(after, 8) & 0xFF) if after[0] in "01234567" else _LETTERS.get(after, after) if control else after

    return _ESCAPE.sub(one, text)
