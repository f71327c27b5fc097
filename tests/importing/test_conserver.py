import pytest

from consoled.backends.demo import DemoSettings
from consoled.backends.ipmi import IpmiSettings
from consoled.backends.process import ProcessSettings
from consoled.backends.serial_port import SerialSettings
from consoled.backends.tcp import TcpSettings
from consoled.backends.telnet import TelnetSettings
from consoled.backends.unix import UnixSettings
from consoled.core.secret import Secret
from consoled.importing.conserver import read
from consoled.importing.conserver_syntax import DEPTH, blocks
from consoled.importing.conserver_values import unescaped
from consoled.importing.draft import Unreadable
from tests.importing.loading import loaded, lost, tables

SHELL = ("/bin/sh", "-ce")
SPACED = (*SHELL, "x    3")


def nothing(name):
    raise AssertionError(f"{name} was asked for")


def one(keys, tmp_path, before=""):
    """The only console, with these keys, and what it lost."""
    draft = read(before + f"console n1 {{ {keys} }}", "c.cf", nothing)
    [console] = loaded(draft, tmp_path).consoles
    return console, lost(draft)


@pytest.mark.parametrize(
    ("keys", "kind", "expected"),
    [
        ("type host; host ts1; port 2001;", TelnetSettings, {"address": "ts1:2001"}),
        ("type host; host ts1; port 7; portbase 2000; portinc 100;", TelnetSettings, {"address": "ts1:2700"}),
        ("type host; host ts1; port telnet; protocol raw;", TcpSettings, {"address": "ts1:23"}),
        ("type host; host 2001:db8::1; port 1;", TelnetSettings, {"address": "[2001:db8::1]:1"}),
        ("type exec; exec ssh -tt a@b;", ProcessSettings, {"command": (*SHELL, "ssh -tt a@b"), "raw": False}),
        ('type exec; exec "";', ProcessSettings, {"command": ("/bin/sh", "-i")}),
        ("type exec; exec H P; execsubst H=hs,P=P4d; host x; port 3;", ProcessSettings, {"command": SPACED}),
        ("type uds; uds /run/@.sock; udssubst @=cs;", UnixSettings, {"path": "/run/n1.sock"}),
        ("type noop;", DemoSettings, {"enabled": False}),
        ("type device; device /d.; devicesubst .=P03x; host no; port 17;", SerialSettings, {"device": "/d011"}),
    ],
)  # fmt: skip
def test_each_type(keys, kind, expected, tmp_path):
    console, without = one(keys, tmp_path)
    assert type(console) is kind
    assert {key: getattr(console, key) for key in expected} == expected
    assert without == ""


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("", (9600, 8, "none", 1, "xonxoff", False)),
        ("baud 115200; parity even; options cstopb,hupcl;", (115200, 7, "even", 2, "xonxoff", True)),
        ("options !ixon; options !ixoff;", (9600, 8, "none", 1, "none", False)),
        ("options crtscts,!ixon,!ixoff;", (9600, 8, "none", 1, "rtscts", False)),
    ],
)
def test_serial_ports(keys, expected, tmp_path):
    console, _ = one(f"type device; device /dev/ttyS0; {keys}", tmp_path)
    assert (console.speed, console.bits, console.parity, console.stop_bits, console.flow, console.hang_up) == expected


def test_ipmi(tmp_path):
    keys = r"""type ipmi; host bmc1; username admin; password "p{n1};"; ipmikg \\101b; ipmiciphersuite 17;
               ipmiprivlevel operator; ipmiworkaround checksum,sun-session; ipmiworkaround !checksum;"""
    console, without = one(keys, tmp_path)
    assert isinstance(console, IpmiSettings)
    assert (console.address, console.user, console.privilege) == ("bmc1", "admin", "operator")
    assert (console.password, console.k_g) == (Secret(literal="p{n1};"), Secret(literal="Ab"))
    assert (console.cipher_suites, console.workarounds) == ((17,), ("sun20",))
    assert without == ""


def test_defaults_are_inherited_in_the_order_of_the_file(tmp_path):
    text = """
        default * { type host; portbase 2000; options ondemand; }
        default ts1 { host ts1; }
        console a { include ts1; port 1; }
        default * { type host; host other; port 9; }
        console b { }
        console c { include ts1; }
        console d { include nowhere; }
    """
    draft = read(text, "c.cf", nothing)
    consoles = loaded(draft, tmp_path).consoles
    assert {console.name: (console.address, console.on_demand) for console in consoles} == {
        "a": ("ts1:2001", True),
        "b": ("other:9", False),
        "c": ("ts1:9", False),
        "d": ("other:9", False),
    }
    assert lost(draft) == "c.cf:8: include nowhere: there is no such default"


def test_breaks(tmp_path):
    before = r'break 4 { string "+\d+"; delay 300; } break 5 { string "\033c^a^?"; } '
    console, without = one("type exec; exec x; break 5;", tmp_path, before)
    assert console.break_sequence == "\x1bc\x01\x7f"
    assert "n1" not in without
    console, without = one("type exec; exec x; break 4;", tmp_path, before)
    assert console.break_sequence == ""
    assert "console n1: break 4" in without
    _, without = one("type host; host h; port 1; break 5;", tmp_path, before)
    assert "console n1: break 5" in without
    assert unescaped(r"\0\7\\\^\x^b") == "\0\7\\^x\2"


