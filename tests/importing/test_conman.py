import pytest

from consoled.backends.demo import DemoSettings
from consoled.backends.ipmi import IpmiSettings
from consoled.backends.process import ProcessSettings
from consoled.backends.serial_port import SerialSettings
from consoled.backends.ssh import SshSettings
from consoled.backends.telnet import TelnetSettings
from consoled.backends.unix import UnixSettings
from consoled.core.secret import Secret
from consoled.importing.conman import read
from consoled.importing.draft import Unreadable
from tests.importing.loading import loaded, lost, tables


def one(text, tmp_path, name="n1"):
    """The only console of `text`, and what was lost."""
    draft = read(text, "c.conf")
    [console] = loaded(draft, tmp_path).consoles
    assert console.name == name
    return console, lost(draft)


@pytest.mark.parametrize(
    ("device", "kind", "expected"),
    [
        ("ts1:2001", TelnetSettings, {"address": "ts1:2001"}),
        ("unix:/run/vm/n1.sock", UnixSettings, {"path": "/run/vm/n1.sock"}),
        ("unix:/run/%N", UnixSettings, {"path": "/run/n1"}),
        ("/dev/ttyS0", SerialSettings, {"device": "/dev/ttyS0", "speed": 9600, "bits": 8, "parity": "none"}),
        ("/opt/c.exp a {b}  %N", ProcessSettings, {"command": ("/opt/c.exp", "a", "{b}", "n1")}),
        ("hp-ilo.exp h", ProcessSettings, {"command": ("/usr/lib/conman/exec/hp-ilo.exp", "h")}),
        ("test:", DemoSettings, {"role": "chatter"}),
    ],
)
def test_each_kind_of_device(device, kind, expected, tmp_path):
    console, _ = one(f'CONSOLE Name="n1" dev="{device}"', tmp_path)
    assert type(console) is kind
    assert {key: getattr(console, key) for key in expected} == expected


def test_the_scripts_that_have_a_kind_of_their_own(tmp_path):
    text = """
        console name=a dev="ssh.exp bmc1 22 root s3cret"
        console name=b dev="/etc/x/ssh.exp bmc1 2222 root s3cret"
        console name=c dev="ipmitool.exp bmc2 admin pw kg"
        console name=d dev="ssh.exp bmc1 22"
    """
    a, b, c, d = loaded(read(text, "c.conf"), tmp_path).consoles
    assert isinstance(a, SshSettings) and isinstance(b, SshSettings) and isinstance(c, IpmiSettings)
    assert (a.address, a.user, a.password, a.trust_on_first_use) == ("bmc1", "root", Secret(literal="s3cret"), True)
    assert b.address == "bmc1:2222"
    assert (c.address, c.program, c.k_g) == ("bmc2", "ipmitool", Secret(literal="kg"))
    assert isinstance(d, ProcessSettings)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("115200", (115200, 8, "none", 1)),
        ("115200,8n1", (115200, 8, "none", 1)),
        ("19200, 7e2", (19200, 7, "even", 2)),
        ("300,7O", (300, 7, "odd", 1)),
    ],
)
def test_serial_options(options, expected, tmp_path):
    console, _ = one(f"console name='n1' dev='/dev/ttyS0' seropts='{options}'", tmp_path)
    assert (console.speed, console.bits, console.parity, console.stop_bits) == expected


def test_what_global_says_holds_for_what_follows(tmp_path):
    text = """
        console name="a" dev="/dev/ttyS0"
        global seropts="57600"   # a comment
        console name="b" dev="/dev/ttyS0"
        console name="c" dev="/dev/ttyS0" \\
            seropts="38400,8n1"
        server resetcmd="powerman -c %N; echo ${x} %D"
    """
    consoles = loaded(read(text, "c.conf"), tmp_path).consoles
    assert [console.speed for console in consoles] == [9600, 57600, 38400]
    assert consoles[1].reset_command == ("/bin/sh", "-c", "powerman -c b; echo ${x} ttyS0")


