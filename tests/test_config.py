"""The configuration: what is read, and how each mistake is named."""

from pathlib import Path

import pytest

from consoled.backends.tcp import TcpSettings
from consoled.config import ConfigError, is_loopback, load

ETC = Path(__file__).parent.parent / "etc"
LEAST = '[transcript]\ndirectory = "logs"\n'


@pytest.fixture
def read(tmp_path):
    def read(text: str, least: str = LEAST):
        path = tmp_path / "consoled.toml"
        path.write_text(least + text)
        return load(path)

    return read


def complaint(read, text: str, least: str = LEAST) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, least)
    prefix, _, rest = str(caught.value).partition(".toml: ")
    assert prefix.endswith("consoled")
    return rest


@pytest.mark.parametrize("name", ["consoled.toml", "demo.toml"])
def test_the_examples_are_valid(name):
    assert load(ETC / name).consoles


def test_the_least_configuration(read, tmp_path):
    config = read("")
    assert config.consoles == ()
    assert config.auth is None
    assert config.http.listen == ("tcp:8080:interface=127.0.0.1",)
    assert config.transcript.directory == str(tmp_path / "logs")


def test_a_node_set_makes_one_console_each(read):
    config = read('[[console]]\nname = "x3000c0s[1-3]b0n0"\nkind = "tcp"\naddress = "bmc-{name}:2001"')
    assert [console.name for console in config.consoles] == ["x3000c0s1b0n0", "x3000c0s2b0n0", "x3000c0s3b0n0"]
    assert [console.address for console in config.consoles] == [
        "bmc-x3000c0s1b0n0:2001",
        "bmc-x3000c0s2b0n0:2001",
        "bmc-x3000c0s3b0n0:2001",
    ]


def test_the_name_is_filled_in_everywhere(read):
    [console] = read(
        '[[console]]\nname = "n1"\nkind = "process"\ncommand = ["ssh", "{name}-bmc", "{{other}}"]\n'
        'environment = { NODE = "{name}" }\nreset_command = ["powerman", "-1", "{name}"]'
    ).consoles
    assert console.command == ("ssh", "n1-bmc", "{other}")
    assert console.environment == {"NODE": "n1"}
    assert console.reset_command == ("powerman", "-1", "n1")


def test_defaults_hold_for_the_kinds_that_know_them(read):
    one, two, three = read(
        '[defaults]\nretry_max = "5m"\nspeed = 9600\n'
        '[[console]]\nname = "a"\nkind = "serial"\ndevice = "/dev/ttyS0"\n'
        '[[console]]\nname = "b"\nkind = "tcp"\naddress = "b:1"\nretry_max = 7\n'
        '[[console]]\nname = "c"\nkind = "tcp"\naddress = "c:1"\n'
    ).consoles
    assert (one.speed, one.retry_max) == (9600, 300)
    assert two.retry_max == 7
    assert three == TcpSettings(name="c", address="c:1", retry_max=300.0)


def test_a_default_kind(read):
    [console] = read('[defaults]\nkind = "tcp"\n[[console]]\nname = "a"\naddress = "a:1"').consoles
    assert isinstance(console, TcpSettings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[http\n", "Expected ']'"),
        ('[http]\nlisen = ["tcp:1"]', "http: Object contains unknown field `lisen`"),
        ("[http]\nlisten = [1]", "http.listen[0]: Expected `str`, got `int`"),
        ("[nonsense]\n", "Object contains unknown field `nonsense`"),
        ('[hub]\nring = "many"', "hub.ring: 'many' is not a size"),
        ('[[console]]\nkind = "tcp"', "console[0].name: is missing"),
        (
            '[[console]]\nname = "a"',
            "console[0].kind: must be one of demo, ipmi, process, serial, ssh, tcp, telnet, unix",
        ),
        ('[[console]]\nname = "a"\nkind = "tpc"', "console[0].kind: must be one of"),
        ('[[console]]\nname = "a["\nkind = "tcp"', "console[0].name: 'a[' is not a node set"),
        ('[[console]]\nname = 3\nkind = "tcp"', "console[0].name: "),
        ('[[console]]\nname = "a"\nkind = "tcp"', "console[0]: Object missing required field `address`"),
        ('[[console]]\nname = "a"\nkind = "tcp"\naddress = "a"', "console[0]: 'a' is no address"),
        ('[[console]]\nname = "a"\nkind = "tcp"\naddress = "a:1"\nspeed = 1', "unknown field `speed`"),
        (
            '[[console]]\nname = "a"\nkind = "tcp"\naddress = "a:1"\nkeepalive = "5 parsecs"',
            "console[0].keepalive: '5 parsecs' is not a duration",
        ),
        (
            '[[console]]\nname = "a"\nkind = "tcp"\naddress = "a:1"\n'
            '[[console]]\nname = "[a,b]"\nkind = "tcp"\naddress = "a:1"',
            "console[1].name: ",
        ),
        (
            '[[console]]\nname = "a1"\nkind = "tcp"\naddress = "a:1"\n'
            '[[console]]\nname = "a[0-1]"\nkind = "tcp"\naddress = "a:1"',
            "console[1].name: a1 is configured already",
        ),
        ("[defaults]\nspede = 1", "defaults.spede: no kind of console has this key"),
        ('[defaults]\nname = "x"', "defaults.name: "),
        (
            '[[console]]\nname = "x.00000000000000000001"\nkind = "tcp"\naddress = "a:1"',
            "console[0].name: 'x.00000000000000000001' cannot be a console's name",
        ),
    ],
)
def test_a_mistake_is_named(read, text, said):
    assert said in complaint(read, text)


