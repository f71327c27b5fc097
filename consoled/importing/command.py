"""`consoled-import FILE`: another console server's configuration as TOML, on standard output.

What could not be converted is a comment in the output and a line on standard error.  The exit status is 0 if
everything was, 3 if not, 1 if the file cannot be read, 2 for a wrong command line.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from consoled import __version__
from consoled.importing import conman, conserver
from consoled.importing.draft import Draft, Unreadable

CANNOT_READ, INCOMPLETE = 1, 3
"""Exit statuses."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script; gives the exit status."""
    options = _parser().parse_args(arguments)
    try:
        draft = convert(options.file, options.format)
    except (OSError, Unreadable) as error:
        why = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        print(f"consoled-import: {why}", file=sys.stderr)  # noqa: T201
        return CANNOT_READ
    sys.stdout.write(draft.text())
    for remark in draft.remarks:
        print(f"{'not converted: ' if remark.lost else ''}{remark}", file=sys.stderr)  # noqa: T201
    return INCOMPLETE if any(remark.lost for remark in draft.remarks) else 0


def convert(path: Path, form: str = "") -> Draft:
    """The file at `path`, in the form that it seems to have unless one is named.

    Raises `OSError` and `Unreadable`.
    """
    text = _read(path)
    if (form or guess(text)) == "conman":
        return conman.read(text, str(path))
    return conserver.read(text, str(path), lambda name: _read(path.parent / name))


def guess(text: str) -> str:
    """Which of the two it is: conserver has blocks, and ConMan has none."""
    bare = re.sub(r"#.*", "", text)
    return "conserver" if re.search(r"^[ \t]*\w+[ \t]+[^{}\n=]*\{", bare, re.MULTILINE) else "conman"


def _read(path: Path) -> str:
    # Comments may be in any encoding; names and addresses are ASCII.
    return path.read_text(encoding="utf-8", errors="replace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="consoled-import",
        description="Convert the configuration of ConMan or conserver into consoled's, on standard output.",
        epilog="Exit status: 0 if all of it was converted, 3 if not, 1 if the file cannot be read.",
    )
    parser.add_argument("file", type=Path, help="conman.conf or conserver.cf")
    parser.add_argument("--format", choices=("conman", "conserver"), help="default: as the file looks")
    parser.add_argument("--version", action="version", version=f"consoled {__version__}")
    return parser
