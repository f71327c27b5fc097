"""From which addresses a gateway's word counts."""

import pytest

from consoled.auth.gateway import Gateway


@pytest.mark.parametrize(
    ("networks", "peer", "answer"),
    [
        (["127.0.0.1"], "127.0.0.1", True),
        (["127.0.0.1"], "::ffff:127.0.0.1", True),
        (["127.0.0.1"], "127.0.0.2", False),
        (["10.32.0.0/12"], "10.47.255.255", True),
        (["10.32.0.0/12"], "10.48.0.0", False),
        (["fd00:1::/64", "::1"], "fd00:1::7", True),
        (["fd00:1::/64", "::1"], "fd00:1:0:1::7", False),
        (["::1"], "127.0.0.1", False),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["10.0.0.0/8"], "", False),
        (["10.0.0.0/8"], "local", False),
        (["10.0.0.0/8"], "10.0.0.1, 10.0.0.2", False),
        ([], "127.0.0.1", False),
        ([], "", False),
    ],
)
def test_whose_word_counts(networks: list[str], peer: str, answer: bool) -> None:
    assert Gateway(networks).vouches(peer) is answer


@pytest.mark.parametrize(
    "network",
    ["0.0.0.0/0", "::/0", "10.0.0.0/7", "8.8.8.8", "8.0.0.0/8", "172.0.0.0/8", "2001:4860::/32", "fc00::/6"],
)
def test_a_network_that_the_internet_may_be_in_is_refused(network: str) -> None:
    with pytest.raises(ValueError, match="is not a cluster's own network"):
        Gateway([network])


@pytest.mark.parametrize("network", ["10.0.0.1/8", "gateway", "", "10.0.0.0/33"])
def test_what_is_no_network_is_refused(network: str) -> None:
    with pytest.raises(ValueError, match=r"does not appear|has host bits|Only decimal|is not a valid|mask"):
        Gateway([network])
