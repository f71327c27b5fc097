"""Files that are included, the sources that a file names, and what is complete with both."""

from __future__ import annotations

from pathlib import Path

import pytest

from consoled.config import Config, ConfigError, complete, load, tables
from consoled.sources import offers
from consoled.sources.offers import Offer

LEAST = 'include = "conf.d/*.toml"\n[transcript]\ndirectory = "logs"\n'
TCP = 'kind = "tcp"\naddress = "a:1"\n'


@pytest.fixture
def read(tmp_path):
    (tmp_path / "conf.d").mkdir()

    def read(main: str = "", least: str = LEAST, **fragments: str) -> Config:
        path: Path = tmp_path / "consoled.toml"
        path.write_text(least + main)
        for name, text in fragments.items():
            (tmp_path / "conf.d" / f"{name}.toml").write_text(text)
        return load(path)

    return read


def complaint(read, *arguments: str, **fragments: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(*arguments, **fragments)
    return str(caught.value).partition("consoled.toml: ")[2]


def names(config: Config) -> list[str]:
    return [console.name for console in config.consoles]


def test_fragments_come_in_the_order_of_their_names(read, tmp_path):
    (tmp_path / "conf.d" / ".hidden.toml").write_text("[nonsense]")
    (tmp_path / "conf.d" / "rack.toml~").write_text("[nonsense]")
    config = read(
        f'[[console]]\nname = "z"\n{TCP}', b=f'[[console]]\nname = "x"\n{TCP}', a=f'[[console]]\nname = "y"\n{TCP}'
    )
    assert names(config) == ["z", "y", "x"]


def test_groups_and_defaults_count_everywhere(read):
    config = read(
        '[defaults]\nlinger = 7\n[[console]]\nname = "m"\ngroup = "rack"\n',
        a='[[group]]\nname = "rack"\nkind = "tcp"\naddress = "{name}:1"\n',
        b='[[console]]\nname = "n"\ngroup = "rack"\n',
    )
    assert [(console.name, console.address, console.linger) for console in config.consoles] == [
        ("m", "m:1", 7.0),
        ("n", "n:1", 7.0),
    ]
    assert config.groups == {"rack": {"m", "n"}}


def test_relative_paths_begin_where_those_of_the_file_do(read, tmp_path):
    config = read(a='[[console]]\nname = "a"\nkind = "unix"\npath = "run/a.sock"\n')
    assert config.consoles[0].path == str(tmp_path / "run/a.sock")


def test_a_directory_may_be_empty(read):
    assert names(read()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[http", "conf.d/a.toml: Expected ']'"),
        ("[http]\n", "conf.d/a.toml: Object contains unknown field `http`"),
        ("[defaults]\n", "conf.d/a.toml: Object contains unknown field `defaults`"),
        ('include = "x"\n', "conf.d/a.toml: Object contains unknown field `include`"),
        ("[console]\n", "conf.d/a.toml: console: Expected `array`"),
        (
            f'[[console]]\nname = "a"\n{TCP}speed = 1\n',
            "conf.d/a.toml: console[0]: Object contains unknown field `speed`",
        ),
        (f'[[console]]\nname = "m"\n{TCP}', "conf.d/a.toml: console[0].name: m is configured already"),
        ('[[group]]\nname = "g"\nspede = 1\n', "conf.d/a.toml: group[0].spede: no kind of console has this key"),
        ('[[group]]\nname = "g"\n[[group]]\nname = "g"\n', "conf.d/a.toml: group[1].name: 'g' is there already"),
    ],
)
def test_one_that_is_wrong_is_named(read, text, said):
    assert complaint(read, f'[[console]]\nname = "m"\n{TCP}', a=text).startswith(said)


def test_one_that_cannot_be_read(read, tmp_path):
    (tmp_path / "conf.d" / "a.toml").mkdir()
    assert complaint(read) == "conf.d/a.toml: Is a directory"


@pytest.mark.parametrize("pattern", ["nowhere/*.toml", "conf.d/"])
def test_a_pattern_that_means_nothing(read, pattern):
    assert complaint(read, "", LEAST.replace("conf.d/*.toml", pattern)).startswith(f"include: {pattern!r}")


IPMI = '[[console]]\nname = "{}"\ngroup = "ipmi"\n'
GROUP = '[[group]]\nname = "ipmi"\nkind = "ipmi"\naddress = "{name}"\nuser = "u"\n'


def test_a_secret_stands_in_a_file_that_others_cannot_read(read, tmp_path):
    """Whatever others may read beside it."""
    read(secret=GROUP + 'password = "s3cret"\n')
    (tmp_path / "consoled.toml").chmod(0o644)
    (tmp_path / "conf.d" / "secret.toml").chmod(0o600)
    (tmp_path / "conf.d" / "open.toml").touch(0o644)
    [console] = read(open=IPMI.format("a")).consoles
    assert console.password.literal == "s3cret"
    assert "s3cret" not in repr(console)
    (tmp_path / "conf.d" / "secret.toml").chmod(0o644)
    assert complaint(read) == (
        "conf.d/open.toml: console[0].password: a secret stands in a file that others can read: chmod o-r, or say "
        "where else it is; it comes from the group 'ipmi'"
    )


def test_a_value_of_let_may_be_one(read, tmp_path):
    group = GROUP + 'password = "{pin}"\n'
    read(group + "let = { pin = 1234 }\n")
    (tmp_path / "consoled.toml").chmod(0o600)
    [console] = read(group + "let = { pin = 1234 }\n", open=IPMI.format("a")).consoles
    assert console.password.literal == "1234"


# ---------------------------------------------------------------------------------------------- sources

SOURCES = """
[[group]]
name = "rack"
kind = "tcp"
address = "{name}:1"
[[source]]
name = "cmdb"
kind = "command"
command = ["cmdb"]
group = "rack"
[[source]]
name = "far"
kind = "http"
url = "https://cmdb.example.com/consoles?site=1"
interval = "5m"
"""


def test_sources_are_read(read):
    config = read(SOURCES)
    assert [(source.name, source.interval, source.max_shrink) for source in config.source] == [
        ("cmdb", 0.0, 0.2),
        ("far", 300.0, 0.2),
    ]
    assert tables(config, read(SOURCES)) == ()
    assert tables(config, read(SOURCES + 'limit = "5s"')) == ("source",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name = "a"', "source[0]: Object missing required field `kind`"),
        ('name = "a"\nkind = "csm"\n', "source[0].hsm: it is missing, and so is sls"),
        ('name = "a"\nkind = "command"\ncommand = []\n', "source[0].command: Expected `array` of length >= 1"),
        ('name = "../a"\nkind = "command"\ncommand = ["x"]\n', "source[0].name: "),
        ('name = "a"\nkind = "command"\ncommand = ["x"]\nlimit = 0\n', "source[0].limit: must be more than 0"),
        ('name = "a"\nkind = "command"\ncommand = ["x"]\nmax_shrink = 2\n', "source[0].max_shrink: "),
        ('name = "a"\nkind = "command"\ncommand = ["x"]\ngroup = "g"\n', "source[0].group: there is no group 'g'"),
        ('name = "a"\nkind = "http"\nurl = "http://x/"\n', "source[0].url: it must begin with https://"),
        ('name = "a"\nkind = "http"\nurl = "http://localhost.evil/"\n', "source[0].url: it must begin with https://"),
        ('name = "a"\nkind = "http"\nurl = "https://u:p@x/"\n', "source[0].url: "),
        (
            'name = "a"\nkind = "http"\nurl = "http://x/"\nunsafe_plaintext = true\ntoken = { env = "T" }\n',
            "source[0].token: it is not sent over plain HTTP",
        ),
        (
            'name = "a"\nkind = "csm"\nhsm = "https://x"\nriver = { kye = 1 }\n',
            "source[0].river.kye: no kind of console",
        ),
    ],
)
def test_a_source_that_is_wrong(read, text, said):
    assert complaint(read, f"[[source]]\n{text}").startswith(said)


