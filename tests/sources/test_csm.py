"""CSM's inventory, in the shapes in which HSM and SLS give it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as lenient
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock

from consoled.consoles import Making
from consoled.inventory import Kept
from consoled.sources.csm import Component, Csm, Endpoint, as_hsm_would, first_aliases, listed
from consoled.sources.keeper import Keeper
from consoled.sources.listing import Around, Unusable
from consoled.sources.offers import offer
from consoled.sources.settings import CsmSource
from tests.fakes import result

HSM = "https://api/hsm/v2"
SLS = "https://api/sls/v1"
MAKING = Making.of([], {}, "/etc/consoled")
KNOWN = {"trust_on_first_use": True}


def component(xname: str, node_class: str | None) -> dict[str, Any]:
    return {"ID": xname, "Type": "Node", "State": "Ready", "Flag": "OK", "Enabled": True, "Role": "Compute",
            "NID": 1, "Arch": "X86", "Class": node_class, "Locked": False}  # fmt: skip


def endpoint(bmc: str, **more: Any) -> dict[str, Any]:
    return {"ID": bmc, "Type": "NodeBMC", "Hostname": bmc, "Domain": "hmn", "FQDN": f"{bmc}.hmn", "Enabled": True,
            "User": "root", "Password": "", "IPAddress": "10.254.1.3"} | more  # fmt: skip


def piece(xname: str, kind: str, node_class: str, *aliases: str) -> dict[str, Any]:
    extra = {"Aliases": list(aliases), "NID": 1, "Role": "Compute"} if aliases else None
    return {"Parent": xname[:-2], "Xname": xname, "Type": f"comptype_{kind.lower()}", "Class": node_class,
            "TypeString": kind, "ExtraProperties": extra}  # fmt: skip


class Api:
    """HSM and SLS."""

    def __init__(self) -> None:
        self.pages: dict[str, Any] = {
            f"{HSM}/State/Components?type=Node": {
                "Components": [
                    component("x3000c0s1b0n0", "River"),
                    component("x1000c0s0b1n1", "Mountain"),
                    component("x9000c1s0b0n0", "Hill"),
                    component("x3000c0s9b0n0", "River"),
                    component("x3000c0s2b0n0", "River"),
                ]
            },
            f"{HSM}/Inventory/RedfishEndpoints": {
                "RedfishEndpoints": [
                    endpoint("x3000c0s1b0", User="admin"),
                    endpoint("x1000c0s0b1"),
                    endpoint("x9000c1s0b0"),
                    endpoint("x3000c0s2b0", User=""),
                ]
            },
            f"{HSM}/Inventory/Hardware?Manufacturer=Foxconn&Type=Node": [
                {"ID": "x3000c0s2b0n0", "PopulatedFRU": {"NodeFRUInfo": {"Model": "1A62WCB00-600-G"}}},
                {"ID": "x3000c0s1b0n0", "PopulatedFRU": {"NodeFRUInfo": {"Model": "other"}}},
                {"ID": "x3000c0s7b0n0"},
            ],
            f"{SLS}/hardware": [
                piece("x3000c0s1b0n0", "Node", "River", "nid000001", "uan01"),
                piece("x3000c0s1b0", "NodeBMC", "River"),
                piece("x1000c0s0b1n1", "Node", "Mountain", "nid001001"),
            ],
        }
        self.asked: list[str] = []

    async def get(self, url: str) -> bytes:
        self.asked.append(url)
        page = self.pages[url]
        if isinstance(page, Exception):
            raise page
        return json.dumps(page).encode()


AROUND: Any = Around(Clock(), None, execute)


def settings(**more: Any) -> CsmSource:
    given: dict[str, Any] = {
        "name": "csm",
        "hsm": HSM,
        "mountain": {"key_files": ["m.key"], **KNOWN},
        "paradise": KNOWN,
    }
    return CsmSource(**given | more)


def consoles(api: Api, source: CsmSource) -> dict[str, Any]:
    entries = result(Deferred.fromCoroutine(Csm(source, api, AROUND).ask()))
    assert entries == json.loads(json.dumps(entries))
    found = offer(MAKING, source, entries)
    assert found.complaints == ()
    return {name: console for name, (console, _) in found.consoles.items()}


def test_each_class_is_reached_in_its_own_way():
    found = consoles(Api(), settings())
    assert list(found) == ["x1000c0s0b1n1", "x3000c0s1b0n0", "x3000c0s2b0n0", "x9000c1s0b0n0"]

    river = found["x3000c0s1b0n0"]
    assert (river.__struct_config__.tag, river.address, river.user) == ("ipmi", "x3000c0s1b0.hmn", "admin")
    assert (river.user_from.vault, river.user_from.field) == ("secret/hms-creds/x3000c0s1b0", "Username")
    assert (river.password.vault, river.password.field) == ("secret/hms-creds/x3000c0s1b0", "Password")

    mountain = found["x1000c0s0b1n1"]
    assert (mountain.__struct_config__.tag, mountain.address, mountain.user) == ("ssh", "x1000c0s0b1", "n1")
    assert mountain.key_files == ("/etc/consoled/m.key",)
    assert (mountain.password, mountain.key, mountain.user_from) == (None, None, None)
    assert (found["x9000c1s0b0n0"].address, found["x9000c1s0b0n0"].user) == ("x9000c1s0b0", "n0")

    paradise = found["x3000c0s2b0n0"]
    assert (paradise.__struct_config__.tag, paradise.address, paradise.user) == ("ssh", "x3000c0s2b0.hmn:2200", "root")
    assert paradise.password.vault == paradise.user_from.vault == "secret/hms-creds/x3000c0s2b0"


def test_a_node_whose_bmc_has_no_endpoint_is_left_out():
    assert "x3000c0s9b0n0" not in consoles(Api(), settings())


def test_what_the_file_says_of_a_class_wins():
    river = {"user": "{user}-2", "cipher_suites": [3], "password": Kept("s3cret"), "let": {"user": "ops"}}
    console = consoles(Api(), settings(river=river))["x3000c0s1b0n0"]
    assert (console.user, console.cipher_suites, console.password.literal) == ("ops-2", (3,), "s3cret")


def test_the_key_for_mountain_is_vaults():
    key = consoles(Api(), settings(mountain=KNOWN))["x1000c0s0b1n1"].key
    assert (key.vault, key.field) == ("transit/export/signing-key/mountain-bmc-console", "keys")


@pytest.mark.parametrize(
    ("river", "user", "user_from", "password"),
    [
        ({"user": "ops"}, "ops", None, "vault secret/hms-creds/x3000c0s1b0"),
        ({"password": {"env": "BMC"}}, "admin", None, "env BMC"),
        ({"user_from": {"env": "WHO"}}, "admin", "env WHO", "vault secret/hms-creds/x3000c0s1b0"),
    ],
)
def test_credentials_of_the_files(river, user, user_from, password):
    console = consoles(Api(), settings(river=river))["x3000c0s1b0n0"]
    assert (console.user, console.user_from and str(console.user_from), str(console.password)) == (
        *(user, user_from, password),
    )


def test_a_class_that_is_reached_in_another_way():
    found = consoles(Api(), settings(river={"kind": "telnet", "address": "{alias}:23"}, mountain={"kind": "tcp"} | AT))
    assert found["x3000c0s1b0n0"].__struct_config__.tag == "telnet"
    assert found["x1000c0s0b1n1"].address == "ts:2001"
    found = offer(MAKING, settings(river={"kind": "pigeon"}), [node("x3000c0s1b0n0")])
    assert "kind: must be one of" in found.complaints[0]


AT = {"address": "ts:2001"}


def node(xname: str) -> dict[str, Any]:
    let = {"xname": xname, "bmc": xname[:-2], "node": "n0", "fqdn": "b", "alias": xname, "user": "root"}
    return {"name": xname, "class": "river", "let": let}


def test_a_component_without_a_name_does_not_cost_the_others():
    api = Api()
    components = api.pages[f"{HSM}/State/Components?type=Node"]["Components"]
    del components[0]["ID"]
    components.append({"ID": "x3000c0s3b0n0", "Type": "Node"})
    api.pages[f"{HSM}/Inventory/RedfishEndpoints"]["RedfishEndpoints"] += [{"Hostname": "x"}, endpoint("x3000c0s3b0")]
    api.pages[f"{HSM}/Inventory/Hardware?Manufacturer=Foxconn&Type=Node"].append({"PopulatedFRU": None})
    found = offer(MAKING, settings(), result(Deferred.fromCoroutine(Csm(settings(), api, AROUND).ask())))
    assert len(found.consoles) == 3
    assert found.complaints == ("entry 0 ().ID: is missing", "entry 3 (x3000c0s3b0n0).Class: is missing")


def test_a_piece_of_hardware_without_a_name_does_not_cost_the_others():
    api = Api()
    del api.pages[f"{SLS}/hardware"][1]["Xname"]
    assert len(consoles(api, settings(hsm="", sls=SLS))) == 2


def test_by_their_aliases():
    api = Api()
    found = consoles(api, settings(sls=SLS, names="alias"))
    assert list(found) == ["nid000001", "nid001001", "x3000c0s2b0n0", "x9000c1s0b0n0"]
    assert found["nid000001"].address == "x3000c0s1b0.hmn"


def test_from_sls_alone():
    api = Api()
    found = consoles(api, settings(hsm="", sls=f"{SLS}/"))
    assert api.asked == [f"{SLS}/hardware"]
    assert {name: (one.address, one.user) for name, one in found.items()} == {
        "x1000c0s0b1n1": ("x1000c0s0b1", "n1"),
        "x3000c0s1b0n0": ("x3000c0s1b0", "root"),
    }


def test_the_order_of_the_answers_makes_no_difference():
    one, other = Api(), Api()
    for page in other.pages.values():
        for table in [page] if isinstance(page, list) else page.values():
            table.reverse()
    asked = [result(Deferred.fromCoroutine(Csm(settings(), api, AROUND).ask())) for api in (one, other)]
    assert asked[0] == asked[1]


@pytest.mark.parametrize("nothing", [None, []])
def test_a_system_without_paradise(nothing):
    api = Api()
    api.pages[f"{HSM}/Inventory/Hardware?Manufacturer=Foxconn&Type=Node"] = nothing
    assert consoles(api, settings())["x3000c0s2b0n0"].__struct_config__.tag == "ipmi"


@pytest.mark.parametrize(
    ("xname", "node_class", "bmc", "said"),
    [
        ("x3000c0s1b0", "River", {}, "ID: it is not the xname of a node"),
        ("../../etc", "River", {}, "ID: it is not the xname of a node"),
        ("x3000c0s1b0n0", "Other", {}, "Class: 'Other' is none of River, Mountain and Hill"),
        ("x3000c0s1b0n0", None, {}, "Class: is missing"),
        ("x3000c0s1b0n0", "", {}, "Class: is missing"),
        ("x3000c0s1b0n0", "River", {"FQDN": "-oProxyCommand=x"}, "fqdn: '-oProxyCommand=x' cannot be one"),
        ("x3000c0s1b0n0", "River", {"FQDN": "{name}"}, "fqdn: '{name}' cannot be one"),
        ("x3000c0s1b0n0", "River", {"User": "-U"}, "user: '-U' cannot be one"),
    ],
)
def test_what_makes_no_sense_is_left_out(xname, node_class, bmc, said):
    api = Api()
    api.pages[f"{HSM}/State/Components?type=Node"]["Components"].append(component(xname, node_class))
    api.pages[f"{HSM}/State/Components?type=Node"]["Components"].pop(0)
    api.pages[f"{HSM}/Inventory/RedfishEndpoints"]["RedfishEndpoints"][0] |= bmc
    entries = result(Deferred.fromCoroutine(Csm(settings(), api, AROUND).ask()))
    found = offer(MAKING, settings(), entries)
    assert len(found.consoles) == 3
    [complaint] = found.complaints
    assert complaint.endswith(f"({xname}).{said}")


def test_an_endpoint_without_a_name_in_dns():
    assert Endpoint("b", Hostname="h", Domain="d").host == "h.d"
    assert Endpoint("b", Hostname="h", Domain="").host == "b"
    assert Endpoint("b", FQDN="h.d.e", Hostname="h", Domain="d").host == "h.d.e"


PROBLEM = Unusable(f"{HSM}/State/Components?type=Node: status 500 (Internal Server Error: failed to query DB)")


@pytest.mark.parametrize(
    ("page", "answer", "why"),
    [
        ("State/Components?type=Node", PROBLEM, str(PROBLEM)),
        ("Inventory/RedfishEndpoints", Unusable("it is down"), "it is down"),
        ("Inventory/Hardware?Manufacturer=Foxconn&Type=Node", Unusable("it is down"), "it is down"),
        ("State/Components?type=Node", {"Components": []}, "the answer is empty"),
        ("State/Components?type=Node", {"type": "about:blank", "title": "x"}, "is not HSM's list of components"),
        ("State/Components?type=Node", {"Components": None}, "is not HSM's list of components"),
        ("Inventory/RedfishEndpoints", [], "is not HSM's list of endpoints"),
        ("Inventory/RedfishEndpoints", {"RedfishEndpoints": []}, "the answer is empty"),
    ],
)
def test_an_hsm_that_fails_keeps_the_list(tmp_path, page, answer, why):
    api = Api()
    keeper = Keeper(
        [settings()], MAKING, tmp_path, AROUND, lambda: 0.0, make=lambda source, around: Csm(source, api, around)
    )
    result(Deferred.fromCoroutine(keeper.ask()))
    before = keeper.offers["csm"]
    assert len(before.consoles) == 4
    assert keeper.trouble is None
    api.pages[f"{HSM}/{page}"] = answer
    result(Deferred.fromCoroutine(keeper.ask()))
    assert keeper.offers["csm"] is before
    assert why in str(keeper.trouble)
    assert "its last good answer stays in force, with 4 consoles" in str(keeper.trouble)


texts = st.one_of(
    st.none(), st.text(max_size=8), st.sampled_from(["River", "Mountain", "x1c0s0b0", "x1c0s0b0n0", "n0"])
)
xnames = st.one_of(st.from_regex(r"x\dc\ds\db\dn\d", fullmatch=True), st.text(max_size=8))


@lenient(deadline=None)
@given(
    st.lists(st.builds(Component, ID=xnames, Type=st.sampled_from(["Node", "NodeBMC"]), Class=texts)),
    st.lists(st.builds(Endpoint, ID=st.from_regex(r"x\dc\ds\db\d", fullmatch=True), FQDN=texts, User=texts)),
    st.sets(xnames),
    st.dictionaries(xnames, st.text(max_size=8)),
)
def test_whatever_they_say_it_is_a_list_or_a_complaint(components, endpoints, paradise, aliases):
    source = settings(names="alias")
    entries = listed(source, components, endpoints, paradise, aliases)
    found = offer(MAKING, source, json.loads(json.dumps(entries)))
    assert len(found.consoles) + len(found.complaints) == len(entries)
    for console, _ in found.consoles.values():
        assert not console.address.startswith("-")
        assert not console.user.startswith("-")


def test_no_pieces():
    assert as_hsm_would([]) == ([], [])
    assert first_aliases([]) == {}