def test_the_transcript_directory_is_wanted(read):
    assert "Object missing required field `transcript`" in complaint(read, "", least="")


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml: No such file or directory"):
        load(tmp_path / "absent.toml")


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "bad.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"bad\.toml: "):
        load(tmp_path / "bad.toml")


@pytest.mark.parametrize(
    ("description", "answer"),
    [
        ("tcp:8080:interface=127.0.0.1", True),
        ("tcp:8080:interface=127.1.2.3", True),
        ("tcp:port=8080:interface=localhost", True),
        (r"tcp6:8080:interface=\:\:1", True),
        (r"tcp:8080:interface=\:\:1", True),
        ("ssl:443:interface=127.0.0.1:privateKey=k.pem", True),
        ("unix:/run/consoled.sock", True),
        ("tcp:8080", False),
        ("tcp:8080:interface=", False),
        ("tcp:8080:interface=0.0.0.0", False),
        (r"tcp6:8080:interface=\:\:", False),
        ("tcp:8080:interface=10.0.0.1", False),
        ("tcp:8080:interface=localhost.example.com", False),
        ("systemd:domain=INET:index=0", False),
        ("haproxy:tcp:8080:interface=127.0.0.1", False),
        ("", False),
    ],
)
def test_loopback_is_told_from_the_rest(description, answer):
    assert is_loopback(description) is answer


def test_an_open_door_beyond_loopback_is_refused(read):
    assert "http.listen: 'tcp:8080' is not known to be loopback" in complaint(read, '[http]\nlisten = ["tcp:8080"]')


def test_an_open_door_beyond_loopback_can_be_asked_for(read):
    assert read('[http]\nlisten = ["tcp:8080"]\ninsecure = true').http.insecure


def test_behind_a_lock_any_listener_will_do(read, tmp_path):
    config = read('[http]\nlisten = ["tcp:8080"]\n[auth]\ntokens = "tokens.toml"')
    assert config.auth.tokens == str(tmp_path / "tokens.toml")


def test_ten_thousand_consoles_are_read(read):
    consoles = read('[[console]]\nname = "n[0-9999]"\nkind = "tcp"\naddress = "{name}:1"').consoles
    assert len(consoles) == 10_000


def test_files_are_relative_to_the_configuration(read, tmp_path):
    one, two = read(
        '[[console]]\nname = "a"\nkind = "tcp"\naddress = "a:1"\ntls = { ca = "ca.pem", certificate = "/etc/c.pem" }\n'
        '[[console]]\nname = "b"\nkind = "unix"\npath = "b.sock"'
    ).consoles
    assert (one.tls.ca, one.tls.certificate, one.tls.key) == (str(tmp_path / "ca.pem"), "/etc/c.pem", "")
    assert two.path == str(tmp_path / "b.sock")


PASSWORD = '[[console]]\nname = "a"\nkind = "ipmi"\naddress = "a"\nuser = "op"\npassword = '


def test_a_secret_in_a_file_that_others_can_read(read, tmp_path):
    said = complaint(read, PASSWORD + '"c4n4ry"')
    assert said.startswith("console[0].password: a secret stands in a file that others can read")
    assert "c4n4ry" not in said


def test_a_secret_in_a_private_file(tmp_path):
    path = tmp_path / "consoled.toml"
    path.touch(0o640)
    path.write_text(LEAST + PASSWORD + '"c4n4ry"')
    [console] = load(path).consoles
    assert console.password.literal == "c4n4ry"
    assert "c4n4ry" not in repr(console)


def test_a_secret_somewhere_else(read, tmp_path):
    [console] = read(PASSWORD + '{ file = "{name}.password" }').consoles
    assert str(console.password) == f"file {tmp_path}/a.password"
