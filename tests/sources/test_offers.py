"""What a source may say, and what is left out of what it says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consoled.consoles import ConfigError, Making
from consoled.sources.offers import Offer, offer
from consoled.sources.settings import CommandSource, HttpSource

GROUP = {
    "name": "river",
    "kind": "ipmi",
    "user": "root",
    "address": "bmc-{name}",
    "password": {"vault": "secret/{bmc}", "field": "Password"},
    "let": {"bmc": "{name}"},
    "reset_command": ["powerman", "--cycle", "{name}"],
}
MAKING = Making.of(
    [("group[0]", GROUP), ("group[1]", {"name": "any", "kind": "process", "command": ["cu", "{line}"]})], {}, "/"
)
FAR = HttpSource(name="far", url="https://x/")
TRUSTED = HttpSource(name="far", url="https://x/", trusted=True)
NEAR = CommandSource(name="near", command=("true",))
TCP = {"name": "n1", "kind": "tcp", "address": "n1:1"}


def offered(source: Any, *entries: dict[str, Any]) -> Offer:
    return offer(MAKING, source, entries)


@pytest.mark.parametrize("source", [FAR, TRUSTED, NEAR])
def test_a_group_of_the_file_has_what_a_source_may_not_say(source):
    found = offered(source, {"name": "n1", "group": "river", "let": {"bmc": "x3000c0s1b0"}})
    assert found.complaints == ()
    console, group = found.consoles["n1"]
    assert group == "river"
    assert console.password.vault == "secret/x3000c0s1b0"
    assert console.reset_command == ("powerman", "--cycle", "n1")


FORBIDDEN: list[dict[str, Any]] = [
    {"reset_command": ["reboot"]},
    {"tls": {"ca": "/etc/shadow"}},
    {"tls": {"certificate": "/x", "key": "/y"}},
    {"kind": "process", "command": ["sh"]},
    {"kind": "unix", "path": "/run/docker.sock"},
    {"kind": "serial", "device": "/dev/mem"},
    {"kind": "ssh", "user": "u", "password": {"file": "/etc/shadow"}, "trust_on_first_use": True},
    {"kind": "ssh", "user": "u", "password": "known to somebody between", "trust_on_first_use": True},
    {"kind": "ssh", "user": "u", "key_files": ["/root/.ssh/id_rsa"], "trust_on_first_use": True},
    {"kind": "ssh", "user": "u", "agent": True, "trust_on_first_use": True},
    {"kind": "ssh", "user": "u", "known_hosts": ["/etc/shadow"]},
    {"kind": "ipmi", "user": "u", "password": {"vault": "secret/other", "field": "x"}},
    {"table": "/etc/passwd"},
    {"pattern": "(n+)+$"},
    {"record_input": True},
    {"group": "any", "let": {"line": "x"}},
    {"group": "river", "let": {"bmc": "../other"}},
    {"group": "river", "let": {"bmc": "-x"}},
    {"group": "river", "name": "-n1"},
]


@pytest.mark.parametrize("said", FORBIDDEN)
def test_a_source_that_is_not_trusted_may_not(said):
    entry = TCP | said
    if "group" in said:
        del entry["kind"], entry["address"]
    if said.get("kind") in ("unix", "serial", "process"):
        del entry["address"]
    found = offered(FAR, entry, TCP | {"name": "other"})
    assert list(found.consoles) == ["other"]
    [complaint] = found.complaints
    assert "a source without `trusted`" in complaint
    assert "known to somebody" not in complaint
    trusted = offered(TRUSTED, entry)
    assert list(trusted.consoles) or "table" in said or "pattern" in said


@pytest.mark.parametrize("source", [TRUSTED, NEAR])
def test_secrets_of_a_source_that_may_say_them(source):
    console = {"name": "n1", "kind": "ipmi", "address": "a", "user": "u", "password": "s3cret"}
    found = offered(source, console, {"name": "n2", "kind": "ipmi", "address": "a", "user": "u", "password": 5})
    assert found.consoles["n1"][0].password.literal == "s3cret"
    assert "s3cret" not in repr(found.consoles["n1"][0])


def test_a_name_belongs_to_the_first_entry_that_has_it():
    found = offered(NEAR, TCP, TCP | {"name": "n[1-3]"}, TCP | {"name": "n2"})
    assert list(found.consoles) == ["n1", "n2"]
    assert found.complaints == ("entry 1 (n[1-3]).name: n1 is there already",)


@pytest.mark.parametrize("names", [["n[1-8]", "m[1-3]"], ["n[1-999999999]"], ["n1"] * 11, ["n[1-999999]"] * 11])
def test_a_source_without_end(names):
    source = CommandSource(name="near", command=("true",), max_consoles=10)
    with pytest.raises(ConfigError, match=r"^max_consoles: [0-9]+ consoles are more than 10$"):
        offered(source, *(TCP | {"name": name} for name in names))
    assert len(offered(source, TCP | {"name": "n[1-8]"}, TCP | {"name": "m[1-2]"}).consoles) == 10


# ---------------------------------------------------------------------------------------------- a source that lies

BMCS = "name,host,secret\nn1,bmc1,s3cret\n"
EVIL = {"name": "n1", "group": "rack"}


def rack(tmp_path, **more: Any) -> Making:
    """A group of ssh consoles whose passwords stand in a table of the file's."""
    (tmp_path / "bmcs.csv").write_text(BMCS)
    (tmp_path / "bmcs.csv").chmod(0o600)
    group = {"name": "rack", "kind": "ssh", "user": "root", "address": "{host}", "table": "bmcs.csv"}
    return Making.of([("group[0]", group | {"password": "{secret}"} | more)], {}, str(tmp_path))