def test_ipmi(tmp_path):
    text = """
        global ipmiopts="U:admin,P:0x7077"
        global ipmiopts="C:3,L:op,W:sun20"
        console name="n1" dev="ipmi:bmc-%N" ipmiopts="P:p{n1}w,K:0x00ff,W:authcap,C:"
    """
    console, without = one(text, tmp_path)
    assert (console.address, console.user, console.privilege) == ("bmc-n1", "admin", "operator")
    assert console.password == Secret(literal="p{n1}w")
    assert console.k_g == Secret(literal="0x00ff")
    assert console.workarounds == ("sun20", "authcap")
    assert console.cipher_suites == (17, 3)
    assert without == ""


def test_what_ipmi_cannot_have():
    draft = read("console name=a dev='ipmi:x' ipmiopts='U:u,P:0xff'\nconsole name=b dev='ipmi:x'", "c.conf")
    assert tables(draft) == []
    assert "c.conf:1: console 'a': ipmiopts: the password in hexadecimal" in lost(draft)
    assert "0xff" not in draft.text()
    assert "c.conf:2: console 'b'" in lost(draft)


def test_consoles_that_differ_by_name_are_one_table(tmp_path):
    text = "\n".join(f'console name="n{at}" dev="bmc-n{at}:23" log="x.%N"' for at in range(1, 201))
    draft = read(text + "\nconsole name=n201 dev='other:23'", "c.conf")
    first, second = tables(draft)
    assert (first["name"], first["address"]) == ("n[1-200]", "bmc-{name}:23")
    assert (second["name"], second["address"]) == ("n201", "other:23")
    consoles = loaded(draft, tmp_path).consoles
    assert {console.name: console.address for console in consoles} == {
        **{f"n{at}": f"bmc-n{at}:23" for at in range(1, 201)},
        "n201": "other:23",
    }


def test_what_has_no_counterpart_is_said_twice(tmp_path):
    text = """
        server keepalive=off
        server pidfile="/run/c.pid" logdir="/var/log/c"
        server tcpwrappers=on timestamp=4h port=7890
        global log="console.%N" logopts="lock,sanitize"
        console name="n1" dev="h:23" log="" logopts="timestamp" colour="red"
        console name="bad name" dev="h:23"
        console name="n[1-3]" dev="h:23"
        console name="n1" dev="h:24"
        console name="n5"
        nonsense
    """
    draft = read(text, "c.conf")
    for expected in (
        "c.conf:4: server tcpwrappers",
        "c.conf:4: server timestamp",
        "c.conf:5: global logopts: sanitize",
        'c.conf:6: console n1: log = ""',
        "c.conf:6: console n1: logopts: timestamp",
        "c.conf:6: console n1: colour",
        "c.conf:7: console 'bad name'",
        "c.conf:8: console 'n[1-3]'",
        "c.conf:9: console 'n1': it is there already",
        "c.conf:10: a console without",
        "c.conf:11: 'nonsense' is no directive",
    ):
        assert expected in lost(draft)
        assert expected.partition("console n1: ")[2] or expected in draft.text()
    assert draft.text().count("NOT CONVERTED") == len(lost(draft).splitlines())
    config = loaded(draft, tmp_path)
    assert [console.keepalive for console in config.consoles] == [0]
    assert not any(word in lost(draft) for word in ("pidfile", "keepalive", "logdir", "port:"))


def test_what_is_no_such_file_at_all():
    with pytest.raises(Unreadable, match=r"^c\.conf:2: it is not understood from character 10 on$"):
        read('server port=1\nipmiopts="P:s3cret', "c.conf")


def test_no_remark_has_a_password():
    text = """
        global ipmiopts="U:a,P:s3cret,Q:x" "P:s3cret"
        console name=a dev="ipmi:h" ipmiopts="P:0xs3cret"
        console name=b dev="ipmi:h" ipmiopts="K:" "s3cret"
    """
    draft = read(text, "c.conf")
    assert len(draft.remarks) == 4
    assert "s3cret" not in lost(draft)
