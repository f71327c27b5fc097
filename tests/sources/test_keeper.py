"""What is believed of a source, what is held back, and what is remembered."""

from __future__ import annotations

import json
import stat
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from consoled.consoles import Making
from consoled.core.sources import SORTS, HeldBack, SourceState
from consoled.sources.belief import SAID, SUDDEN
from consoled.sources.keeper import RETRY, RETRY_MOST, Keeper
from consoled.sources.listing import Around, Unusable
from consoled.sources.settings import CommandSource, HttpSource
from tests.fakes import EPOCH, result

MAKING = Making.of([("group[0]", {"name": "rack", "keepalive": 7})], {"kind": "tcp", "address": "{name}:23"}, "/")
SOURCE = CommandSource(name="cmdb", command=("true",))


class Source:
    """Answers what the test has put there, or when it wants to."""

    def __init__(self) -> None:
        self.answer: Any = Unusable("it is down")
        self.asked = 0
        self.waiting: Deferred[Any] | None = None
        self.cancelled = 0

    async def ask(self) -> Any:
        self.asked += 1
        answer = self.answer
        if answer is None:
            self.waiting = Deferred(self._cancelled)
            answer = await self.waiting
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _cancelled(self, _: object) -> None:
        self.cancelled += 1


class Room:
    """A keeper, its source, its time and its directory."""

    def __init__(self, directory: Any) -> None:
        self.clock = Clock()
        self.around: Any = Around(self.clock, None, execute)
        self.directory = directory / "sources"
        self.source = Source()
        self.changes = 0
        self.said: list[str] = []
        self.wall = 0.0
        self.keeper: Keeper

    def keep(self, settings: Any = SOURCE, before: Keeper | None = None, making: Making = MAKING) -> Keeper:
        def now() -> float:
            return EPOCH + self.wall

        def make(*_: object) -> Source:
            return self.source

        self.keeper = Keeper([settings], making, self.directory, self.around, now, before, make)
        return self.keeper

    def start(self, **more: Any) -> None:
        self.keep(**more).start(self.changed)

    def changed(self) -> None:
        self.changes += 1

    def restart(self, **more: Any) -> None:
        self.keeper.stop()
        self.start(**more)

    def answer(self, answer: Any) -> None:
        """The source answers so from now on; and is asked."""
        self.source.answer = answer
        result(Deferred.fromCoroutine(self.keeper.ask()))

    @property
    def names(self) -> set[str]:
        return set(self.keeper.offers["cmdb"].consoles)

    @property
    def state(self) -> SourceState:
        [state] = self.keeper.states
        return state

    @property
    def kept(self) -> Any:
        return json.loads((self.directory / "cmdb.json").read_bytes())


@pytest.fixture
def room(tmp_path):
    room = Room(tmp_path)

    def heard(event):
        if event.get("log_namespace", "").startswith("consoled.sources."):
            room.said.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(heard)
    yield room
    globalLogPublisher.removeObserver(heard)
    if hasattr(room, "keeper"):
        room.keeper.stop()
    assert not room.clock.getDelayedCalls()


def nodes(*numbers: int) -> list[dict[str, Any]]:
    return [{"name": f"n{number}"} for number in numbers]


def names(*numbers: int) -> set[str]:
    return {f"n{number}" for number in numbers}


ALL = range(100)


# ---------------------------------------------------------------------------------------------- what is believed


