"""Whoever comes to type at a console that records its input is told so; and what a session does is audited."""

import pytest

from consoled.core.faults import NotRecorded
from tests.api.cloud import Cloud
from tests.api.world import World


class Record:
    def __init__(self) -> None:
        self.full = False
        self.kept: list[tuple[str, str, bytes]] = []

    def admit(self, size: int) -> None:
        if self.full:
            raise NotRecorded("x1")

    def typed(self, user: str, host: str, data: bytes) -> None:
        self.kept.append((user, host, data))


def test_everyone_who_may_type_is_told(empty: World) -> None:
    record = Record()
    world = empty.begin(console={"input_record": record})
    client = world.interact()
    assert client.text().count("<ConMan> Input to console [x1] is recorded.\r\n") == 1
    client.send("root", "&W", b"x")
    assert record.kept == [("oscar", "192.0.2.7", b"root\n"), ("oscar", "192.0.2.7", b"x")]
    assert world.x1.heard == b"root\nx"


@pytest.mark.parametrize(
    ("path", "user"),
    [
        ("/console-operator/interact/x1", "oscar"),
        ("/console-operator/tail/x1", "vera"),
        ("/v1/consoles/x1/stream?mode=interact", "oscar"),
    ],
)
def test_every_handshake_tells(empty: World, path: str, user: str) -> None:
    for record, told in ((Record(), "recorded"), (None, None)):
        world = empty.begin(console={"input_record": record})
        answer = world.knock(path, user).response
        assert answer is not None
        assert answer.status_code == 101
        assert answer.headers.get("Consoled-Input") == told


def test_so_does_the_one_of_a_byte_pipe(cloud: Cloud) -> None:
    for record, told in ((Record(), "recorded"), (None, None)):
        cloud.x1.console.input_record = record
        assert cloud.piped().response.headers.get("Consoled-Input") == told


def test_elsewhere_nobody_is_told(world: World) -> None:
    assert "recorded" not in world.interact().text()


def test_who_cannot_be_recorded_is_told(empty: World) -> None:
    record = Record()
    world = empty.begin(console={"input_record": record})
    client = world.joined()
    record.full = True
    client.send("root", "again")
    told = "<ConMan> Input to console [x1] cannot be recorded at present; it was discarded.\r\n"
    assert client.news().count(told) == 1
    assert world.x1.heard == b""


def test_what_a_session_does_is_audited(world: World) -> None:
    oscar, olga = world.joined("x1", "oscar"), world.joined("x1", "olga")
    olga.send("&F", "&B", "&R")
    world.x1.resets[-1].callback("succeeded")
    oscar.send("&F")
    oscar.send("&M")
    acts = [
        (record["action"], record["account"], record["machine"])
        for record in world.records
        if record["action"] not in ("accepted", "attached")
    ]
    assert acts == [
        ("lost", "oscar", "x1"),
        ("took", "olga", "x1"),
        ("break", "olga", "x1"),
        ("reset", "olga", "x1"),
        ("reset-ended", "olga", "x1"),
        ("lost", "olga", "x1"),
        ("took", "oscar", "x1"),
        ("released", "oscar", "x1"),
    ]
    assert world.audited("lost")[0]["taker"] == "olga@192.0.2.7"