KNOWN_BY = [
    {"known_hosts": ["known"]},
    {"known_hosts": ["known"], "keepalive": 7},
    {"trust_on_first_use": True},
    {"fingerprint": "SHA256:" + "a" * 43},
]
OTHERWISE = [
    {"trust_on_first_use": True},
    {"fingerprint": "SHA256:" + "b" * 43},
    {"known_hosts": []},
    {"tls": {"unsafe_any_certificate": True}},
]


@pytest.mark.parametrize("said", KNOWN_BY)
@pytest.mark.parametrize("lie", OTHERWISE)
def test_a_password_goes_to_no_server_but_the_one_that_the_file_means(tmp_path, said, lie):
    if lie == said:
        return
    entry = EVIL | {"address": "evil.example.com"}
    making = rack(tmp_path, **said)
    assert offer(making, FAR, [EVIL]).left_out == 0
    [complaint] = offer(making, FAR, [entry | lie]).complaints
    assert "without `trusted` may not" in complaint
    near = offer(making, NEAR, [entry | {"trust_on_first_use": True}])
    assert "without `trusted`" not in "".join(near.complaints)


def test_what_the_file_says_may_be_said_again(tmp_path):
    assert not offer(rack(tmp_path, trust_on_first_use=True), FAR, [EVIL | {"trust_on_first_use": True}]).left_out


def test_where_the_file_says_nothing_a_source_says_how_its_server_is_known(tmp_path):
    console, _ = offer(rack(tmp_path), FAR, [EVIL | {"fingerprint": "SHA256:" + "b" * 43}]).consoles["n1"]
    assert console.fingerprint


def test_ciphers_that_the_file_names_stay():
    group = {"name": "river", "kind": "ipmi", "user": "root", "password": {"env": "P"}, "cipher_suites": [17]}
    making = Making.of([("group[0]", group)], {}, "/")
    entry = {"name": "n1", "group": "river", "address": "bmc1"}
    assert offer(making, FAR, [entry]).left_out == offer(making, FAR, [entry | {"cipher_suites": [17]}]).left_out == 0
    [complaint] = offer(making, FAR, [entry | {"cipher_suites": [1]}]).complaints
    assert ".cipher_suites: " in complaint


@pytest.mark.parametrize(
    "lie",
    [
        {"address": "{secret}.evil.example.com"},
        {"address": "{ secret }.evil.example.com"},
        {"address": "x{secret+1}.evil.example.com"},
        {"user": "{secret}"},
        {"terminal": "{{secret}}"},
        {"environment": {"X": "{secret}"}},
        {"algorithms": {"kex": ["{secret}"]}},
    ],
)
def test_a_secret_of_the_file_is_not_filled_into_what_a_source_says(tmp_path, lie):
    """In an address it would be asked of a name server, and shown to whoever may list the console."""
    found = offer(rack(tmp_path, trust_on_first_use=True), FAR, [EVIL | lie])
    assert found.consoles == {}
    assert "s3cret" not in repr(found)


def test_a_source_may_fill_in_what_is_its_own(tmp_path):
    entry = EVIL | {"let": {"rack": "r7"}, "address": "{name}-{rack}:{2000+index}"}
    console, _ = offer(rack(tmp_path, trust_on_first_use=True), FAR, [entry]).consoles["n1"]
    assert console.address == "n1-r7:2000"


@pytest.mark.parametrize("group", [None, 3, [], {}, ["rack"]])
def test_a_group_that_is_none(group):
    assert offered(FAR, TCP | {"group": group}).left_out == 1


def test_names_that_a_terminal_would_obey():
    found = offered(NEAR, TCP | {"name": "\x1b[2J"}, {"\x1b[2J": 1, "name": "a"})
    assert len(found.complaints) == 2
    assert all(complaint.isprintable() for complaint in found.complaints)


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(["name", "kind", "address", "group", "let", "tls", "user", "linger", "password"]) | st.text()
values = json | st.sampled_from(["tcp", "ssh", "ipmi", "river", "a:1", "n[1-3]"])


@settings(deadline=None)
@given(st.lists(st.dictionaries(keys, values, max_size=6), max_size=6), st.sampled_from([FAR, TRUSTED, NEAR]))
def test_whatever_an_entry_says_it_is_a_console_or_a_complaint(entries, source):
    found = offered(source, *entries, TCP | {"name": "sound"})
    assert "sound" in found.consoles or any("sound" in repr(entry) for entry in entries)
    assert len(found.complaints) <= len(entries)
    assert all(complaint.isprintable() for complaint in found.complaints)
