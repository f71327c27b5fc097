"""How an address is spelled, and taken apart again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from consoled.api.doors import group
from consoled.api.origin import Origins
from consoled.api.proxies import Proxies, Visitor, host_of, place


@given(st.ip_addresses().map(str), st.none() | st.integers(0, 65535))
def test_an_origin_can_be_taken_apart(host: str, port: int | None) -> None:
    assert host_of(Visitor(host, port, host, is_direct=True).origin) == host


@pytest.mark.parametrize(
    ("where", "told"),
    [
        (IPv4Address("TCP", "192.0.2.7", 4), ("192.0.2.7", 4)),
        (IPv6Address("TCP", "::ffff:192.0.2.7", 4), ("192.0.2.7", 4)),
        (IPv6Address("TCP", "2001:DB8::7", 4), ("2001:db8::7", 4)),
        (IPv6Address("TCP", "fe80::1%eth0", 4), ("fe80::1%eth0", 4)),
        (UNIXAddress(""), ("local", None)),
        (None, ("local", None)),
    ],
)
def test_where_a_transport_comes_from(where: object, told: tuple[str, int | None]) -> None:
    assert place(where) == told


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("local", "local"),
        ("unknown", "unknown"),
    ],
)
def test_what_counts_as_one_address(host: str, counted: str) -> None:
    assert group(host) == counted


def test_who_is_trusted() -> None:
    proxies = Proxies(["10.0.0.0/8", "2001:db8::/32", "local"])
    assert all(map(proxies.trusts, ["10.1.2.3", "2001:db8::1", "::ffff:10.1.2.3", "local"]))
    assert not any(map(proxies.trusts, ["11.0.0.1", "2001:db9::1", "", "10.1.2", "evil"]))
    assert not Proxies().trusts("local")


@pytest.mark.parametrize("network", ["10.0.0.1/8", "proxy.example", "", "10.0.0.0/33"])
def test_what_is_no_network_is_an_error_that_names_it(network: str) -> None:
    with pytest.raises(ValueError, match=r"does not appear|has host bits|IPv4 or IPv6"):
        Proxies([network])


@given(
    origins=st.lists(st.binary(max_size=30), max_size=2),
    hosts=st.lists(st.binary(max_size=30), max_size=2),
    is_open=st.booleans(),
)
def test_a_strange_page_is_never_let_in(origins: list[bytes], hosts: list[bytes], is_open: bool) -> None:
    objection = Origins(is_open=is_open).objection([*origins, b"https://evil.example"], hosts)
    assert objection is not None
    assert objection[0] in (400, 403, 421)


@pytest.mark.parametrize("origin", ["noc.example", "https://noc.example/", "HTTPS://noc.example", "ws://x", "*", ""])
def test_what_is_no_origin_is_an_error_that_names_it(origin: str) -> None:
    with pytest.raises(ValueError, match="is no origin"):
        Origins([origin])
