import re
import tomllib

from hypothesis import given
from hypothesis import strategies as st

from consoled.config import load
from consoled.importing import conman, conserver
from consoled.importing.draft import Draft, Unreadable, as_toml

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.recursive(
        TEXTS | st.booleans() | st.integers(-(2**63), 2**63 - 1), lambda of: st.lists(of) | st.dictionaries(TEXTS, of)
    )
)
def test_every_value_comes_back(value):
    assert tomllib.loads(f"x = {as_toml(value)}") == {"x": value}


@given(
    st.lists(st.from_regex(r"[a-z]{1,3}[0-9]{0,2}", fullmatch=True), unique=True, min_size=1, max_size=8),
    st.text(st.sampled_from(list("ab1{}-.%")), max_size=6),
    st.booleans(),
)
def test_a_console_says_what_was_given_whatever_its_name(tmp_path_factory, names, text, with_name):
    """Names, and braces that are nobody's, are neither filled in nor taken for what is to be filled in."""
    if re.search(r"\{[^{}]*[*+-][^{}]*\}", text) or "{{" in text or "}}" in text:
        return  # sums; and doubled braces are what a doubled one would be
    draft = Draft("a test", {"transcript": {"directory": "/x"}})
    said = {name: f"/{text}{'-' + name if with_name else ''}" for name in names}
    for name in names:
        draft.console("f:1", name, {"kind": "unix", "path": said[name]})
    path = tmp_path_factory.mktemp("draft") / "c.toml"
    path.write_text(draft.text(), encoding="utf-8")
    assert {console.name: console.path for console in load(path).consoles} == said


@given(st.text(st.sampled_from(list("console nametypedev={};\"'#\\\n12:/*&")), max_size=60))
def test_any_text_is_read_or_refused(text):
    for read in (conman.read, lambda text, file: conserver.read(text, file, lambda name: "")):
        try:
            draft = read(text, "f")
        except Unreadable as error:
            assert str(error).startswith("f:")
            continue
        tomllib.loads(draft.text())


def test_remarks_cannot_break_out_of_their_comment():
    draft = Draft("a\nb")
    draft.left_out("f:1", 'x\n[[console]]\nname = "evil"\r')
    assert "console" not in tomllib.loads(draft.text())


def test_it_says_that_it_holds_passwords():
    draft = Draft("x")
    assert "chmod" not in draft.text()
    draft.console("f:1", "n1", {"kind": "ipmi", "password": "s3cret"})
    assert "chmod o-r" in draft.text()
