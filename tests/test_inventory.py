"""From tables to consoles: what is inherited, what is filled in, and how each mistake is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoled.inventory import InventoryError, inherit, nodes, placed

XNAME = r"x(?P<cabinet>\d+)c(?P<chassis>\d)s(?P<slot>\d+)b(?P<bmc>\d)n(?P<node>\d)"


def made(*consoles, groups=(), defaults=None, directory="/nowhere"):
    inherited = inherit(placed("group", groups), defaults or {})
    return list(nodes(placed("console", consoles), inherited, str(directory)))


def one(console, **more):
    [node] = made({"name": "n7"} | console, **more)
    return node.settings


def complaint(*consoles, **more) -> str:
    with pytest.raises(InventoryError) as caught:
        made(*consoles, **more)
    return str(caught.value)


def test_names_come_in_their_natural_order():
    assert [node.name for node in made({"name": "n[8-11]"}, {"name": "a,n2"})] == ["n8", "n9", "n10", "n11", "a", "n2"]


def test_what_is_said_nearer_wins():
    group = {"name": "rack", "kind": "tcp", "retry_max": 5, "linger": 6}
    settings = one(
        {"group": "rack", "linger": 7}, groups=[group], defaults={"retry_max": 1, "linger": 2, "keepalive": 3}
    )
    assert settings == {"name": "n7", "kind": "tcp", "keepalive": 3, "retry_max": 5, "linger": 7}


def test_what_a_console_says_itself_is_known():
    [node] = made({"name": "n1", "group": "rack", "speed": 1}, groups=[{"name": "rack", "kind": "tcp"}])
    assert set(node.said) == {"name", "group", "speed"}


def test_texts_are_filled_in_wherever_they_are():
    filled = one({"a": ["{name}", {"b": "<{name}{name}>"}], "c": 3, "d": True, "e": ""})
    assert filled == {"name": "n7", "a": ["n7", {"b": "<n7n7>"}], "c": 3, "d": True, "e": ""}


def test_parts_of_the_name():
    [node] = made({"name": "x1000c3s7b1n0", "pattern": XNAME, "address": "x{cabinet}c{chassis}s{slot}b{bmc}"})
    assert node.settings == {"name": "x1000c3s7b1n0", "address": "x1000c3s7b1"}


def test_the_index_and_sums():
    consoles = made({"name": "p[01-03]", "pattern": r"p(?P<port>\d+)", "a": "{index}", "b": "ts:{2000+port}"})
    assert [node.settings["a"] for node in consoles] == ["0", "1", "2"]
    assert [node.settings["b"] for node in consoles] == ["ts:2001", "ts:2002", "ts:2003"]


def test_values_of_ones_own():
    consoles = made(
        {"name": "p[7-8]", "let": {"port": "2000+{index}", "host": "ts-{name}", "base": 5}, "a": "{host}:{port}/{base}"}
    )
    assert [node.settings["a"] for node in consoles] == ["ts-p7:2000/5", "ts-p8:2001/5"]


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.sampled_from("+-*"))
def test_sums_are_right(left, right, sign):
    text = one({"let": {"left": left}, "a": f"{{left {sign} {right}}}"})["a"]
    assert int(text) == {"+": left + right, "-": left - right, "*": left * right}[sign]


@pytest.mark.parametrize(
    "text", ["{print $1}", "{1-4}", "{}", "{ }", "{{print $1}}", "a{b", "}{", '{"a":{"b":1}}', "{a b}"]
)
def test_braces_that_mean_something_else_stay(text):
    assert one({"a": text})["a"] == text


def test_braces_can_be_written():
    assert one({"a": "{{name}} {name} {{nothing}}"})["a"] == "{name} n7 {nothing}"


def test_a_name_that_is_none_of_ours():
    said = complaint({"name": "n1", "let": {"port": 1}, "tls": {"ca": ["{nmae}"]}})
    assert said == "console[0].tls.ca: {nmae} is none of index, name, port; write {{nmae}} for the braces"


@pytest.mark.parametrize("text", ["{name+1}", "{nothing+1}", "{index++}", "{index+}", "{index**99}", "{1 2+index}"])
def test_a_sum_that_is_none(text):
    assert complaint({"name": "n1", "a": text}).startswith(f"console[0].a: {text} cannot be worked out: ")


def test_a_table_of_comma_separated_values(tmp_path):
    (tmp_path / "nodes.csv").write_text('name,bmc,port\nn1,"bmc, one",2001\nn2,bmc2,2002\nn9,unused,0\n')
    consoles = made({"name": "n[1-2]", "table": "nodes.csv", "a": "{bmc}:{port+1}"}, directory=tmp_path)
    assert [node.settings["a"] for node in consoles] == ["bmc, one:2002", "bmc2:2003"]
    assert "table" not in consoles[0].settings


def test_a_table_in_toml(tmp_path):
    (tmp_path / "nodes.toml").write_text('[n1]\nbmc = "b1"\nport = 7\n')
    [node] = made({"name": "n1", "table": str(tmp_path / "nodes.toml"), "a": "{bmc}:{port}"})
    assert node.settings["a"] == "b1:7"


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("a.csv", "", "its first line must name the columns"),
        ("a.csv", "node,bmc\n", "its first line must name the columns"),
        ("a.csv", "name,bmc\nn1\n", "line 2: it has not as many columns"),
        ("a.csv", "name,bmc\nn1,2,3\n", "line 2: it has not as many columns"),
        ("a.csv", "name,bmc\nn1,2\nn1,3\n", "line 3: n1 is there already"),
        ("a.csv", "name,bmc\nn2,2\n", "there is no row for n1"),
        ("a.toml", "n1 = 3\n", "n1: must be a table of texts and numbers"),
        ("a.toml", "[n1]\nbmc = []\n", "n1: must be a table of texts and numbers"),
        ("a.toml", "[n1\n", "Expected ']'"),
    ],
)
def test_a_table_that_is_wrong(tmp_path, file, text, said):
    (tmp_path / file).write_text(text)
    complained = complaint({"name": "n1", "table": file}, directory=tmp_path)
    assert complained.startswith("console[0].table: ")
    assert said in complained


def test_no_table(tmp_path):
    said = complaint({"name": "n1", "table": "a.csv"}, directory=tmp_path)
    assert said == f"console[0].table: {tmp_path}/a.csv: No such file or directory"


@pytest.mark.parametrize(
    ("console", "said"),
    [
        ({}, "console[0].name: is missing"),
        ({"name": 3}, "console[0].name: must be a text"),
        ({"name": "n["}, "console[0].name: 'n[' is not a node set"),
        ({"name": "n1", "group": "none"}, "console[0].group: there is no group 'none'"),
        ({"name": "n1", "pattern": "("}, "console[0].pattern: missing )"),
        ({"name": "n1", "pattern": 3}, "console[0].pattern: "),
        ({"name": "n1", "pattern": "x.*"}, "console[0].pattern: n1 does not match it"),
        ({"name": "n1", "table": 3}, "console[0].table: must be the path of a file"),
        ({"name": "n1", "let": 3}, "console[0].let: must be a table of texts and numbers"),
        ({"name": "n1", "let": {"a": []}}, "console[0].let: must be a table of texts and numbers"),
        ({"name": "n1", "let": {"a": "{b}"}}, "console[0].let.a: {b} is none of"),
    ],
)
def test_a_mistake_is_named(console, said):
    assert complaint(console).startswith(said)


def test_a_name_twice():
    assert complaint({"name": "n[1-2]"}, {"name": "n2"}) == "console[1].name: n2 is configured already"


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ([{}], "group[0].name: is missing"),
        ([{"name": "a"}, {"name": "a"}], "group[1].name: 'a' is there already"),
        ([{"name": "a", "group": "b"}], "group[0].group: a group is in no group"),
    ],
)
def test_a_group_that_is_wrong(groups, said):
    assert complaint(groups=groups) == said
