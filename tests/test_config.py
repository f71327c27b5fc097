"""The configuration: what is read, and how each mistake is named."""

from pathlib import Path

import pytest

from consoled.backends.tcp import TcpSettings
from consoled.caveats import missing, warnings
from consoled.config import ConfigError, load, tables
from consoled.consoles import KINDS
from consoled.listening.descriptions import is_loopback

ETC = Path(__file__).parent.parent / "etc"
LOOPBACK = "tcp:8080:interface=127.0.0.1"
TCP = '[[console]]\nname = "a"\nkind = "tcp"\naddress = "a:1"\n'
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
        ('[[console]]\nname = "a"\nkind = "tcp"\naddress = "a"', "console[0].address: 'a' is no address"),
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
        ("[http]\nlisten = []", "http.listen: it is empty and there is no [tls]: nobody could come in"),
        (f'[http]\nlisten = ["{LOOPBACK}", "{LOOPBACK}"]', f"http.listen[1]: '{LOOPBACK}' is there already"),
        ('[http]\nlisten = ["tcp:99999999:interface=127.0.0.1"]', "http.listen[0]: 'tcp:99999999:interface=127.0.0.1'"),
        ('[http]\nlisten = ["tcp6:interface=\\\\:\\\\:1:port=-1"]', "ports go from 0 to 65535"),
        ('[http]\nlisten = ["ssl:443:interface=127.0.0.1"]', "the listeners with TLS are those of [tls]"),
        ("[csm]\nmax_lines = -1", "csm.max_lines: Expected `int` >= 1"),
        ('[csm]\nbase_path = ""', "csm.base_path: '' is no path"),
        ('[csm]\nbase_path = "//"', "csm.base_path: '//' is no path"),
        (f"{TCP}connect_timeout = 0", "console[0].connect_timeout: must be more than 0"),
        (f"{TCP}retry_initial = 0", "console[0].retry_initial: must be more than 0"),
        (f'{TCP}retry_max = "1ms"', "console[0].retry_max: must not be less than retry_initial, which is 1 s"),
        (f'[defaults]\nretry_max = "1ms"\n{TCP}', "console[0].retry_max: must not be less than retry_initial"),
        (
            '[[console]]\nname = "a"\nkind = "telnet"\naddress = "a:1"\nserial = { stop_bits = 3 }',
            "console[0].serial.stop_bits: 3 is none of",
        ),
        ('[[console]]\nname = "a"\nkind = "unix"\npath = ""', "console[0].path: '' is no socket's path"),
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


@pytest.mark.parametrize(
    ("text", "whence"),
    [
        ('[defaults]\nlinger = "soon"\n[[group]]\nname = "g"\n[[console]]\nname = "a"\ngroup = "g"', "[defaults]"),
        (
            '[defaults]\nlinger = 1\n[[group]]\nname = "g"\nlinger = "soon"\n[[console]]\nname = "a"\ngroup = "g"',
            "the group 'g'",
        ),
        ('[[group]]\nname = "g"\nlinger = 1\n[[console]]\nname = "a"\ngroup = "g"\nlinger = "soon"', ""),
    ],
)
def test_a_mistake_that_is_inherited_is_said_to_be(read, text, whence):
    said = complaint(read, f'{text}\nkind = "tcp"\naddress = "a:1"')
    assert said.startswith("console[0].linger: 'soon' is not a duration: ")
    assert said.partition("; it comes from ")[2] == whence


def test_the_transcript_directory_is_wanted(read):
    assert "Object missing required field `transcript`" in complaint(read, "", least="")


EVERY_KIND = """
[defaults]
quiet_timeout = "1h"
[[group]]
name = "g"
retry_max = "90s"
"""
OF_A_KIND = {
    "tcp": 'address = "h:1"\ngroup = "g"\ntls = { ca = "ca.pem" }',
    "unix": 'path = "/run/x"',
    "telnet": 'address = "h:23"',
    "serial": 'device = "/dev/ttyS0"',
    "process": 'command = ["cat"]',
    "ssh": 'address = "h"\nuser = "u"\npassword = "in the file"\ntrust_on_first_use = true',
    "ipmi": 'address = "h"\nuser = "u"\npassword = { file = "pw" }',
    "demo": 'role = "quiet"',
}


