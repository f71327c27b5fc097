"""The syntax of `conserver.cf`(5): named blocks of keywords and values, and `#include`.

Called by `conserver`, which knows what they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from consoled.importing.draft import Unreadable

DEPTH = 10
"""How deep files may include one another."""


@dataclass(frozen=True, slots=True)
class Pair:
    """`keyword value;`"""

    where: str
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Block:
    """`kind name { pairs }`"""

    where: str
    kind: str
    name: str
    pairs: list[Pair] = field(default_factory=list)


def blocks(text: str, file: str, include: Callable[[str], str], depth: int = 0) -> Iterator[Block]:
    """The blocks of a file and of those that it includes, in order; `include` gives a file's text.

    Raises `Unreadable`, and what `include` raises.
    """
    inside: Block | None = None
    words = _Words()
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"{file}:{number}"
        if line.startswith("#include"):
            if inside is not None or words:
                raise Unreadable(f"{where}: #include within a block")
            if depth == DEPTH:
                raise Unreadable(f"{where}: more than {DEPTH} files deep")
            name = line.removeprefix("#include").strip()
            yield from blocks(include(name), name, include, depth + 1)
            continue
        for token in words.tokens(line, where):
            match token:
                case "{" if inside is None:
                    kind, name = words.taken()
                    if not kind:
                        raise Unreadable(f"{where}: a block without a kind")
                    inside = Block(words.where, kind.lower(), name)
                case ";" if inside is not None:
                    key, value = words.taken()
                    if key:
                        inside.pairs.append(Pair(words.where, key.lower(), value))
                case "}" if inside is not None and not words:
                    yield inside
                    inside = None
                case _:
                    raise Unreadable(f"{where}: {token!r} is not expected here")
    if inside is not None or words:
        raise Unreadable(f"{file}: it ends within a block")


class _Words:
    """What stands before a token: a keyword, and all the rest, which keeps the spaces within it."""

    def __init__(self) -> None:
        self.where = ""
        """Where the words began that were taken last, or that are being read."""
        self._key = ""
        self._value = ""
        self._kept = 0
        """Up to here the value was quoted, so that spaces at its end are its own."""
        self._state = "before"

    def __bool__(self) -> bool:
        return self._state != "before"

    def tokens(self, line: str, where: str) -> Iterator[str]:
        """Read one line; each token that is met, when what stands before it is complete."""
        characters = iter(line)
        quoted = False
        for character in characters:
            literal = quoted
            if quoted and character == '"':
                quoted = False
                continue
            if quoted and character == "\\":
                following = next(characters, "")
                # Within quotes only a quote is quoted once more.
                for one in following if following == '"' else "\\" + following:
                    self._add(one, where, literal=True)
                continue
            if not quoted:
                if character == "#":
                    break
                if character == '"':
                    quoted = True
                    self._begin(where)
                    continue
                if character in "{};":
                    yield character
                    continue
                if character == "\\":
                    character, literal = next(characters, ""), True
            if character:
                self._add(character, where, literal)
        if quoted:
            raise Unreadable(f"{where}: a quote is not closed")
        self._add(" ", where, literal=False)

    def taken(self) -> tuple[str, str]:
        """The keyword and the value that have been read."""
        value = self._value[: self._kept] + self._value[self._kept :].rstrip()
        taken = self._key, value
        self._key = self._value = ""
        self._kept, self._state = 0, "before"
        return taken

    def _begin(self, where: str) -> None:
        if self._state == "before":
            self.where, self._state = where, "key"
        elif self._state == "between":
            self._state = "value"
        if self._state == "value":
            self._kept = len(self._value)

    def _add(self, character: str, where: str, literal: bool) -> None:
        if character.isspace() and not literal:
            if self._state == "key":
                self._state = "between"
            elif self._state == "value":
                self._value += character
            return
        if literal or self._state in ("before", "between"):
            self._begin(where)
        if self._state == "key":
            self._key += character
        else:
            self._value += character
            if literal:
                self._kept = len(self._value)