def test_two_of_one_name(read):
    assert complaint(read, SOURCES.replace('"far"', '"cmdb"')) == "source[1].name: cmdb is there already"


def offer(config: Config, *entries: dict[str, object]) -> Offer:
    return offers.offer(config.making, config.source[0], entries)


def test_what_is_complete(read):
    config = read(SOURCES + f'[[console]]\nname = "m"\n{TCP}')
    whole, complaints = complete(config, {"cmdb": offer(config, {"name": "n[1-2]"})})
    assert names(whole) == ["m", "n1", "n2"]
    assert whole.groups == {"rack": {"n1", "n2"}}
    assert complaints == ()
    assert names(config) == ["m"]


def test_the_file_wins_and_then_the_first_source(read):
    config = read(SOURCES + f'[[console]]\nname = "n1"\n{TCP}')
    both = {"cmdb": offer(config, {"name": "n[1-2]"}), "far": offer(config, {"name": "n[2-3]", "address": "other:1"})}
    whole, complaints = complete(config, both)
    assert [(console.name, console.address) for console in whole.consoles] == [
        ("n1", "a:1"),
        ("n2", "n2:1"),
        ("n3", "other:1"),
    ]
    assert complaints == (
        "source cmdb: n1 is left out: the file has it",
        "source far: n2 is left out: source cmdb has it",
    )


def test_a_machine_has_one_console(read):
    account, machine = "930896af-bf8c-48d4-885c-6573a94b1853", "b2c5c0cb-0a0b-4a0e-9a0e-1b2c3d4e5f60"
    config = read(SOURCES)
    entries = [{"name": name, "account": account, "machine": machine} for name in ("a", "b")]
    whole, complaints = complete(config, {"cmdb": offer(config, *entries)})
    assert names(whole) == ["a"]
    assert complaints == ("source cmdb: b is left out: its machine has a console already",)
