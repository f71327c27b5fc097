"""Addresses as people write them."""

import pytest

from consoled.backends.address import Address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("bmc1:2001", "bmc1", 2001),
        ("bmc1.example.net:65535", "bmc1.example.net", 65535),
        ("192.0.2.1:23", "192.0.2.1", 23),
        ("[::1]:2001", "::1", 2001),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
    ],
)
def test_good(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == Address(host, port)
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bmc1",
        "bmc1:",
        ":23",
        "bmc1:telnet",
        "bmc1:0",
        "bmc1:65536",
        "bmc1:-1",
        "bmc1:٢٣",
        "bmc 1:23",
        "::1:23",
        "[::1]",
        "[bmc1]:23",
        "tcp://bmc1:23",
        "user@bmc1:23",
        "bmc1:23\n",
    ],
)
def test_bad_ones_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="is no address") as caught:
        Address.parse(text)
    assert repr(text) in str(caught.value)
