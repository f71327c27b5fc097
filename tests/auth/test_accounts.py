"""The accounts file, its keys by every name, and the rules of Triton's policy language."""

import base64
import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from consoled.auth.accounts import CONNECT, actions, fingerprints, parse, read_key

UUID = "930896af-bf8c-48d4-885c-6573a94b1853"
OTHER = "b2c5c0cb-0a0b-4a0e-9a0e-1b2c3d4e5f60"
RSA = rsa.generate_private_key(65537, 2048).public_key()
EC = ec.generate_private_key(ec.SECP256R1()).public_key()
ED = ed25519.Ed25519PrivateKey.generate().public_key()


def ssh(key: Any) -> str:
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() + " someone@somewhere"


def pem(key: Any) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def text(more: str = "", keys: str = "") -> bytes:
    return f'[[account]]\nlogin = "acme"\nuuid = "{UUID}"\nkeys = [{keys}]\n{more}\n'.encode()


BOB = f"""
[[account.role]]
name = "console"
rules = ["CAN {CONNECT}"]
machines = ["{OTHER}"]
[[account.role]]
name = "all"
rules = ["CAN getmachine and rebootmachine", "CAN *"]
[[account.user]]
login = "bob"
keys = [{{ name = "laptop", key = "{ssh(ED)}" }}]
roles = ["console", "all"]
default_roles = ["console"]
"""


@pytest.mark.parametrize("key", [RSA, EC, ED], ids=["rsa", "ecdsa", "ed25519"])
def test_a_key_goes_by_its_fingerprints_and_its_name(key: Any) -> None:
    blob = base64.b64decode(ssh(key).split()[1])
    old = ":".join(f"{byte:02x}" for byte in hashlib.md5(blob).digest())
    new = "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().strip("=")
    assert fingerprints(key) == (old, new)
    acme = parse(text(keys=f'"{ssh(key)}"'))["acme", None]
    assert set(acme.keys) == {old, new}
    named = parse(text(keys=f'{{ name = "mine", key = """{pem(key)}""" }}'))["acme", None]
    assert set(named.keys) == {old, new, "mine"}
    assert read_key(pem(key)) == read_key(ssh(key)) == key


def test_an_account_and_its_user() -> None:
    table = parse(text(BOB, f'"{ssh(RSA)}"'))
    acme, bob = table["acme", None], table["acme", "bob"]
    assert (acme.account, acme.name, acme.enabled, acme.operator, acme.roles) == (UUID, "acme", True, False, ())
    assert (bob.account, bob.name) == (UUID, "acme/bob")
    assert "laptop" in bob.keys
    assert "laptop" not in acme.keys
    [active] = bob.active(None)
    assert active.name == "console"
    assert active.machines == {OTHER}
    assert active.allows(CONNECT)
    assert not active.allows("rebootmachine")
    assert [role.name for role in bob.active(["all", "nonsense"])] == ["all"]
    assert bob.active([]) == ()
    assert bob.active(["all"])[0].allows(CONNECT)


def test_a_principal_does_not_show_its_keys() -> None:
    assert "ssh-" not in repr(parse(text(BOB, f'"{ssh(RSA)}"')))


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ('keys = ["ssh-rsa AAAA"]', "Cannot overwrite"),
        ("[[account.role]]\nname = 'r'\nrules = ['MAY do']", "'MAY do' is no rule.*account.0..role.0..rules"),
        ("[[account.role]]\nname = 'r'\nrules = []\n[[account.role]]\nname = 'r'\nrules = []", "a second role 'r'"),
        ("[[account.user]]\nlogin = 'bob'\nroles = ['x']", "'x' is no role.*account.0..user.0."),
        ("[[account.user]]\nlogin = 'bob'\ndefault_roles = ['x']", "'x' is no role"),
        ("[[account.user]]\nlogin = 'b'\n[[account.user]]\nlogin = 'b'", "a second user 'b'"),
        ("[[account.user]]\nlogin = 'b/c'", "login"),
        (f"[[account]]\nlogin = 'acme'\nuuid = '{OTHER}'", "a second account 'acme'"),
        (f"[[account]]\nlogin = 'other'\nuuid = '{UUID}'", "a second account 'other'"),
        ("[[account]]\nlogin = 'other'\nuuid = 'x'", "uuid"),
        ("[[account]]\nlogin = 'other'", "uuid"),
        ("colour = 1", "colour"),
    ],
)
def test_what_is_wrong_is_named(more: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse(text(more))


def test_keys_that_cannot_be_used() -> None:
    weak = dsa.generate_private_key(2048).public_key()
    for entry in ("nonsense", "ssh-rsa AAAA", "-----BEGIN PUBLIC KEY-----", "ключ", pem(weak).strip()):
        with pytest.raises(ValueError, match=r"key.*account\[0\].keys\[0\]"):
            parse(text(keys=f'"""{entry}"""'))
    with pytest.raises(ValueError, match="a second key"):
        parse(text(keys=f'"{ssh(ED)}", "{ssh(ED)}"'))


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ("CAN connectmachineconsole", {CONNECT}),
        ("can ConnectMachineConsole", {CONNECT}),
        (" CAN getmachine, listmachines and connectmachineconsole ", {"getmachine", "listmachines", CONNECT}),
        ("CAN getmachine, listmachines, and connectmachineconsole", {"getmachine", "listmachines", CONNECT}),
        ("CAN *", {"*"}),
        ("CAN connectmachineconsole IF ip = 10.0.0.1", set()),
        ("CAN connectmachineconsole WHEN day = monday", set()),
        ("CANNOT connectmachineconsole", set()),
        ("bob CAN connectmachineconsole", set()),
        ("", set()),
    ],
)
def test_rules(rule: str, allowed: set[str]) -> None:
    assert actions(rule) == allowed


@given(st.text(max_size=60))
def test_a_rule_of_another_form_allows_nothing(rule: str) -> None:
    if not rule.strip().upper().startswith("CAN "):
        assert actions(rule) == frozenset()
