"""Every key of the configuration, read from the typed structures that the daemon reads it into.

The types, the defaults and the limits come from the structures themselves, the words from the docstrings below their
fields (which Python drops, hence `ast`).  `reference` writes it as a page and as a manual page.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import types
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from consoled import config
from consoled.auth.claims import ClaimPath
from consoled.backends.settings import ConsoleSettings
from consoled.core.secret import Secret
from consoled.inventory import OWN_KEYS
from consoled.units import Duration, FilePath, Size

TOP = "Before any table"
"""The title of the keys that are in none."""

OWN = {
    "name": (
        "text",
        "A node set: `x3000c0s[1-4]b0n0` makes four consoles.  Elsewhere `{name}` is each one's own.",
    ),
    "kind": ("one of {kinds}", "How the console is reached."),
    "group": ("text", "The `[[group]]` whose keys it inherits."),
    "pattern": ("text", "A regular expression that the whole name must match; its named parts fill `{part}` in texts."),
    "let": ("table of texts", 'Values of one\'s own: `{ port = "2001+{index}" }` fills `{port}`; sums are worked out.'),
    "table": ("path", "A CSV or TOML file with a row for each name; its columns fill `{column}` in texts."),
}
"""The keys of a console that are used up when its table is made into consoles, before the structures are read."""

WORDS: dict[Any, tuple[str, str]] = {
    str: ("text", "texts"),
    bool: ("true or false", "truths"),
    int: ("number", "numbers"),
    float: ("number", "numbers"),
    datetime: ("date and time", "dates"),
    Duration: ("duration", "durations"),
    Size: ("size", "sizes"),
    FilePath: ("path", "paths"),
    Secret: ("secret", "secrets"),
    ClaimPath: ("claim", "claims"),
    Any: ("anything", "values"),
}
"""What a value of each type is called, and several of them."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table."""

    name: str
    form: str
    """What may stand there, limits included."""
    default: str
    """As TOML; empty if there is none, because the key has to be there or because nothing is the default."""
    required: bool
    text: str
    """Paragraphs, with blank lines between."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the file."""

    title: str
    """`[http]`, `[[console]]`."""
    text: str
    keys: tuple[Key, ...]


class Undocumented(Exception):
    """A key, or a table, has no docstring; the text names it."""


def tables() -> Iterator[Table]:
    """All of the file's.  Raises `Undocumented`."""
    if OWN.keys() != {"name", "kind", *OWN_KEYS}:
        raise Undocumented(f"console: {OWN.keys() ^ {'name', 'kind', *OWN_KEYS}}")
    said = docstrings(config._File)
    fields = msgspec.structs.fields(config._File)
    loose = {field.name for field in fields if field.type in WORDS}
    if loose:
        yield Table(TOP, "", tuple(_keys(config._File, TOP, {field.name for field in fields} - loose)))
    for field in fields:
        structs, is_list = _structs(field.type)
        if structs:
            yield from _tables(structs, field.name, is_list)
        elif field.name not in loose:
            is_list = get_origin(field.type) is list
            text = said.get(field.name) or _missing(field.name)
            keys = (*_own_keys(), *_keys(ConsoleSettings, "console", {"name"})) if field.name == "console" else ()
            yield Table(_title(field.name, is_list), text, keys)
    yield from _kinds(list(config.KINDS.values()), "console", ConsoleSettings)


def _own_keys() -> Iterator[Key]:
    kinds = ", ".join(f'`"{kind}"`' for kind in config.KINDS)
    for name, (what, text) in OWN.items():
        yield Key(name, what.format(kinds=kinds), "", name in ("name", "kind"), text)


def _tables(structs: Sequence[Any], path: str, is_list: bool) -> Iterator[Table]:
    """The table that is one of `structs`, and those within it."""
    if len(structs) == 1:
        [struct] = structs
        yield Table(_title(path, is_list), _about(struct, path), tuple(_keys(struct, path)))
        for field in msgspec.structs.fields(struct):
            inner, several = _structs(field.type)
            if inner:
                yield from _tables(inner, f"{path}.{field.name}", several)
        return
    # Several kinds: what they have in common, then each.
    common = next(one for one in structs[0].__mro__ if all(issubclass(struct, one) for struct in structs))
    kinds = ", ".join(f'`"{struct.__struct_config__.tag}"`' for struct in structs)
    kind = Key(
        structs[0].__struct_config__.tag_field, f"one of {kinds}", "", True, "What it is; each has further keys."
    )
    yield Table(_title(path, is_list), _about(common, path), (kind, *_keys(common, path)))
    yield from _kinds(structs, path, common)


