"""How Sphinx makes the site of these pages: `make docs`.

The theme brings all that it shows along, so that the site can be read on a management network without an outside.
"""

import re
from pathlib import Path
from typing import Any

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.highlighting import lexers
from sphinx.util.logging import getLogger

from consoled import __version__

project = "consoled"
release = version = __version__
copyright = "the consoled authors"  # Sphinx calls it so

extensions = ["myst_parser"]
exclude_patterns = ["man"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 3
nitpicky = True

html_theme = "furo"
html_title = f"consoled {__version__}"
html_show_sourcelink = False
highlight_language = "none"
# Forges draw these; here they are read.
lexers["mermaid"] = TextLexer()

_OUTSIDE = re.compile(r"\[([^\]]*)\]\(((?:\.\./)+[^)#]*)\)")


def name_files(app: Sphinx, page: str, source: list[str]) -> None:
    """A link to a file of the repository that is not a page here becomes the file's name."""
    where = Path(app.srcdir) / Path(page).parent
    home = Path(app.srcdir).parent

    def named(found: re.Match[str]) -> str:
        text, link = found.groups()
        path = (where / link).resolve()
        if path.is_relative_to(app.srcdir):
            return found[0]
        if not path.exists():
            getLogger(__name__).warning("there is no %s", link, location=page)
        name = str(path.relative_to(home))
        return f"`{name}`" if text == name else f"{text} (`{name}`)"

    source[0] = _OUTSIDE.sub(named, source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls it."""
    app.connect("source-read", name_files)
    return {"parallel_read_safe": True}