def test_what_is_read_twice_is_the_same(read, tmp_path):
    """Of every kind, its secrets too, or a reload would hang it up."""
    (tmp_path / "consoled.toml").touch(mode=0o600)  # it has a secret
    text = EVERY_KIND + "".join(
        f'[[console]]\nname = "{kind}"\nkind = "{kind}"\n{keys}\n' for kind, keys in OF_A_KIND.items()
    )
    once, again = read(text), read(text)
    assert {console.__struct_config__.tag for console in once.consoles} == {*OF_A_KIND} == {*KINDS}
    for one, other in zip(once.consoles, again.consoles, strict=True):
        assert one is not other
        assert one == other
        assert one.line == other.line
    assert tables(again, once) == ()


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


CERTIFICATES = 'certificates = [{ certificate = "a.pem", key = "a.key" }]'


def test_tls_is_listened_to_beside_the_rest(read, tmp_path):
    tls = read(f'[tls]\nlisten = ["tcp:8443:interface=127.0.0.1"]\n{CERTIFICATES}').tls
    assert tls.certificates[0].key == str(tmp_path / "a.key")
    only = read(f'[http]\nlisten = []\n[tls]\nlisten = ["tcp:8443:interface=localhost"]\n{CERTIFICATES}')
    assert only.http.listen == ()


@pytest.mark.parametrize(
    ("text", "complained"),
    [
        ("[tls]\n", "tls: Object missing required field `certificates`"),
        ("[tls]\ncertificates = []", "tls.certificates: Expected `array` of length >= 1"),
        (f"[tls]\n{CERTIFICATES}", "tls.listen: 'tcp6:8443' is not known to be loopback, and without [auth]"),
        (f"[tls]\nlisten = []\n{CERTIFICATES}", "tls.listen: Expected `array` of length >= 1"),
        (f'[tls]\ncrl = "x"\n{CERTIFICATES}', "tls: "),
        (f'[tls]\nlisten = ["tcp:8080:interface=127.0.0.1"]\n{CERTIFICATES}', "tls.listen[0]: "),
        ('[http]\nlisten = ["haproxy:tcp:8080"]', "http.listen[0]: 'haproxy:tcp:8080' is for proxies, and"),
        ('[http]\nlisten = ["haproxy:tcp:80800"]\ntrusted_proxies = ["10.0.0.1"]', "http.listen[0]: "),
        ("[limits]\nwaiting = 0", "limits.waiting: "),
        ("[limits]\nidle = 0", "limits.idle: must be more than zero"),
        ('[auth]\ntokens = "t"\n[[auth.certificate]]\ncn = "a"\nroles = ["viewer"]', "auth.certificate: without"),
    ],
)
def test_mistakes_about_the_door(read, text, complained):
    assert complained in complaint(read, text)


def test_what_is_allowed_and_unsafe_is_said(read):
    urls = 'mahi = "http://mahi.dc"\nvmapi = "http://127.0.0.1:80"\ncnapi = "https://cnapi.dc"'
    nobody, mahi = warnings(read(f"[cloudapi]\n{urls}"))
    assert mahi == "cloudapi.mahi: whoever sits between here and there may say whose key is whose"
    [nobody] = warnings(read("[http]"))
    assert nobody.startswith("no [auth] is configured")
    config = read(
        '[http]\nlisten = ["tcp:8080"]\n[auth]\ntokens = "tokens.toml"\n[[console]]\nname = "z[1-9]"\nkind = "tcp"\n'
        'address = "b:1"\ntls = { unsafe_any_certificate = true }'
    )
    clear, anybody = warnings(config)
    assert clear.startswith("http.listen: ") and "tcp:8080" in clear
    assert anybody.startswith("tls.unsafe_any_certificate: ") and "z1, z2, z3, z4, z5 and 4 more" in anybody


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


@pytest.mark.parametrize("file", ["nodes.csv", "nodes.toml"])
@pytest.mark.parametrize("mode", [0o640, 0o644])
def test_a_secret_in_a_table_is_one_that_others_cannot_read(read, tmp_path, file, mode):
    rows = {"nodes.csv": "name,bmc,pw\na,b1,c4n4ry{name}\n", "nodes.toml": '[a]\nbmc = "b1"\npw = "c4n4ry{name}"\n'}
    (tmp_path / file).write_text(rows[file])
    (tmp_path / file).chmod(mode)
    text = PASSWORD.replace('address = "a"', 'address = "{bmc}"') + f'"{{pw}}"\ntable = "{file}"'
    if mode == 0o644:
        said = complaint(read, text)
        assert said == (
            f"console[0].password: the secret stands in {tmp_path}/{file}, which others can read: chmod o-r"
        )
    else:
        [console] = read(text).consoles
        assert (console.address, console.password.literal) == ("b1", "c4n4ry{name}")
        assert "c4n4ry" not in repr(console)


