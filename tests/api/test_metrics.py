"""What Prometheus is shown: every series, its labels, and that a counter never goes back."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock

from consoled.api.census import STATES, Census
from consoled.api.meters import Departed
from consoled.api.pulse import BEAT, Pulse
from consoled.core.hub import Hub
from consoled.core.sources import SORTS, Asked, HeldBack, SourceState
from consoled.core.status import Waiting
from consoled.core.tally import Tally
from tests.api.world import BARE, World, bearer
from tests.fakes import EPOCH


def page(world: World, user: str = "vera") -> dict[tuple[str, ...], float]:
    """The samples: by their names, and the values of their labels in order."""
    answer = world.ask("/metrics", (), user)
    assert answer.status == 200
    return {
        (sample.name.removeprefix("consoled_"), *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def test_consoles_by_kind_and_state(world: World) -> None:
    world.x1.console.kind, world.x2.console.kind = "tcp", "ssh"
    world.x2.link.status = Waiting(EPOCH, "refused")
    found = page(world)
    assert found["consoles", "tcp", "up"] == found["consoles", "ssh", "waiting"] == 1
    assert {state for name, *labels in found if name == "consoles" for state in labels[1:]} == set(STATES)
    assert found["consoles", "tcp", "waiting"] == 0, "a state that nobody is in is there as well"


def test_links(world: World) -> None:
    world.tally.attempts["tcp"] += 5
    world.tally.failures["tcp", "timeout"] += 2
    world.tally.losses["tcp"] += 1
    found = page(world)
    assert found["link_attempts_total", "tcp"] == 5
    assert found["link_failures_total", "tcp", "timeout"] == 2
    assert found["link_losses_total", "tcp"] == 1
    assert found["link_failures_total", "tcp", "held"] == 0, "what has not happened yet is there as well"


def test_sources(world: World) -> None:
    assert not [name for name, *_ in page(world) if name.startswith("source_")]
    good = SourceState("cmdb", "command", 100, 2, (), "", 0, None, Asked(7, Counter(timeout=2), EPOCH))
    held = HeldBack(EPOCH, ("n1",), 9)
    world.sources = [good, SourceState("hsm", "csm", 8, 0, (), "down", 3, held, Asked(3, Counter(status=3)))]
    found = page(world)
    assert (found["source_asked_total", "cmdb"], found["source_asked_total", "hsm"]) == (7, 3)
    assert found["source_failures_total", "timeout", "cmdb"] == 2
    assert found["source_failures_total", "status", "hsm"] == 3
    reasons = {labels[0] for name, *labels in found if name == "source_failures_total" and labels[1] == "cmdb"}
    assert reasons == set(SORTS), "each is there before it has happened"
    assert found["source_last_answer_timestamp_seconds", "cmdb"] == EPOCH
    assert ("source_last_answer_timestamp_seconds", "hsm") not in found
    assert (found["source_consoles", "cmdb"], found["source_left_out", "cmdb"]) == (100, 2)
    assert (found["source_failing", "cmdb"], found["source_held_back", "cmdb"]) == (0, 0)
    assert (found["source_failing", "hsm"], found["source_held_back", "hsm"]) == (1, 1)


def test_bytes(world: World) -> None:
    client = world.joined()
    world.x1.says(b"x" * 1000)
    client.send(b"abc")
    found = page(world)
    assert found["node_received_bytes_total",] == 1000
    assert found["node_sent_bytes_total",] == 3
    everything = sum(len(node.transcript.everything) for node in (world.x1, world.x2))
    assert found["transcript_bytes_total",] == everything
    assert found["client_sent_bytes_total",] == 1000
    client.socket.hang_up()
    assert page(world)["client_sent_bytes_total",] == 1000, "who is gone counts on"


def test_a_counter_does_not_go_back_with_its_console(world: World) -> None:
    world.x1.says(b"x" * 1000)
    world.x2.says(b"x" * 10)
    before = page(world)
    world.x1.says(b"the last words, which nobody has counted yet")
    world.hub.remove("x1", "gone")
    world.x2.says(b"x")
    after = page(world)
    assert after["node_received_bytes_total",] == before["node_received_bytes_total",] + 44 + 1 == 1055
    assert after["transcript_bytes_total",] > before["transcript_bytes_total",]
    assert page(world)["node_received_bytes_total",] == 1055


def test_a_console_that_says_nothing_new_is_not_counted_twice(world: World) -> None:
    world.x1.says(b"x" * 10)
    assert page(world)["node_received_bytes_total",] == page(world)["node_received_bytes_total",] == 10


def test_clients(world: World) -> None:
    world.joined()
    world.tail(follow=True)
    world.tail("x2", follow=True)
    found = page(world)
    assert found["clients", "csm", "interact"] == 1
    assert found["clients", "csm", "tail"] == 2
    assert found["sessions", "csm"] == 3
    world.hub.remove("x2", "gone")
    assert page(world)["clients", "csm", "tail"] == 1


def test_what_has_not_happened_yet_is_there(empty: World) -> None:
    """A counter that begins at 1 has, for Prometheus, not increased."""
    found = page(empty.begin(patient=True))
    assert [found["logins_total", result] for result in ("refused", "unknown", "throttled")] == [0, 0, 0]
    assert found["upgrades_total", "101"] == found["upgrades_total", "503"] == 0


def test_clients_that_are_behind(empty: World) -> None:
    world = empty.begin(console={"ring": 4096})
    client = world.tail(follow=True)
    client.text()
    client.socket.stop_reading()
    for _ in range(8):
        world.x1.says(b"x" * 200_000)
    assert page(world)["client_lag_bytes",] > 0
    world.x1.transcript.start = world.x1.console.head - 1000
    client.socket.start_reading()
    found = page(world)
    assert found["client_lag_bytes",] == 0
    assert found["client_skips_total",] == 1
    missed = found["client_skipped_bytes_total",]
    assert missed > 100_000
    client.socket.hang_up()
    assert page(world)["client_skipped_bytes_total",] == missed


def test_the_disk() -> None:
    class Disk:
        lost, unwritten, troubled = 7, 8, 9

    collected = {
        family.name: family.samples[0].value
        for family in Census(Hub(), Departed(), Tally(), Disk).collect()
        if "transcript" in family.name and family.samples
    }
    assert collected["consoled_transcript_lost_bytes"] == 7
    assert collected["consoled_transcript_lag_bytes"] == 8
    assert collected["consoled_transcripts_troubled"] == 9


def test_upgrades_and_handshakes(world: World) -> None:
    world.joined()
    world.knock(f"{BARE}/interact/x2", "bob")
    world.knock(f"{BARE}/interact/x9")
    world.knock(f"{BARE}/interact/x1", None)
    found = page(world)
    assert {result: found["upgrades_total", result] for result in ("101", "403", "404", "401")} == {
        "101": 1, "403": 1, "404": 1, "401": 1
    }  # fmt: skip
    assert found["handshake_seconds_count",] == 4


def test_logins(empty: World) -> None:
    world = empty.begin(patient=True, limits={"failed_logins": 4})
    for _ in range(2):
        world.knock(f"{BARE}/tail/x1", "vera")
    world.knock(f"{BARE}/tail/x1", None)
    for guess in range(4):
        world.knock(f"{BARE}/tail/x1", None, [("Authorization", f"Bearer guess-{guess}")])
        world.clock.advance(2)
    world.knock(f"{BARE}/tail/x1", None, [("Authorization", "Bearer guess-5")])
    world.knock(f"{BARE}/tail/x1", None, [("Authorization", "Bearer guess-6")])
    found = page(world)
    assert found["logins_total", "accepted"] == 3  # the page's own is one
    assert found["logins_total", "refused"] >= 5
    assert found["logins_total", "refused"] + found.get(("logins_total", "throttled"), 0) == 7


def test_an_echo(empty: World) -> None:
    echoes: list[float] = []
    world = empty.begin(console={"echoed": echoes.append})
    client = world.joined()
    world.clock.advance(1)
    client.send(b"a")
    world.clock.advance(0.25)
    client.send(b"b")
    world.clock.advance(0.25)
    world.x1.says(b"ab")
    world.x1.says(b"more")
    assert echoes == [0.5], "from the first keystroke that was not answered, once"
    client.send(b"c")
    world.clock.advance(60)
    world.x1.says(b"a line that is no answer")
    assert echoes == [0.5]


@pytest.mark.parametrize("user", [None, "nobody"])
def test_who_may_not_see_it(world: World, user: str | None) -> None:
    assert world.ask("/metrics", (), user).status == 401


def test_single_consoles_are_those_within_reach(world: World) -> None:
    world.x1.says(b"x" * 5)
    found = page(world, "bob")
    assert found["console_up", "x1", ""] == 1
    assert found["console_received_bytes_total", "x1"] == 5
    assert ("console_up", "x2", "") not in found
    assert ("console_up", "x2", "") in page(world)


def test_no_label_is_a_clients_word(world: World) -> None:
    """Whatever clients send, the series are the same."""
    world.joined().socket.hang_up()
    before = set(page(world))
    for at in range(20):
        world.knock(f"{BARE}/interact/x{at}-{at}", None, [("Authorization", f"Bearer {at}"), ("Upgrade", "websocket")])
        world.ask(f"/v1/consoles/y{at}", bearer("vera"))
        world.ask(f"/nothing/{at}", bearer("vera"), method=f"METHOD{at}")
        world.knock(f"/v1/consoles/x1/stream?mode=tail&lines={at}", "vera").socket.hang_up()
    new = {name for name, *_ in set(page(world)) - before}
    assert new <= {"upgrades_total", "upgrades_created", "sessions", "session_seconds_bucket", "session_seconds_count",
                   "session_seconds_sum", "session_seconds_created", "clients"}  # fmt: skip
    assert len([one for one in page(world) if one[0] == "upgrades_total"]) < 12


def test_the_pulse() -> None:
    clock, late = Clock(), cast("list[Any]", [])
    pulse = Pulse(clock.seconds, late.append)
    for seconds in (0, BEAT, BEAT + 0.5, BEAT - 0.1):
        clock.advance(seconds)
        pulse.beat()
    assert [round(one, 6) for one in late] == [0, 0.5, 0]