def test_an_answer_is_believed_and_kept(room):
    room.source.answer = nodes(1, 2)
    room.start()
    assert room.names == names(1, 2)
    assert room.changes == 1
    assert room.keeper.trouble is None
    assert room.kept == {"kind": "command", "at": EPOCH, "entries": nodes(1, 2)}
    assert stat.S_IMODE((room.directory / "cmdb.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(room.directory.stat().st_mode) == 0o700


def test_consoles_are_what_the_file_and_the_entry_say(room):
    room.source.answer = [{"name": "n[1-2]", "group": "rack"}]
    room.start()
    offer = room.keeper.offers["cmdb"]
    assert {(name, console.address, console.keepalive, group) for name, (console, group) in offer.consoles.items()} == {
        ("n1", "n1:23", 7.0, "rack"),
        ("n2", "n2:23", 7.0, "rack"),
    }


def test_nothing_is_told_when_nothing_is_different(room):
    room.source.answer = nodes(1, 2)
    room.start()
    room.answer(nodes(1, 2))
    room.answer(nodes(2, 1))
    room.answer([{"name": "n[1-2]"}])
    assert room.names == names(1, 2)
    assert room.changes == 1
    assert room.kept["entries"] == [{"name": "n[1-2]"}]  # other entries, and the same consoles


def test_nothing_is_written_when_nothing_is_different(room):
    room.source.answer = nodes(1, 2)
    room.start()
    (room.directory / "cmdb.json").unlink()
    room.answer(nodes(1, 2))
    assert not (room.directory / "cmdb.json").exists()


def test_a_bad_entry_does_not_cost_the_others(room):
    room.source.answer = [{"name": "n1"}, {"name": "n2", "adress": "x"}, {"nome": "n3"}, {"name": "n1"}]
    room.start()
    assert room.names == names(1)
    assert room.keeper.trouble == "source cmdb: 3 of its entries are left out"
    assert room.said == [
        "source cmdb: left out: entry 1 (n2): Object contains unknown field `adress`",
        "source cmdb: left out: entry 2.name: is missing",
        "source cmdb: left out: entry 3 (n1).name: n1 is there already",
    ]
    room.answer([{"name": "n1"}, {"name": "n2", "adress": "x"}])
    assert len(room.said) == 3  # it has been said


def test_of_a_thousand_bad_entries_some_are_named(room):
    room.source.answer = [*nodes(1), *[{"name": f"m{number}", "no": 1} for number in range(1000)]]
    room.start()
    assert len(room.said) == 21
    assert room.said[-1] == "source cmdb: left out: 980 more"


# ---------------------------------------------------------------------------------------------- what is not


BAD = [
    (Unusable("status 503"), "status 503"),
    ([], "the answer is empty"),
    ([{"name": "a", "x": 1}], "none of its 1 entries makes a console"),
]


@pytest.mark.parametrize(("answer", "why"), BAD)
def test_a_failure_keeps_the_last_good_answer(room, answer, why):
    room.source.answer = nodes(1, 2)
    room.start()
    room.answer(answer)
    assert room.names == names(1, 2)
    assert room.changes == 1
    assert room.keeper.trouble == f"source cmdb: {why}; its last good answer stays in force, with 2 consoles"
    [said] = room.said
    assert said.removesuffix(" (entry 0 (a): Object contains unknown field `x`)") == room.keeper.trouble
    room.answer(answer)
    assert len(room.said) == 1
    room.answer(nodes(1, 2))
    assert room.keeper.trouble is None
    assert room.said[1:] == ["source cmdb has a good answer again: 2 consoles"]


@pytest.mark.parametrize(("answer", "why"), BAD)
def test_a_first_answer_that_fails(room, answer, why):
    room.source.answer = answer
    room.start()
    assert room.names == set()
    assert room.keeper.trouble == f"source cmdb: {why}; there is no answer of before"
    assert not room.directory.exists()


def test_an_answer_that_does_not_come(room):
    room.source.answer = None
    room.start()
    room.clock.advance(29.9)
    assert not room.source.cancelled
    room.clock.advance(0.1)
    assert room.source.cancelled == 1
    assert room.keeper.trouble == "source cmdb: there was no answer within 30 s; there is no answer of before"


def test_a_source_with_a_defect_of_ours(room, flush):
    room.source.answer = nodes(1)
    room.start()
    room.answer(ZeroDivisionError())
    assert room.names == names(1)
    trouble = "source cmdb: it cannot be asked; see the log; its last good answer stays in force, with 1 consoles"
    assert room.keeper.trouble == trouble
    assert len(flush(ZeroDivisionError)) == 1


@pytest.fixture
def flush():
    """The failures of a kind that were logged, taken out of what would fail the test."""
    found = []

    def heard(event):
        if "log_failure" in event:
            found.append(event["log_failure"])

    globalLogPublisher.addObserver(heard)
    yield lambda kind: [one for one in found if one.check(kind)]
    globalLogPublisher.removeObserver(heard)


# ---------------------------------------------------------------------------------------------- when it is asked


def test_without_an_interval_it_is_asked_once(room):
    room.source.answer = nodes(1)
    room.start()
    room.clock.advance(1e6)
    assert room.source.asked == 1


def test_it_is_asked_at_its_interval(room):
    room.source.answer = nodes(1)
    room.start(settings=CommandSource(name="cmdb", command=("true",), interval=30.0))
    for asked in 1, 2, 3:
        assert room.source.asked == asked
        room.clock.advance(30)
    room.source.answer = nodes(1, 2)
    room.clock.advance(30)
    assert room.changes == 2
    assert room.names == names(1, 2)


def test_one_that_hangs_is_not_asked_twice(room):
    room.source.answer = None
    room.start(settings=CommandSource(name="cmdb", command=("true",), interval=5.0))
    room.clock.advance(29)
    assert room.source.asked == 1


def test_a_failure_is_tried_again_and_less_and_less_often(room):
    room.start()
    wait = RETRY
    for asked in range(1, 8):
        assert room.source.asked == asked
        room.clock.advance(wait - 0.1)
        assert room.source.asked == asked
        room.clock.advance(0.1)
        wait = min(2 * wait, RETRY_MOST)
    room.source.answer = nodes(1)
    room.clock.advance(wait)
    assert room.names == names(1)
    assert room.changes == 1
    assert not room.clock.getDelayedCalls()


def test_a_keeper_that_stops_asks_no_more(room):
    room.source.answer = None
    room.start()
    room.keeper.stop()
    assert room.source.cancelled == 1
    assert not room.clock.getDelayedCalls()
    assert room.said == []


def test_one_that_was_never_started_leaves_nothing_behind(room):
    room.keep()
    result(Deferred.fromCoroutine(room.keeper.ask()))
    assert room.source.asked == 1
    assert not room.clock.getDelayedCalls()


# ---------------------------------------------------------------------------------------------- what shrinks


def test_the_story_of_an_inventory_that_shrinks(room):
    room.source.answer = nodes(*ALL)
    room.start(settings=CommandSource(name="cmdb", command=("true",), interval=60.0))

    # The service has lost its database, and answers cheerfully with what it has.
    room.source.answer = nodes(*ALL[:30])
    room.clock.advance(60)
    assert room.names == names(*ALL)
    assert room.changes == 1
    flag = room.directory / "cmdb.confirm"
    trouble = "source cmdb: 70 of 100 consoles are missing from its answer: it is held back"
    assert room.keeper.trouble == trouble
    assert room.said == [
        f"{trouble} (n30, n31, n32, ...).  If they are really gone, `touch {flag}` and reload, or "
        "POST /v1/reload?confirm=cmdb"
    ]

    # It goes on so for a night, with a failure between.
    room.clock.pump([60] * 100)
    room.source.answer = Unusable("status 500")
    room.clock.advance(60)
    assert "status 500" in str(room.keeper.trouble)
    room.source.answer = nodes(*ALL[:30])
    room.clock.pump([60] * 100)
    assert room.keeper.trouble == trouble
    assert room.names == names(*ALL)
    assert len(room.kept["entries"]) == 100

    # Even a restart of the daemon does not take it for the truth.
    room.restart()
    assert room.names == names(*ALL)
    assert room.keeper.trouble == trouble

    # The database is back.
    room.answer(nodes(*ALL, 100))
    assert room.names == names(*ALL, 100)
    assert room.keeper.trouble is None


def test_what_may_go_goes(room):
    room.source.answer = nodes(*ALL)
    room.start()
    room.answer(nodes(*ALL[20:]))
    assert room.names == names(*ALL[20:])
    assert room.keeper.trouble is None


def test_an_outage_in_small_steps_is_one_too(room):
    room.source.answer = nodes(*ALL)
    room.start()
    for gone in range(0, 100, 5):
        room.answer(nodes(*ALL[gone:]))
        room.clock.advance(60)
    assert room.names == names(*ALL[20:])
    assert "95 of 100 consoles are missing" in str(room.keeper.trouble)
    assert room.state.held.lost[:3] == ("n0", "n1", "n10")


def test_what_went_long_ago_does_not_count(room):
    room.source.answer = nodes(*ALL)
    room.start()
    for gone in range(0, 100, 10):
        room.answer(nodes(*ALL[gone:]))
        room.clock.advance(SUDDEN if gone < 50 else 0)
    assert room.names == names(*ALL[50:])


def test_other_names_for_all_are_held_back_as_well(room):
    room.source.answer = nodes(*ALL)
    room.start()
    room.answer([{"name": f"node-{number}"} for number in ALL])
    assert room.names == names(*ALL)


def test_entries_that_turn_bad_count_as_missing(room):
    room.source.answer = nodes(*ALL)
    room.start()
    room.answer([*nodes(*ALL[:50]), *[{"name": f"n{number}", "no": 1} for number in ALL[50:]]])
    assert room.names == names(*ALL)
    assert "50 of 100 consoles" in str(room.keeper.trouble)


def test_the_share_is_the_sites_to_choose(room):
    room.source.answer = nodes(*ALL)
    room.start(settings=CommandSource(name="cmdb", command=("true",), max_shrink=1.0))
    room.answer(nodes(1))
    assert room.names == names(1)


@settings(deadline=None)
@given(
    st.sets(st.integers(0, 30), min_size=1),
    st.lists(st.one_of(st.none(), st.sets(st.integers(0, 30))), max_size=12),
    st.sampled_from([0.0, 0.2, 0.5, 1.0]),
)
def test_whatever_a_source_answers(tmp_path_factory, first, answers, share):
    """Within the hour no more than its share is taken away, and what is in force is one of its good answers."""
    room = Room(tmp_path_factory.mktemp("room"))
    room.source.answer = nodes(*first)
    room.start(settings=CommandSource(name="cmdb", command=("true",), max_shrink=share))
    given, ever = [names(*first)], names(*first)
    for answer in answers:
        room.answer(Unusable("no") if answer is None else nodes(*answer))
        given += [names(*answer)] if answer else []
        ever |= room.names
        assert room.names in given
        assert len(ever - room.names) <= share * len(ever)
    room.keeper.stop()


# ---------------------------------------------------------------------------------------------- confirming


def held(room: Room) -> None:
    room.source.answer = nodes(*ALL)
    room.start()
    room.answer(nodes(*ALL[:30]))
    assert room.names == names(*ALL)


def test_confirmed_by_a_call(room):
    held(room)
    room.keeper.confirm("cmdb")
    assert room.names == names(*ALL[:30])
    assert room.keeper.trouble is None
    room.answer(room.source.answer)
    assert len(room.kept["entries"]) == 30


def test_confirmed_from_the_shell(room):
    held(room)
    (room.directory / "cmdb.confirm").touch()
    room.restart(before=room.keeper)
    assert room.names == names(*ALL[:30])
    assert not (room.directory / "cmdb.confirm").exists()
    assert len(room.kept["entries"]) == 30
    assert room.changes == 2


def test_only_what_was_held_back_is_confirmed(room):
    """By the time that the operator says yes, there is still less of it."""
    held(room)
    (room.directory / "cmdb.confirm").touch()
    room.answer(nodes(1))
    assert room.names == names(*ALL[:30])
    assert "29 of 30 consoles" in str(room.keeper.trouble)


def test_after_that_the_rest_is_guarded_as_before(room):
    held(room)
    room.keeper.confirm("cmdb")
    room.answer(nodes(*ALL[:25]))
    assert room.names == names(*ALL[:25])
    room.answer(nodes(*ALL[:20]))
    assert room.names == names(*ALL[:25])


def test_what_is_confirmed_counts_no_more(room):
    room.source.answer = nodes(*ALL)
    room.start()
    room.answer(nodes(*ALL[10:]))
    room.answer(nodes(*ALL[30:]))
    room.keeper.confirm("cmdb")
    room.answer(nodes(*ALL[44:]))
    assert room.names == names(*ALL[44:])


def test_a_confirmation_in_advance_counts_for_nothing(room):
    room.source.answer = nodes(*ALL)
    room.start()
    (room.directory / "cmdb.confirm").touch()
    room.answer(nodes(1))
    assert room.names == names(*ALL)
    assert not (room.directory / "cmdb.confirm").exists()
    assert any("nothing is held back" in said for said in room.said)


def test_one_that_comes_when_the_source_has_recovered(room):
    held(room)
    room.answer(nodes(*ALL))
    (room.directory / "cmdb.confirm").touch()
    room.answer(nodes(1))
    assert room.names == names(*ALL)


def test_one_from_before_the_hold_is_taken_away(room):
    room.source.answer = nodes(*ALL)
    room.start()
    room.source.answer = None
    asking = Deferred.fromCoroutine(room.keeper.ask())
    (room.directory / "cmdb.confirm").touch()
    room.source.waiting.callback(nodes(1))
    result(asking)
    assert not (room.directory / "cmdb.confirm").exists()
    assert room.names == names(*ALL)


def test_a_keeper_that_never_starts_changes_nothing(room):
    """The reload that it is for may still be refused."""
    held(room)
    flag = room.directory / "cmdb.confirm"
    flag.touch()
    inherited, before = room.keeper, room.kept
    room.keep(before=inherited)
    room.answer(room.source.answer)
    assert room.names == names(*ALL[:30])
    assert (flag.exists(), room.kept) == (True, before)
    refused, room.keeper = room.keeper, inherited
    assert room.names == names(*ALL)
    assert room.state.held is not None
    refused.start(room.changed)
    inherited.stop()
    room.keeper = refused
    assert not flag.exists()
    assert len(room.kept["entries"]) == 30


def test_a_flag_counts_once(room):
    held(room)
    (room.directory / "cmdb.confirm").touch()
    room.keep(before=room.keeper)
    room.answer(nodes(*ALL[:10]))
    room.answer(nodes(*ALL[:10]))
    assert room.names == names(*ALL[:30])


# ---------------------------------------------------------------------------------------------- what is shown


def test_what_is_held_back_is_shown(room):
    held(room)
    state = room.state
    assert state.held == HeldBack(EPOCH, tuple(sorted(names(*ALL[30:]))), 100)
    assert (state.name, state.kind, state.consoles, state.failures) == ("cmdb", "command", 100, 0)
    room.wall = 600
    room.answer(nodes(*ALL[:20]))
    held_back = room.state.held
    assert held_back is not None
    assert (held_back.since, len(held_back.lost)) == (EPOCH, 80), "it goes on being held back"
    assert room.state.asked.good_at == EPOCH
    room.answer(nodes(*ALL))
    assert room.state.held is None
    assert room.state.asked.good_at == EPOCH + 600


@pytest.mark.parametrize(
    ("answer", "sort"),
    [
        (Unusable("no route", "unreachable"), "unreachable"),
        ([], "answer"),
        ([{"nome": "n1"}], "answer"),
        (ZeroDivisionError(), "defect"),
    ],
)
def test_failures_are_counted_by_their_sort(room, flush, answer, sort):
    room.source.answer = nodes(1)
    room.start()
    room.answer(answer)
    room.answer(answer)
    assert (room.state.asked.times, room.state.asked.failures, room.state.failures) == (3, {sort: 2}, 2)
    assert sort in SORTS
    room.restart(before=room.keeper)
    assert room.state.asked.failures == {sort: 3}, "a reload does not set them back"
    room.answer(nodes(1))
    assert (room.state.asked.times, room.state.failures) == (5, 0)


def test_what_is_left_out_is_shown(room):
    room.source.answer = [*nodes(1), *[{"name": f"m{number}", "no": 1} for number in range(150)]]
    room.start()
    assert room.state.left_out == 150
    assert len(room.state.complaints) == SAID
    assert "m0" in room.state.complaints[0]


def test_names_are_for_the_log_and_not_for_everybody(room):
    """Whoever may list one console reads what is wrong; names may be of other tenants."""
    held(room)
    assert "n30" in room.said[-1]
    assert "n30" not in str(room.keeper.trouble)
    room.answer([{"name": "n31", "no": 1}])
    assert "n31" in room.said[-1]
    assert "n31" not in str(room.keeper.trouble)


# ---------------------------------------------------------------------------------------------- what is too much


def test_a_source_without_end(room):
    room.source.answer = nodes(1, 2)
    room.start(settings=CommandSource(name="cmdb", command=("true",), max_consoles=10))
    for answer in nodes(*range(11)), [{"name": "n[1-8]"}, {"name": "m[1-3]"}], [{"name": "n[1-999999]"}] * 11:
        room.answer(answer)
        assert room.names == names(1, 2)
        assert "max_consoles" in str(room.keeper.trouble)
    room.answer([{"name": "n[1-8]"}, {"name": "m[1-2]"}])
    assert len(room.names) == 10


def test_what_went_long_ago_keeps_no_reload_back(room):
    room.source.answer = nodes(*ALL)
    room.start()
    room.answer(nodes(*ALL[20:]))
    other = Making.of([], {"kind": "tcp", "address": "{name}:24"}, "/")
    assert room.names == names(*ALL[20:])
    room.clock.advance(SUDDEN - 1)
    room.restart(before=room.keeper, making=other)
    assert room.names == names(*ALL[20:])
    strict = CommandSource(name="cmdb", command=("true",), max_shrink=0.1)
    with pytest.raises(ValueError, match="20 consoles"):
        room.keep(settings=strict, before=room.keeper)
    room.clock.advance(1)
    before = room.keeper
    room.keep(settings=strict, before=before)
    assert room.names == names(*ALL[20:])
    before.stop()


def test_a_reload_with_a_smaller_bound_is_refused(room):
    room.source.answer = nodes(*ALL)
    room.start()
    with pytest.raises(ValueError, match=r"source\[0\].max_consoles: 100 consoles are more than 99"):
        room.keep(settings=CommandSource(name="cmdb", command=("true",), max_consoles=99), before=room.keeper)


def test_many_bad_entries_cost_no_more_than_others(room):
    """Comparing each complaint with all of those before held up the reactor for hours."""
    room.source.answer = [*nodes(1), *[{"name": f"m{number}", "no": 1} for number in range(2000)]]
    room.start()
    room.answer([*nodes(1), *[{"name": f"o{number}", "no": 1} for number in range(2000)]])
    assert len(room.keeper.offers["cmdb"].complaints) == 100
    assert room.keeper.offers["cmdb"].left_out == 2000


def test_nothing_to_confirm(room):
    room.source.answer = nodes(1)
    room.start()
    with pytest.raises(ValueError, match="nothing is held back of source cmdb"):
        room.keeper.confirm("cmdb")
    with pytest.raises(ValueError, match="there is no source 'cmbd'"):
        room.keeper.confirm("cmbd")


# ---------------------------------------------------------------------------------------------- what is remembered


def test_a_restart_during_an_outage(room):
    room.source.answer = nodes(1, 2)
    room.start()
    room.source.answer = Unusable("no route to host")
    room.restart()
    assert room.names == names(1, 2)
    assert "its last good answer stays in force, with 2 consoles" in str(room.keeper.trouble)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[]", b'{"kind":"command","at":1,"entries":[3]}', b"[" * 10000])
def test_a_memory_that_is_damaged(room, text):
    room.source.answer = nodes(1)
    room.start()
    (room.directory / "cmdb.json").write_bytes(text)
    room.restart()
    assert any("cannot be read" in said for said in room.said)
    assert room.names == names(1)


def test_a_memory_of_another_kind_of_source(room):
    room.source.answer = nodes(*ALL)
    room.start()
    room.source.answer = nodes(1)
    room.restart(settings=HttpSource(name="cmdb", url="https://x/"))
    assert room.names == names(1)


def test_a_disk_that_is_full(room):
    room.directory.parent.chmod(0o700)
    room.directory.write_text("a file where the directory should be")
    room.source.answer = nodes(1)
    room.start()
    assert room.names == names(1)
    assert room.changes == 1
    assert "its answer cannot be kept for a restart" in str(room.keeper.trouble)
    room.directory.unlink()
    room.answer(nodes(1))
    assert room.keeper.trouble is None
    assert room.kept["entries"] == nodes(1)


def test_nothing_half_written_is_left(room, monkeypatch):
    room.source.answer = nodes(1)
    room.start()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    room.answer(nodes(1, 2))
    assert [path.name for path in room.directory.iterdir()] == ["cmdb.json"]
    assert room.kept["entries"] == nodes(1)
    assert "No space left" in str(room.keeper.trouble)


# ---------------------------------------------------------------------------------------------- another configuration


def test_a_reload_asks_and_keeps_the_timer_to_one(room):
    settings = CommandSource(name="cmdb", command=("true",), interval=30.0)
    room.source.answer = nodes(1)
    room.start(settings=settings)
    old = room.keeper
    new = room.keep(settings, before=old)
    room.answer(nodes(1, 2))
    old.stop()
    new.start(room.changed)
    assert room.source.asked == 2
    room.clock.advance(30)
    assert room.source.asked == 3
    assert room.names == names(1, 2)


def test_a_reload_during_an_outage(room):
    room.source.answer = nodes(1, 2)
    room.start()
    room.source.answer = Unusable("it is down")
    room.restart(before=room.keeper)
    assert room.names == names(1, 2)


def test_other_defaults_count_for_what_is_known(room):
    room.source.answer = nodes(1)
    room.start()
    other = Making.of([], {"kind": "tcp", "address": "{name}:99"}, "/")
    room.restart(before=room.keeper, making=other)
    assert room.keeper.offers["cmdb"].consoles["n1"][0].address == "n1:99"


def test_a_file_by_which_the_consoles_would_be_gone(room):
    room.source.answer = [{"name": f"n{number}", "group": "rack"} for number in ALL]
    room.start()
    bare = Making.of([], MAKING.inherited[""], "/")
    with pytest.raises(ValueError, match=r"source cmdb: 100 consoles \(n0, n1, n10, ...\) would be gone"):
        room.keep(before=room.keeper, making=bare)
    room.keep(CommandSource(name="cmdb", command=("true",), max_shrink=1.0), before=room.keeper, making=bare)


def test_what_is_held_back_is_so_after_a_reload(room):
    held(room)
    room.restart(before=room.keeper)
    assert room.names == names(*ALL)
    assert "70 of 100 consoles" in str(room.keeper.trouble)
    room.keeper.confirm("cmdb")
    assert room.names == names(*ALL[:30])


def test_a_source_that_cannot_be_asked_as_it_says(tmp_path):
    around: Any = Around(Clock(), None, execute)
    settings = HttpSource(name="cmdb", url="https://x/", ca=str(tmp_path / "missing.pem"))
    with pytest.raises(ValueError, match=r"source\[0\]: .*missing.pem"):
        Keeper([settings], MAKING, tmp_path, around, lambda: 0.0)
