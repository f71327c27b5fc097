"""From a few tables to many consoles: node sets, groups, named parts of names, and values for each node.

Pure, but for the table files.  Called by `consoles` with what TOML, or a source, has; it gives one complete table for
each console, which `consoles` then reads into the settings of its kind.  What a console says beats what its group says,
which beats the defaults.  A text that is a secret is not filled in: any braces are its own, unless all of it is `{key}`
of a column or of `let`.
"""

from __future__ import annotations

import ast
import csv
import operator
import re
import stat
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consoled.nodesets import expand

Table = dict[str, Any]
Placed = Iterable[tuple[str, Table]]
"""Tables, each with where it stands: `console[2]`."""

OWN_KEYS = ("group", "let", "pattern", "table")
"""The keys of a console that are used up here."""

_BRACED = re.compile(r"\{(\w+)\}", re.ASCII)
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_BRACES = re.compile(r"\{(\{\w+\})\}|\{([\w+*\- ]+)\}", re.ASCII)
_SUM = re.compile(r"\s*\d+(?:\s*[+*-]\s*\d+)+\s*", re.ASCII)
_OPERATORS: dict[type, Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}


class InventoryError(ValueError):
    """A table that makes no consoles; the text begins with the key."""


class Kept(str):
    """A secret out of a table that others cannot read, wherever it is used."""

    __slots__ = ()


def others_can_read(path: Path) -> bool:
    """Raises `OSError`."""
    return bool(path.stat().st_mode & stat.S_IROTH)


@dataclass(frozen=True, slots=True)
class Node:
    """One console to be."""

    where: str
    """The table that it comes from: `console[2]`."""
    name: str
    group: str
    """The group that it is in; empty for none."""
    settings: Table
    """Complete: defaults and group applied, every text filled in."""
    said: Collection[str]
    """The keys that stand in its own table, and are not inherited."""


def placed(key: str, tables: Iterable[Table]) -> Placed:
    """The tables of the list under `key`."""
    return ((f"{key}[{index}]", table) for index, table in enumerate(tables))


def nodes(
    consoles: Placed, inherited: Mapping[object, Table], directory: str, secrets: Collection[str] = ()
) -> Iterator[Node]:
    """All consoles, in the order of their tables and the natural order of their names.

    They inherit what `inherit` says.  Relative table files begin at `directory`; a text under one of the keys
    `secrets` is one.  Raises `InventoryError`.
    """
    known: set[str] = set()
    for where, table in consoles:
        group = table.get("group", "")
        if not isinstance(group, str) or group not in inherited:
            raise InventoryError(f"{where}.group: there is no group {group!r}")
        whole = inherited[group] | table
        values = _Values(whole, where, directory)
        for position, name in enumerate(_names(whole, where)):
            if name in known:
                raise InventoryError(f"{where}.name: {name} is configured already")
            known.add(name)
            known_here = values.of(name, position)
            yield Node(
                where,
                name,
                group,
                {
                    key: name
                    if key == "name"
                    else values.secret(value, known_here, key)
                    if key in secrets and isinstance(value, str)
                    else _filled(value, known_here, f"{where}.{key}")
                    for key, value in whole.items()
                    if key not in OWN_KEYS
                },
                table.keys(),
            )


def inherit(groups: Placed, defaults: Table) -> dict[object, Table]:
    """What the consoles of each group inherit; those of no group, under the empty name, the defaults.

    Raises `InventoryError`.
    """
    inherited: dict[object, Table] = {"": defaults}
    for where, group in groups:
        name = group.get("name")
        if not isinstance(name, str) or not name:
            raise InventoryError(f"{where}.name: is missing")
        if name in inherited:
            raise InventoryError(f"{where}.name: {name!r} is there already")
        if "group" in group:
            raise InventoryError(f"{where}.group: a group is in no group")
        inherited[name] = defaults | {key: value for key, value in group.items() if key != "name"}
    return inherited


def _names(table: Table, where: str) -> list[str]:
    name = table.get("name")
    if not isinstance(name, str):
        raise InventoryError(f"{where}.name: {'is missing' if name is None else 'must be a text'}")
    try:
        return sorted(expand(name), key=_naturally)
    except ValueError as error:
        raise InventoryError(f"{where}.name: {error}") from None


