"""The reference of the configuration, as a page and as a manual page: `python -m tools.reference` writes both.

They are kept in git, so that they can be read without building anything; a test fails when they are out of date.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from consoled import __version__
from tools.settings import TOP, Key, Table, tables

HERE = Path(__file__).parent.parent
PAGE = HERE / "docs" / "reference.md"
MANUAL = HERE / "docs" / "man" / "consoled.toml.5"

FORMS = (
    ("duration", 'Seconds, or a text: `"500ms"`, `"90s"`, `"5m"`, `"1h 30m"`, `"7d"`.'),
    ("size", 'Bytes, or a text: `"64 KiB"`, `"5 MB"`, `"20 GiB"`.'),
    ("path", "A relative one begins at the directory of the configuration file."),
    (
        "secret",
        'Where it is: `{ file = "..." }`, `{ env = "..." }`, `{ credential = "..." }` (systemd\'s LoadCredential), '
        '`{ command = ["..."] }` or `{ vault = "...", field = "..." }`.  A text is the secret itself, and is taken '
        "from a file only that others cannot read.",
    ),
    ("claim", r"The path of a claim of a token: names with dots between; a dot in a name is written `\.`."),
)
"""Types that TOML does not have."""


def page() -> str:
    """`docs/reference.md`."""
    lines = [
        "# Every key of the configuration",
        "",
        "<!-- Made by `make docs` from the structures that the daemon reads its configuration into.  Do not edit. -->",
        "",
        "One TOML file, `/etc/consoled/consoled.toml` unless `--config` says another.  A key that is not here is an",
        "error that names it; `twistd consoled --config FILE --check` finds it before the daemon does.  The commented",
        "example is [etc/consoled.toml](../etc/consoled.toml).",
        "",
        "Beside texts, numbers, truths and lists there are:",
        "",
        *(f"* **{name}**: {text}" for name, text in FORMS),
        "",
        "A key without a default that is not marked as required may be left out.",
    ]
    for table in tables():
        lines += ["", f"## {table.title}" if table.title == TOP else f"## `{table.title}`", ""]
        lines += [table.text, ""] if table.text and table.keys else [table.text] if table.text else []
        for key in table.keys:
            lines.append(f"* **`{key.name}`**: {_what(key)}")
            lines += [f"  {line}".rstrip() for line in ["", *key.text.splitlines()]]
    return "\n".join(lines) + "\n"


def _what(key: Key) -> str:
    default = f"; default `{key.default}`" if key.default else "; **required**" if key.required else ""
    return key.form + default


def manual() -> str:
    """`consoled.toml(5)`."""
    return "\n".join(_manual(list(tables()))) + "\n"


def _manual(all_tables: list[Table]) -> Iterator[str]:
    yield r".\" Made by `make docs` from the structures that the daemon reads its configuration into.  Do not edit."
    yield f'.TH CONSOLED.TOML 5 "" "consoled {__version__}" "consoled"'
    yield ".SH NAME"
    yield r"consoled.toml \- configuration of the console concentrator consoled(8)"
    yield ".SH DESCRIPTION"
    yield "One TOML file.  A key that is not here is an error that names it;"
    yield r".B twistd consoled \-\-config \fIFILE\fP \-\-check"
    yield "finds it before the daemon does."
    yield "Beside texts, numbers, truths and lists there are:"
    for name, text in FORMS:
        yield from (".TP", rf"\fB{name}\fP", *_roff(text))
    yield ".PP"
    yield "A key without a default that is not marked as required may be left out."
    yield ".SH TABLES"
    for table in all_tables:
        yield f".SS {_plain(table.title)}"
        yield from _paragraphs(table.text)
        for key in table.keys:
            yield ".TP"
            yield rf"\fB{_plain(key.name)}\fP (" + " ".join(_roff(_what(key))) + ")"
            yield from _paragraphs(key.text, indented=True)
    yield ".SH FILES"
    yield from (".TP", ".I /etc/consoled/consoled.toml", "Read unless another one is named.")
    yield from (".TP", ".I /usr/share/doc/consoled/examples/consoled.toml", "The commented example.")
    yield ".SH SEE ALSO"
    yield ".BR consoled (8),"
    yield ".BR consoled\\-import (1)"


def _paragraphs(text: str, *, indented: bool = False) -> Iterator[str]:
    for at, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
        if at:
            yield ".IP" if indented else ".PP"
        yield from _roff(paragraph)


def _roff(text: str) -> Iterator[str]:
    """Lines of roff for one paragraph of Markdown as docstrings have it: `code`, **strong**, and plain words."""
    line = re.sub(r"\s+", " ", text.strip())
    parts = re.split(r"`([^`]*)`|\*\*(.+?)\*\*", line)
    words = ""
    for at, part in enumerate(parts):
        if part:
            # re.split gives plain text, then either group, in turns of three.
            words += _plain(part) if at % 3 == 0 else rf"\fB{_plain(part, code=True)}\fP"
    for sentence in re.split(r"(?<=[.;:]) (?=\S)", words):
        yield rf"\&{sentence}" if sentence.startswith((".", "'")) else sentence


def _plain(text: str, *, code: bool = False) -> str:
    text = text.replace("\\", r"\e")
    return re.sub(r"[-^~]", lambda found: {"-": r"\-", "^": r"\(ha", "~": r"\(ti"}[found[0]], text) if code else text


def write() -> None:
    """Both, where they are kept."""
    PAGE.write_text(page(), encoding="utf-8")
    MANUAL.write_text(manual(), encoding="utf-8")


if __name__ == "__main__":
    write()