def test_what_is_no_secret_may_stand_in_a_table_that_others_can_read(read, tmp_path):
    (tmp_path / "nodes.csv").write_text("name,bmc\na,b1\n")
    [console] = read(
        PASSWORD.replace('address = "a"', 'address = "{bmc}"') + '{ file = "{bmc}" }\ntable = "nodes.csv"'
    ).consoles
    assert str(console.password) == f"file {tmp_path}/b1"


@pytest.mark.parametrize(
    "password", ["c4n4ry{x}", "{c4n4ry}", "{name}", "{{name}}", "{c4n4ry+1}", "{name+c4n4ry}", "c{4"]
)
def test_braces_in_a_password_are_its_own(tmp_path, password):
    path = tmp_path / "consoled.toml"
    path.touch(0o640)
    path.write_text(LEAST + PASSWORD + f"'{password}'")
    [console] = load(path).consoles
    assert console.password.literal == password


def test_what_the_machine_has_not_is_named(read, tmp_path):
    (tmp_path / "id").touch()
    config = read(
        '[[console]]\nname = "a"\nkind = "tcp"\naddress = "a:1"\ntls = { ca = "ca.pem" }\n'
        '[[console]]\nname = "b"\nkind = "process"\ncommand = ["x"]\nuser = "no-such-user"\n'
        '[[console]]\nname = "c"\nkind = "ssh"\naddress = "c"\nuser = "u"\nkey_files = ["id", "id2"]\n'
        "trust_on_first_use = true\n"
        '[[console]]\nname = "d"\nkind = "process"\ncommand = ["x"]\nuser = "root"\n'
    )
    assert list(missing(config)) == [
        f"console a: tls.ca: there is no file {tmp_path}/ca.pem",
        "console b: user: there is no user 'no-such-user'",
        f"console c: key_files[1]: there is no file {tmp_path}/id2",
    ]


def test_groups_have_their_consoles(tmp_path):
    path = tmp_path / "consoled.toml"
    path.write_text(
        """
        [transcript]
        directory = "t"
        [[group]]
        name = "rack"
        kind = "demo"
        [[group]]
        name = "empty"
        [[console]]
        name = "x[1-3]"
        group = "rack"
        [[console]]
        name = "x4"
        group = "rack"
        enabled = false
        [[console]]
        name = "x5"
        kind = "demo"
        """
    )
    assert load(path).groups == {"rack": {"x1", "x2", "x3", "x4"}, "empty": frozenset()}


def test_roles_and_the_tenant_service(tmp_path):
    path = tmp_path / "consoled.toml"
    path.write_text(
        """
        [transcript]
        directory = "t"
        [tapms]
        url = "https://gateway/apis/tapms"
        token = { file = "tapms.token" }
        ca = "ca.pem"
        cache = "5s"
        [[role]]
        name = "watch"
        verbs = ["list", "tail"]
        idle_timeout = "15m"
        """
    )
    config = load(path)
    assert config.tapms.token.file == str(tmp_path / "tapms.token")
    assert (config.tapms.ca, config.tapms.cache, config.tapms.stale) == (str(tmp_path / "ca.pem"), 5, 60)
    assert [(role.name, role.verbs, role.idle_timeout) for role in config.role] == [("watch", ("list", "tail"), 900)]


def test_a_secret_may_come_by_way_of_let(read, tmp_path):
    text = 'let = { pw = "c4n4ry{index}" }\n'
    text = PASSWORD.replace("name =", f"{text}name =") + '"{pw}"'
    assert "a secret stands in a file that others can read" in complaint(read, text)
    path = tmp_path / "consoled.toml"
    path.chmod(0o640)
    [console] = load(path).consoles
    assert console.password.literal == "c4n4ry0"
    (tmp_path / "nodes.csv").write_text("name,col\na,c4n4ry\n")
    path.write_text(path.read_text().replace("{index}", "{col}") + '\ntable = "nodes.csv"')
    with pytest.raises(ConfigError, match=r"console\[0\].password: the secret stands in .*nodes.csv") as caught:
        load(path)
    assert "c4n4ry" not in str(caught.value)
    (tmp_path / "nodes.csv").chmod(0o600)
    [console] = load(path).consoles
    assert console.password.literal == "c4n4ryc4n4ry"