def _naturally(name: str) -> list[tuple[int, str]]:
    """`n2` comes before `n10`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name, flags=re.ASCII)]


class _Values:
    """What may stand in braces in one console's table: `name`, `index`, parts of the name, columns, what `let` says."""

    def __init__(self, table: Table, where: str, directory: str) -> None:
        self._where = where
        self._file = Path()
        self._is_public = False
        self._pattern = self._compiled(table.get("pattern"))
        self._rows = self._read(table.get("table"), directory)
        self._columns = {column for row in (self._rows or {}).values() for column in row}
        self._let = table.get("let", {})
        if not isinstance(self._let, dict) or not all(isinstance(value, str | int) for value in self._let.values()):
            raise InventoryError(f"{where}.let: must be a table of texts and numbers")

    def of(self, name: str, index: int) -> dict[str, str]:
        """The values for the console `name`, which is the one of this `index` in its table's node set, from 0."""
        values = {"name": name, "index": str(index)}
        if self._pattern is not None:
            found = self._pattern.fullmatch(name)
            if found is None:
                raise InventoryError(f"{self._where}.pattern: {name} does not match it")
            values |= {part: text or "" for part, text in found.groupdict().items()}
        if self._rows is not None:
            if name not in self._rows:
                raise InventoryError(f"{self._where}.table: there is no row for {name}")
            values |= self._rows[name]
        for key, value in self._let.items():
            text = _filled(str(value), values, f"{self._where}.let.{key}")
            values[key] = str(_sum(text, {})) if _SUM.fullmatch(text) else text
        return values

    def secret(self, text: str, values: Mapping[str, str], key: str) -> str:
        """The secret under `key`: a column of the table, or what `let` says, or the `text` as it is."""
        whole = _BRACED.fullmatch(text)
        name = whole[1] if whole else ""
        is_said, is_column = name in self._let, name in self._columns
        if self._is_public and ("{" in str(self._let[name]) if is_said else is_column):
            raise InventoryError(
                f"{self._where}.{key}: the secret stands in {self._file}, which others can read: chmod o-r"
            )
        if is_said:
            return Kept(values[name]) if isinstance(self._let[name], Kept) else values[name]
        return Kept(values[name]) if is_column and name in values else text

    def _compiled(self, pattern: object) -> re.Pattern[str] | None:
        if pattern is None:
            return None
        try:
            return re.compile(pattern)  # type: ignore[call-overload, no-any-return]
        except (re.error, TypeError) as error:
            raise InventoryError(f"{self._where}.pattern: {error}") from None

    def _read(self, file: object, directory: str) -> Mapping[str, dict[str, str]] | None:
        if file is None:
            return None
        if not isinstance(file, str):
            raise InventoryError(f"{self._where}.table: must be the path of a file")
        self._file = path = Path(directory) / file
        try:
            self._is_public = others_can_read(path)
            text = path.read_text(encoding="utf-8")
            return _toml_rows(text) if path.suffix == ".toml" else _csv_rows(text)
        except OSError as error:
            raise InventoryError(f"{self._where}.table: {path}: {error.strerror}") from None
        except ValueError as error:
            raise InventoryError(f"{self._where}.table: {path}: {error}") from None


def _toml_rows(text: str) -> dict[str, dict[str, str]]:
    """A table for each node."""
    rows = {}
    for name, row in tomllib.loads(text).items():
        if not isinstance(row, dict) or not all(isinstance(value, str | int) for value in row.values()):
            raise ValueError(f"{name}: must be a table of texts and numbers")
        rows[name] = {key: str(value) for key, value in row.items()}
    return rows


def _csv_rows(text: str) -> dict[str, dict[str, str]]:
    """A head, with a column `name`, and a row for each node."""
    reader = csv.DictReader(text.splitlines(), strict=True)
    if "name" not in (reader.fieldnames or ()):
        raise ValueError("its first line must name the columns, and one of them must be `name`")
    rows: dict[str, dict[str, str]] = {}
    for row in reader:
        if None in row or None in row.values():
            raise ValueError(f"line {reader.line_num}: it has not as many columns as the first")
        name = row.pop("name")
        if name in rows:
            raise ValueError(f"line {reader.line_num}: {name} is there already")
        rows[name] = row
    return rows


def _filled(value: Any, values: Mapping[str, str], where: str) -> Any:
    """`value` with what stands in braces in its texts replaced; `{{x}}` becomes `{x}`."""
    match value:
        case str():
            return _BRACES.sub(lambda found: _replaced(found, values, where), value)
        case list():
            return [_filled(one, values, where) for one in value]
        case dict():
            return {key: _filled(one, values, f"{where}.{key}") for key, one in value.items()}
        case _:
            return value


def _replaced(found: re.Match[str], values: Mapping[str, str], where: str) -> str:
    kept, inside = found.groups()
    if kept:
        return str(kept)
    if _NAME.fullmatch(inside):
        if inside not in values:
            raise InventoryError(
                f"{where}: {{{inside}}} is none of {', '.join(sorted(values))}; write {{{{{inside}}}}} for the braces"
            )
        return values[inside]
    if not _NAME.search(inside) or not re.search(r"[+*-]", inside):
        return found[0]
    try:
        return str(_sum(inside, values))
    except (ValueError, SyntaxError, KeyError) as error:
        raise InventoryError(f"{where}: {{{inside}}} cannot be worked out: {error}") from None


def _sum(text: str, values: Mapping[str, str]) -> int:
    """`2000+index`, worked out.  Raises `ValueError`, `SyntaxError` or `KeyError`."""

    def value(node: ast.expr) -> int:
        match node:
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return _OPERATORS[type(op)](value(left), value(right))
            case ast.Constant(value=int() as number):
                return number
            case ast.Name(id=name):
                text = values[name]
                try:
                    return int(text)
                except ValueError:  # whose text quotes what may be a secret
                    raise ValueError(f"{name} is not a whole number") from None
        raise ValueError("only whole numbers, +, - and * go")

    # 07 is seven, as a node's number, and no number to Python.
    return value(ast.parse(re.sub(r"\b0+(?=\d)", "", text.strip()), mode="eval").body)
