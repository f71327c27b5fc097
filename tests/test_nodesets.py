"""Node sets: what ClusterShell makes of them, and what never reaches it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoled import nodesets
from consoled.nodesets import LIMIT, expand


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ""),
        ("  ", ""),
        ("a", "a"),
        ("x3000c0s[1-3]b0n0", "x3000c0s1b0n0 x3000c0s2b0n0 x3000c0s3b0n0"),
        ("a[1-2]b[3,5]", "a1b3 a1b5 a2b3 a2b5"),
        ("a[08-10]", "a08 a09 a10"),
        ("a[1-5/2]", "a1 a3 a5"),
        (" a , b[1-2] ", "a b1 b2"),
        ("a[1-4]!a[2-3]", "a1 a4"),
        ("a[1-4]&a[3-9]", "a3 a4"),
        ("a[1-2]^a[2-3]", "a1 a3"),
        ("a[1-2].dom_x:2-b", "a1.dom_x:2-b a2.dom_x:2-b"),
        ("a[1-2]!a[1-2]", ""),
    ],
)
def test_expands(text: str, names: str) -> None:
    assert expand(text) == frozenset(names.split())


@pytest.mark.parametrize(
    "text",
    [
        "a[1-",
        "a[1-2]]",
        "a[]",
        "a[3-1]",
        "a[1-x]",
        "a[1_0-2_0]",
        "a[-1-2]",
        "a[1-3/0]",
        "a[1][2]",
        "a[\u0661-\u0663]",
        "a,",
        "!a",
        "a b",
        "a\nb",
        "@rack1",
        "@*",
        "*",
        "a%s",
        "../etc",
        "\u0430[1-2]",
    ],
)
def test_what_is_no_node_set_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="is not a node set"):
        expand(text)


@pytest.mark.parametrize(
    "text",
    [
        f"a[1-{LIMIT + 1}]",
        "a[1-999999999]",
        "a[1-3000]b[1-3000]",
        "a[1-600000],b[1-600000]",
        "a[1-999999999/2]",
        "b!a[1-999999999]",
        "a[5,1-999999999]",
    ],
)
def test_an_absurd_size_never_reaches_clustershell(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodesets, "NodeSet", None)
    with pytest.raises(ValueError, match="more than 1000000 names"):
        expand(text)


def test_a_number_too_long_to_be_one_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"^.{,200}$"):
        expand("a[1-" + "9" * 5000 + "]")


ranges = st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(1, 5)).map(
    lambda r: f"{min(r[:2])}-{max(r[:2])}/{r[2]}"
)
brackets = st.lists(ranges, min_size=1, max_size=3).map(lambda parts: f"[{','.join(parts)}]")
patterns = st.tuples(brackets, brackets).map(lambda pair: f"a{pair[0]}b{pair[1]}")


@given(st.lists(patterns, min_size=1, max_size=3))
def test_the_size_from_the_text_is_never_too_small(parts: list[str]) -> None:
    assert len(expand(",".join(parts))) <= sum(map(nodesets._size, parts))