def test_who_may_what_is_said_once_for_all_that_are_alike():
    text = """
        group staff { users ann, bob; users cid; }
        default * { type host; host h; rw staff; }
        console n1 { port 1; }
        console n2 { port 2; }
        console n3 { port 3; rw !bob; ro *; }
        access * { trusted 127.0.0.1; admin ann; }
    """
    said = lost(read(text, "c.cf", nothing))
    assert "rw ann, bob, cid: on n[1-2]:" in said
    assert "rw ann, bob, cid, !bob; ro *: on n3:" in said
    assert "access trusted 127.0.0.1" in said and "access admin ann" in said


def test_what_has_no_counterpart_is_said(tmp_path):
    text = """
        config * { sslcredentials /etc/c.pem; passwdfile p; unifiedlog u; primaryport 3109; daemonmode on; x y; }
        task 1 { cmd reboot; }
        default * { type host; host h; port 1; logfilemax 1m; }
        console a { aliases b; idletimeout 5m; initcmd x; motd hello; timestamp 1hab; master m1; colour red; }
        console c { options !autoreinit,striphigh,!hupcl; logfile /dev/null; master m2; }
        console bad { type carrier-pigeon; }
        console worse { port no-such-service; }
        console a[x,y { rw ann; }
        console far { portbase 65535; }
        console a { }
        window w { }
    """
    draft = read(text, "c.cf", nothing)
    said = lost(draft)
    for expected in (
        "c.cf:2: sslcredentials", "c.cf:2: passwdfile", "c.cf:2: unifiedlog", "c.cf:2: config x", "c.cf:3: task 1",
        "console a: aliases", "console a: idletimeout", "console a: initcmd", "console a: motd", "console a: timestamp",
        "console a: colour", "console c: options !autoreinit", "console c: options striphigh", "console c: logfile",
        "c.cf:7: console 'bad': there is no type 'carrier-pigeon'", "c.cf:8: console 'worse': port: 'no-such-service'",
        "c.cf:11: console 'a': it is there already", "c.cf:12: 'window'", "c.cf:9: console 'a[x,y'",
        "c.cf:10: console 'far': port: with portbase and portinc it is 65536", "master: all consoles of m1, m2",
    ):  # fmt: skip
        assert expected in said
    assert not any(word in said for word in ("hupcl", "primaryport", "daemonmode", "logfilemax"))
    assert draft.text().count("NOT CONVERTED") == len(said.splitlines())
    config = loaded(draft, tmp_path)
    assert [console.name for console in config.consoles] == ["a", "c"]
    assert config.transcript.max_size == 1 << 20


def test_consoles_of_a_terminal_server_that_differ_by_name_are_one_table():
    text = "default * { type exec; exec con %; execsubst %=cs; } " + " ".join(f"console n{at} {{ }}" for at in range(9))
    [table] = tables(read(text, "c.cf", nothing))
    assert (table["name"], table["command"]) == ("n[0-8]", ["/bin/sh", "-ce", "con {name}"])


# ---------------------------------------------------------------------------------------------- syntax


def parsed(text, include=nothing):
    return [(b.kind, b.name, [(p.key, p.value) for p in b.pairs]) for b in blocks(text, "c.cf", include)]


@pytest.mark.parametrize(
    "text",
    [
        "default my defs { rw *; include other defs; }",
        'default my\\ defs{rw *;include "other defs";}',
        '"defa"ult my\\ defs { rw *; in\\clude "other defs"  ; }',
        "default my defs # a comment\n{\n rw\n *\n ;\n include other defs  ;\n}\n",
    ],
)
def test_one_block_in_many_spellings(text):
    assert parsed(text) == [("default", "my defs", [("rw", "*"), ("include", "other defs")])]


def test_quotes():
    [(_, _, pairs)] = parsed(r'console a { x "a{b};#\"c\d"; y a\;\\b; z " e "; w ""; v ; }')
    assert pairs == [("x", 'a{b};#"c\\d'), ("y", "a;\\b"), ("z", " e "), ("w", ""), ("v", "")]


def test_included_files():
    files = {"two.cf": "console b { }\n#include three.cf\n", "three.cf": "console c { }"}
    assert [name for _, name, _ in parsed("console a { }\n#include two.cf \nconsole d { }", files.__getitem__)] == list(
        "abcd"
    )
    asked = []
    with pytest.raises(Unreadable, match=f"more than {DEPTH} files deep"):
        parsed("#include me", lambda name: asked.append(name) or "#include me")
    assert len(asked) == DEPTH


@pytest.mark.parametrize(
    "text",
    [
        "console a {",
        "console a { x y }",
        "}",
        "x;",
        "{ }",
        'console "a',
        "console a { { }",
        "console a { \n#include x\n}",
    ],
)
def test_what_cannot_be_understood(text):
    with pytest.raises(Unreadable, match=r"^c\.cf"):
        parsed(text)
