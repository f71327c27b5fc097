"""The pages: every link within the repository leads somewhere, and the manual pages are without fault."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.real import need

HOME = Path(__file__).parent.parent.parent
PAGES = sorted([HOME / "README.md", *(HOME / "docs").rglob("*.md")])
MANUALS = sorted((HOME / "docs" / "man").glob("*.[1-8]"))
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")
_CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The names by which forges, and the site, know a page's headings."""
    headings = re.findall(r"^#+ +(.+?) *$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HOME)))
def test_every_link_leads_somewhere(page):
    for path, anchor in _LINK.findall(_CODE.sub("", page.read_text())):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page}: {path}"
        if anchor:
            assert anchor in anchors(target), f"{page}: {path}#{anchor}"


def test_there_are_pages_to_look_at():
    assert len(PAGES) > 10
    assert [page.name for page in MANUALS] == ["consoled-import.1", "consoled.8", "consoled.toml.5"]


@pytest.mark.parametrize("page", MANUALS, ids=lambda page: page.name)
def test_a_manual_page_is_without_fault(page):
    mandoc = need("mandoc", "mandoc")
    done = subprocess.run([mandoc, "-Tlint", "-Wwarning", page], capture_output=True, text=True, timeout=30)
    faults = [line for line in done.stdout.splitlines() if "missing date" not in line]
    assert faults == []


@pytest.mark.parametrize("page", MANUALS, ids=lambda page: page.name)
def test_a_manual_page_can_be_read(page):
    man = need("man", "man-db")
    argv = [man, "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-P", "cat", page]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=30, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    )
    assert done.stderr == ""
    assert "SEE ALSO" in re.sub(r".\x08|\x1b\[\d*m", "", done.stdout)
