"""What a source may say, and what is left out of what it says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoled import consoles
from consoled.consoles import Making, Offer
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


def offer(source: Any, *entries: dict[str, Any]) -> Offer:
    return MAKING.offer(source, entries)


@pytest.mark.parametrize("source", [FAR, TRUSTED, NEAR])
def test_a_group_of_the_file_has_what_a_source_may_not_say(source):
    found = offer(source, {"name": "n1", "group": "river", "let": {"bmc": "x3000c0s1b0"}})
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
    found = offer(FAR, entry, TCP | {"name": "other"})
    assert list(found.consoles) == ["other"]
    [complaint] = found.complaints
    assert "a source without `trusted`" in complaint
    assert "known to somebody" not in complaint
    trusted = offer(TRUSTED, entry)
    assert list(trusted.consoles) or "table" in said or "pattern" in said


@pytest.mark.parametrize("source", [TRUSTED, NEAR])
def test_secrets_of_a_source_that_may_say_them(source):
    console = {"name": "n1", "kind": "ipmi", "address": "a", "user": "u", "password": "s3cret"}
    found = offer(source, console, {"name": "n2", "kind": "ipmi", "address": "a", "user": "u", "password": 5})
    assert found.consoles["n1"][0].password.literal == "s3cret"
    assert "s3cret" not in repr(found.consoles["n1"][0])


def test_a_name_belongs_to_the_first_entry_that_has_it():
    found = offer(NEAR, TCP, TCP | {"name": "n[1-3]"}, TCP | {"name": "n2"})
    assert list(found.consoles) == ["n1", "n2"]
    assert found.complaints == ("entry 1 (n[1-3]).name: n1 is there already",)


def test_a_source_without_end(monkeypatch):
    monkeypatch.setattr(consoles, "MOST", 10)
    found = offer(NEAR, TCP | {"name": "n[1-8]"}, TCP | {"name": "m[1-3]"}, TCP | {"name": "o[1-2]"})
    assert len(found.consoles) == 10
    assert found.complaints == ("entry 1 (m[1-3]).name: these are more than 10 consoles",)


def test_names_that_a_terminal_would_obey():
    found = offer(NEAR, TCP | {"name": "\x1b[2J"}, {"\x1b[2J": 1, "name": "a"})
    assert len(found.complaints) == 2
    assert all(complaint.isprintable() for complaint in found.complaints)


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(["name", "kind", "address", "group", "let", "tls", "user", "linger", "password"]) | st.text()
values = json | st.sampled_from(["tcp", "ssh", "ipmi", "river", "a:1", "n[1-3]"])


@given(st.lists(st.dictionaries(keys, values, max_size=6), max_size=6), st.sampled_from([FAR, TRUSTED, NEAR]))
def test_whatever_an_entry_says_it_is_a_console_or_a_complaint(entries, source):
    found = offer(source, *entries, TCP | {"name": "sound"})
    assert "sound" in found.consoles or any("sound" in repr(entry) for entry in entries)
    assert len(found.complaints) <= len(entries)
    assert all(complaint.isprintable() for complaint in found.complaints)
