"""A configuration in the making: consoles, further tables, and remarks on what could not be taken over.

The readers fill it; `text` is the TOML.  Consoles that differ by their names only are folded into node sets, so that a
file with a line for each node becomes one that a person would have written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet

from consoled.nodesets import expand
from consoled.transcript.names import check_name

Values = dict[str, Any]

SECRETS = ("password", "k_g")
"""The keys whose texts are taken as they are: no braces are filled in."""

_ORDINARY = re.compile(r"[A-Za-z0-9_-]+")
_BRACED = re.compile(r"\{(\w+)\}", re.ASCII)


class Unreadable(Exception):
    """The file cannot be understood at all; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that is not in the result, or not as it was."""

    where: str
    """`FILE:LINE`."""
    text: str
    lost: bool
    """It is missing, rather than only different."""
    console: str = ""
    """Whose it is; empty for the whole file's."""

    def __str__(self) -> str:
        return f"{self.where}: {self.console and f'console {self.console}: '}{self.text}"


@dataclass(frozen=True, slots=True)
class _Console:
    values: Values
    remarks: tuple[str, ...]
    """On what it has lost."""


@dataclass(slots=True)
class Draft:
    """One configuration."""

    source: str
    """What it was made from, for its head."""
    tables: dict[str, Values] = field(default_factory=dict)
    """By name, all but the consoles."""
    remarks: list[Remark] = field(default_factory=list)
    _consoles: dict[str, _Console] = field(default_factory=dict)

    def left_out(self, where: str, text: str) -> None:
        """Something has no counterpart, and somebody has to look after it."""
        self.remarks.append(Remark(where, text, lost=True))

    def note(self, where: str, text: str) -> None:
        """Something is another way here, and need not worry anybody."""
        self.remarks.append(Remark(where, text, lost=False))

    def console(self, where: str, name: str, values: Values, lost: Iterable[str] = ()) -> bool:
        """One console, its texts literally; `lost` are remarks on what it has not of what it had.

        False if it cannot have this name, which is remarked on.
        """
        try:
            check_name(name)
            if expand(name) != {name}:
                raise ValueError("it is a set of names")
            if name in self._consoles:
                raise ValueError("it is there already")
        except ValueError as error:
            self.left_out(where, f"console {name!r}: {error}")
            return False
        lost = tuple(lost)
        self.remarks += [Remark(where, text, lost=True, console=name) for text in lost]
        self._consoles[name] = _Console(values, lost)
        return True

    @property
    def has_secrets(self) -> bool:
        """Whether a password stands in the text."""
        return any(key in console.values for console in self._consoles.values() for key in SECRETS)

    def text(self) -> str:
        """The whole file."""
        lines = [_comment(f"Made by consoled-import from {self.source}."), *self._advice()]
        for remark in self.remarks:
            if not remark.console:
                lines.append(_comment(f"{'NOT CONVERTED: ' if remark.lost else ''}{remark}"))
        for title, values in self.tables.items():
            lines += ["", f"[{title}]", *(f"{key} = {as_toml(value)}" for key, value in values.items())]
        for name, console in self._folded():
            lines += ["", "[[console]]", *(_comment(f"NOT CONVERTED: {text}") for text in console.remarks)]
            lines += [f"{key} = {as_toml(value)}" for key, value in {"name": name, **console.values}.items()]
        return "\n".join(lines) + "\n"

    def _advice(self) -> list[str]:
        advice = ["# Look through it, then try it: twistd consoled --config FILE --check"]
        if self.has_secrets:
            advice.append(
                "# Passwords stand in it: the daemon takes them from a file that others cannot read (chmod o-r)."
            )
        return advice

    def _folded(self) -> Iterator[tuple[str, _Console]]:
        """The consoles; those that are equal but for their names are one, in the place of the first."""
        alike: dict[str, list[tuple[str, _Console]]] = {}
        for name, console in self._consoles.items():
            template = _Console(_templated(console.values, name), console.remarks)
            alike.setdefault(repr(template), []).append((name, template))
        for several in alike.values():
            name, template = several[0]
            if len(several) == 1:
                yield name, _Console(_templated(self._consoles[name].values, ""), template.remarks)
            else:
                yield fold([name for name, _ in several]), template


def fold(names: list[str]) -> str:
    """The names as one node set."""
    return names[0] if len(names) == 1 else str(NodeSet.fromlist(names, resolver=RESOLVER_NOGROUP))


def _templated(value: Any, name: str) -> Any:
    """`value` as a console's table has it: its own braces doubled, and `{name}` for `name` if that is given."""
    match value:
        case str():
            own = _BRACED.sub(r"{{\1}}", value)
            return re.sub(rf"(?<![A-Za-z0-9{{]){re.escape(name)}(?![A-Za-z0-9}}])", "{name}", own) if name else own
        case list():
            return [_templated(one, name) for one in value]
        case dict():
            return {key: one if key in SECRETS else _templated(one, name) for key, one in value.items()}
    return value


def as_toml(value: Any) -> str:
    """A value as TOML writes it, tables inline."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case str():
            return f'"{"".join(map(_character, value))}"'
        case list() | tuple():
            return f"[{', '.join(map(as_toml, value))}]"
        case dict():
            return f"{{ {', '.join(f'{_key(key)} = {as_toml(one)}' for key, one in value.items())} }}"
    raise TypeError(f"{value!r} has no place in TOML")


def _key(key: str) -> str:
    return key if _ORDINARY.fullmatch(key) else as_toml(key)


def _character(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08x}"


def _comment(text: str) -> str:
    """One line, whatever the text has in it."""
    return "# " + "".join(one if one.isprintable() else "?" for one in text)