def _kinds(structs: Sequence[Any], path: str, common: Any) -> Iterator[Table]:
    """The tables of each kind, without the keys in `common`, and then those within them, each once."""
    inner: dict[Any, tuple[str, list[str]]] = {}
    for struct in structs:
        kind = struct.__struct_config__.tag
        where = f'[[{path}]] with kind = "{kind}"'
        yield Table(where, _about(struct, where), tuple(_keys(struct, where, common.__struct_fields__)))
        for field in msgspec.structs.fields(struct):
            for found in _structs(field.type)[0]:
                inner.setdefault(found, (f"{path}.{field.name}", []))[1].append(f'`"{kind}"`')
    for struct, (inside, kinds) in inner.items():
        where = f"Of kind {' and '.join(kinds)}.  "
        yield Table(_title(inside), where + _about(struct, inside), tuple(_keys(struct, inside)))


def _title(path: str, is_list: bool = False) -> str:
    return f"[[{path}]]" if is_list else f"[{path}]"


def _about(struct: Any, where: str) -> str:
    """What the structure's docstring says beside the table's name."""
    text = inspect.cleandoc(struct.__doc__ or _missing(where))
    text = re.sub(r"\A(?:One of )?`(?:\[+[\w.]+\]+|tls\.certificates|kind = \"demo\")`[.:]\s*", "", text)
    return text[:1].upper() + text[1:]


def _keys(struct: Any, path: str, without: Collection[str] = ()) -> Iterator[Key]:
    said = docstrings(struct)
    for field in msgspec.structs.fields(struct):
        if field.name in without:
            continue
        if not (text := said.get(field.name, "")):
            _missing(f"{struct.__module__}.{struct.__qualname__}.{field.name} ({path})")
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        yield Key(field.name, form(field.type), as_toml(default), field.required, text)


def _missing(what: str) -> Any:
    raise Undocumented(f"{what} has no docstring")


def docstrings(struct: type) -> dict[str, str]:
    """The text below each field of `struct` and of what it extends."""
    found: dict[str, str] = {}
    for one in reversed(struct.__mro__):
        if not issubclass(one, msgspec.Struct) or one is msgspec.Struct:
            continue
        [tree] = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        assert isinstance(tree, ast.ClassDef)
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str() as text)):
                    found[name] = inspect.cleandoc(text)
    return found


def _structs(kind: Any) -> tuple[list[Any], bool]:
    """What may stand as a table under a key of this type, and whether there may be several."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind], False
    origin = get_origin(kind)
    if origin not in (Annotated, Union, types.UnionType, tuple, list):
        return [], False
    found = [_structs(one) for one in get_args(kind)]
    return [struct for structs, _ in found for struct in structs], origin in (tuple, list) or any(
        one[1] for one in found
    )


def form(kind: Any, *, several: bool = False) -> str:
    """What a value of this type is called."""
    origin, of = get_origin(kind), get_args(kind)
    if origin is Annotated:
        limits = ", ".join(limit for meta in of[1:] for limit in _limits(meta, of[0]))
        return form(of[0], several=several) + (f" ({limits})" if limits else "")
    if origin is Literal:
        return "one of " * (len(of) > 1) + ", ".join(f"`{as_toml(value)}`" for value in of)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(form(one, several=several) for one in of if one is not type(None)))
    if origin in (tuple, list):
        return f"list of {form(of[0], several=True)}"
    if origin is dict:
        return f"table of {form(of[1], several=True)}"
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return "tables, see there" if several else "table, see there"
    return WORDS[kind][several]


def _limits(meta: Any, kind: Any) -> Iterator[str]:
    if meta.ge is not None and meta.le is not None:
        yield f"{meta.ge} to {meta.le}"
    elif meta.ge is not None:
        yield f"{meta.ge} or more"
    elif meta.le is not None:
        yield f"at most {meta.le}"
    if meta.gt is not None:
        yield f"more than {meta.gt}"
    if meta.lt is not None:
        yield f"less than {meta.lt}"
    if meta.min_length is not None:
        yield f"at least {meta.min_length}" + (" character" if kind is str else "")
    if meta.max_length is not None:
        yield f"at most {meta.max_length}"
    if meta.pattern is not None:
        yield f"must match `{meta.pattern}`"


def as_toml(value: Any) -> str:
    """A default as it would be written; empty for what is written by leaving it out."""
    match value:
        case None | msgspec.NODEFAULT | msgspec.Struct():
            return ""
        case bool():
            return str(value).lower()
        case Duration():
            return _in_units(value, (("d", 86400), ("h", 3600), ("m", 60), ("s", 1), ("ms", 0.001)), "")
        case Size():
            return _in_units(value, (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)), " ")
        case int() | float():
            return f"{value:g}" if isinstance(value, float) else str(value)
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case tuple() | list():
            return f"[{', '.join(map(as_toml, value))}]"
        case dict():
            return "{ " + ", ".join(f"{key} = {as_toml(one)}" for key, one in value.items()) + " }" if value else "{}"
    raise TypeError(f"how is {value!r} written in TOML?")


def _in_units(value: float, units: tuple[tuple[str, float], ...], space: str) -> str:
    for unit, worth in units:
        if value >= worth and (value / worth).is_integer():
            return f'"{value / worth:g}{space}{unit}"'
    return f"{value:g}"
