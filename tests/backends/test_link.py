"""The link's life, transition by transition (`docs/life.md`), with a backend that does as the test says."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectingCancelledError, ConnectionRefusedError, DNSLookupError
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, eventAsText
from twisted.python.failure import Failure

from consoled.backends.chronicle import Chronicle
from consoled.backends.link import _SORTS, FORGIVEN_AFTER, HANG_UP, JITTER, Link
from consoled.backends.settings import ConsoleSettings
from consoled.backends.turns import Turns
from consoled.core.faults import LinkDown, NoBreak, NodeNotReading
from consoled.core.seams import HeldElsewhere, Line, Refused
from consoled.core.status import Closing, Dialing, Held, Off, Parked, Status, Up, Waiting
from consoled.core.tally import REASONS, Tally
from tests.fakes import EPOCH, FakeBackend, FakeDial, FakeLine, result


class World:
    """A link, and everything around it.  It is its own `LinkOwner`."""

    def __init__(
        self,
        *,
        chance: float = 0.0,
        turns: Turns | None = None,
        clock: Clock | None = None,
        parked: Parked | None = None,
        remember: Callable[[str, Parked | None], None] = lambda name, parked: None,
        **settings: Any,
    ) -> None:
        self.clock = Clock() if clock is None else clock
        self.backend = FakeBackend()
        self.told: list[Any] = []
        """What the console hears: states and bytes."""
        self.chance = chance
        self.tally = Tally()
        self.link = Link(
            ConsoleSettings(name="x1", **settings),
            self.backend,
            self,
            self.clock,
            lambda: EPOCH + self.clock.seconds(),
            lambda: self.chance,
            Turns(self.clock, 10, 10) if turns is None else turns,
            Chronicle(Clock()),
            self.tally,
            parked,
            remember,
        )

    def received(self, data: bytes) -> None:
        self.told.append(data)

    def changed(self, status: Status) -> None:
        assert status is self.link.status
        self.told.append(status)

    @property
    def words(self) -> list[Any]:
        return [type(one).__name__ if not isinstance(one, bytes) else one for one in self.told]

    @property
    def waiting(self) -> Waiting:
        assert isinstance(self.link.status, Waiting)
        return self.link.status

    @property
    def delay(self) -> float:
        return round(self.waiting.until - EPOCH - self.clock.seconds(), 3)

    def open(self) -> FakeDial:
        self.link.open()
        return self.dials()

    def dials(self) -> FakeDial:
        """The attempt that is made now."""
        count = len(self.backend.dials)
        self.clock.advance(0)
        assert len(self.backend.dials) == count + 1
        return self.backend.dials[-1]

    def up(self) -> FakeLine:
        line = self.open().connects()
        assert isinstance(self.link.status, Up)
        return line

    def wait(self) -> FakeDial:
        """Let the wait pass."""
        count = len(self.backend.dials)
        self.clock.advance(self.delay - 0.01)
        assert len(self.backend.dials) == count
        self.clock.advance(0.02)
        assert len(self.backend.dials) == count + 1
        return self.backend.dials[-1]

    def fails(self, times: int) -> None:
        """Fail, and again, and again: waiting at the end."""
        dial = self.open()
        for left in reversed(range(times)):
            dial.fails(OSError(111, "Connection refused"))
            if left:
                dial = self.wait()


REFUSED = OSError(111, "Connection refused")


# ---------------------------------------------------------------------------------------------- dialing


def test_off_until_somebody_opens_it() -> None:
    world = World()
    world.clock.advance(1000)
    assert world.link.status == Off()
    assert not world.backend.dials
    assert world.link.address == "<bmc1:2001>"


def test_connected() -> None:
    world = World()
    dial = world.open()
    assert world.link.status == Dialing(EPOCH)
    world.clock.advance(2)
    line = dial.connects()
    assert world.link.status == Up(EPOCH + 2)
    line.owner.received(b"login: ")
    assert world.words == ["Dialing", "Up", b"login: "]
    world.link.open()
    world.link.dial_now()
    world.clock.advance(1000)
    assert len(world.backend.dials) == 1
    assert not world.clock.getDelayedCalls()


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (REFUSED, "Connection refused"),
        (OSError("it is\r\n  not there.\n"), "it is not there"),
        (ConnectionRefusedError(), "Connection was refused by other side"),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (ValueError("\x1b[2Jboo\x07"), "[2Jboo"),
        (ValueError(), "ValueError"),
    ],
)
def test_a_failure_is_told_in_one_clean_line(error: Exception, why: str) -> None:
    world = World()
    world.open().fails(error)
    assert world.link.status == Waiting(EPOCH + 1, why, EPOCH)


def test_too_slow() -> None:
    world = World(connect_timeout=15)
    dial = world.open()
    world.clock.advance(14.9)
    assert not dial.was_cancelled
    world.clock.advance(0.1)
    assert dial.was_cancelled
    assert world.waiting.why == "no usable connection within 15 s"


def cancelled_by_an_endpoint(deferred: Deferred[Line]) -> None:
    deferred.errback(ConnectingCancelledError(None))


def cancelled_with_an_error(deferred: Deferred[Line]) -> None:
    deferred.errback(REFUSED)


def ignored(deferred: Deferred[Line]) -> None:
    pass


WAYS = pytest.mark.parametrize("way", [ignored, cancelled_by_an_endpoint, cancelled_with_an_error])


@WAYS
def test_too_slow_is_too_slow_however_the_backend_puts_it(way: Callable[[Deferred[Line]], None]) -> None:
    world = World(connect_timeout=15)
    world.open().cancelled = way
    world.clock.advance(15)
    assert world.waiting.why == "no usable connection within 15 s"


def test_a_bug_in_a_backend_is_no_end() -> None:
    world = World()
    world.backend.bug = AttributeError("no such thing")
    world.link.open()
    world.clock.advance(0)
    assert world.waiting.why == "no such thing"
    world.backend.bug = None
    world.wait().connects()
    assert isinstance(world.link.status, Up)


def test_dialling_is_never_done_inside_of_open() -> None:
    """So that many that fail at once, each handing its turn to the next, are not a recursion."""
    clock = Clock()
    turns = Turns(clock, 1, 1)
    first = World(clock=clock, turns=turns)
    first.open()
    others = [World(clock=clock, turns=turns, retry_initial=60) for _ in range(1000)]
    for world in others:
        world.backend.bug = OSError(2, "No such file or directory")
        world.link.open()
    first.backend.dials[0].fails(REFUSED)
    for _ in others:
        clock.advance(0)
    assert {world.waiting.why for world in others} == {"No such file or directory"}
    assert not turns.under_way


# ---------------------------------------------------------------------------------------------- turns


def test_turns_are_fair_and_a_waiter_that_gives_up_frees_its_place() -> None:
    clock = Clock()
    turns = Turns(clock, 2, 1)
    worlds = [World(clock=clock, turns=turns) for _ in range(5)]
    for world in worlds:
        world.link.open()
    clock.advance(0)

    def dialled() -> list[int]:
        return [len(world.backend.dials) for world in worlds]

    assert dialled() == [1, 1, 0, 0, 0]
    assert all(isinstance(world.link.status, Dialing) for world in worlds)
    result(worlds[2].link.close())
    assert worlds[2].link.status == Off()
    worlds[0].backend.dials[0].connects()
    clock.advance(0)
    assert dialled() == [1, 1, 0, 1, 0], "up needs no turn any more"
    result(worlds[1].link.close())
    clock.advance(0)
    assert dialled() == [1, 1, 0, 1, 1]
    worlds[3].backend.dials[0].fails(REFUSED)
    worlds[4].backend.dials[0].fails(REFUSED)
    assert not turns.under_way
    assert not turns.waiting


def test_waiting_for_a_turn_is_not_being_slow() -> None:
    clock = Clock()
    turns = Turns(clock, 1, 1)
    first, second = (World(clock=clock, turns=turns, connect_timeout=limit) for limit in (1000, 15))
    first.backend.host = second.backend.host = "ts1"
    dial = first.open()
    second.link.open()
    clock.advance(100)
    assert isinstance(second.link.status, Dialing)
    dial.connects()
    second.dials()
    clock.advance(14)
    assert isinstance(second.link.status, Dialing)
    clock.advance(1)
    assert second.waiting.why == "no usable connection within 15 s"


def test_a_link_that_failed_stands_behind_a_new_one() -> None:
    clock = Clock()
    turns = Turns(clock, 1, 1)
    failed, new, busy = (World(clock=clock, turns=turns) for _ in range(3))
    failed.open().fails(REFUSED)
    busy.open()
    failed.link.dial_now()
    new.link.open()
    busy.backend.dials[0].connects()
    clock.advance(0)
    assert (len(failed.backend.dials), len(new.backend.dials)) == (1, 1)


def test_a_console_that_somebody_else_has_is_a_state_of_its_own() -> None:
    world = World(retry_max=60)
    world.open().fails(HeldElsewhere("held by another session"))
    assert world.link.status == Held(EPOCH + 60, "held by another session", EPOCH)
    world.wait().fails(REFUSED)
    assert type(world.link.status) is Waiting


def test_the_lines_note_is_the_links() -> None:
    world = World()
    assert world.link.note == ""
    line = world.up()
    line.note = "speed is 38400 instead of 115200"
    assert world.link.note == "speed is 38400 instead of 115200"
    line.owner.lost("gone")
    assert world.link.note == ""


# ---------------------------------------------------------------------------------------------- patience


def test_each_wait_is_twice_as_long_up_to_the_cap() -> None:
    world = World(retry_initial=1, retry_max=60)
    dial, delays = world.open(), []
    for _ in range(9):
        dial.fails(REFUSED)
        delays.append(world.delay)
        dial = world.wait()
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_node_that_is_away_for_a_day_is_still_dialled() -> None:
    world = World(retry_initial=1, retry_max=60)
    world.fails(1100)
    assert world.delay == 60


def test_chance_shortens_a_wait_by_its_share() -> None:
    world = World(chance=0.999999, retry_initial=8)
    world.fails(1)
    assert world.delay == 8 * (1 - JITTER)


def test_a_refusal_takes_the_long_wait_at_once() -> None:
    world = World(retry_initial=1, retry_max=60)
    world.open().fails(Refused("SOL is in use by another session"))
    assert world.link.status == Waiting(EPOCH + 60, "SOL is in use by another session", EPOCH)


@pytest.mark.parametrize(("lasted", "delay"), [(FORGIVEN_AFTER - 0.1, 8), (FORGIVEN_AFTER, 1)])
def test_failures_are_forgiven_only_after_a_while(lasted: float, delay: float) -> None:
    world = World(retry_initial=1)
    world.fails(3)
    line = world.wait().connects()
    world.clock.advance(lasted)
    line.owner.lost("Connection reset by peer")
    assert world.delay == delay
    assert world.waiting.why == "Connection reset by peer"


def test_one_that_accepts_and_hangs_up_is_not_hammered() -> None:
    world = World(retry_initial=1)
    world.up().owner.lost("Connection was closed cleanly.")
    assert world.link.status == Waiting(EPOCH + 1, "Connection was closed cleanly", EPOCH)
    world.wait().connects().owner.lost("")
    assert world.delay == 2
    assert world.waiting.why == "connection lost"


def test_failures_are_forgiven_also_when_it_was_closed_on_purpose() -> None:
    world = World(retry_initial=1)
    world.fails(5)
    line = world.wait().connects()
    world.clock.advance(3600)
    closed = world.link.close()
    line.owner.lost("closed")
    result(closed)
    world.open().fails(REFUSED)
    assert world.delay == 1


def test_an_operator_cuts_a_wait_short() -> None:
    world = World()
    world.link.dial_now()
    assert world.link.status == Off()
    world.fails(8)
    world.link.dial_now()
    dial = world.dials()
    world.link.dial_now()
    world.clock.advance(5)
    assert len(world.backend.dials) == 9
    dial.connects()
    world.link.dial_now()
    world.clock.advance(1000)
    assert len(world.backend.dials) == 9
    assert isinstance(world.link.status, Up)


# ---------------------------------------------------------------------------------------------- closing


def test_closing_in_good_order() -> None:
    world = World()
    line = world.up()
    closed = [world.link.close(), world.link.close()]
    assert world.link.status == Closing(EPOCH)
    assert line.asked == ["close"]
    line.owner.received(b"bye")
    assert not closed[0].called
    at_the_end: list[Status] = []
    closed[0].addCallback(lambda _: at_the_end.append(world.link.status))
    line.owner.lost("Connection was closed cleanly.")
    assert at_the_end == [Off()], "the console knows it before the one that waits"
    assert [result(one) for one in closed] == [None, None]
    assert world.words == ["Dialing", "Up", "Closing", b"bye", "Off"]
    world.clock.advance(1000)
    assert line.asked == ["close"]
    assert not world.clock.getDelayedCalls()


def test_a_line_that_hangs_up_at_once() -> None:
    world = World()
    world.up().hangs_up_at_once = True
    result(world.link.close())
    assert world.words == ["Dialing", "Up", "Closing", "Off"]
    assert not world.clock.getDelayedCalls()


def test_a_line_that_does_not_hang_up_is_aborted() -> None:
    world = World()
    line = world.up()
    closed = world.link.close()
    world.clock.advance(HANG_UP - 0.1)
    assert line.asked == ["close"]
    world.clock.advance(0.1)
    assert line.asked == ["close", "abort"]
    assert not closed.called
    line.owner.lost("aborted")
    result(closed)
    assert world.link.status == Off()


@WAYS
def test_closing_while_dialing(way: Callable[[Deferred[Line]], None]) -> None:
    world = World()
    dial = world.open()
    dial.cancelled = way
    result(world.link.close())
    assert dial.was_cancelled
    assert world.words == ["Dialing", "Off"]
    world.clock.advance(1000)
    assert world.words == ["Dialing", "Off"]
    assert not world.clock.getDelayedCalls()


def test_closing_while_in_the_queue_or_about_to_dial() -> None:
    clock = Clock()
    turns = Turns(clock, 1, 1)
    world = World(turns=turns, clock=clock)
    world.link.open()
    result(world.link.close())
    assert (turns.under_way, world.link.status) == (0, Off())
    other = turns.run("", False, Deferred)
    world.link.open()
    assert turns.waiting == 1
    result(world.link.close())
    assert not turns.waiting
    other.addErrback(lambda failure: None).cancel()
    world.clock.advance(1000)
    assert not world.backend.dials
    assert world.words == ["Dialing", "Off"] * 2


def test_closing_while_waiting_or_off() -> None:
    world = World()
    result(world.link.close())
    assert world.told == []
    world.fails(1)
    result(world.link.close())
    world.clock.advance(1000)
    assert world.words == ["Dialing", "Waiting", "Off"]
    assert len(world.backend.dials) == 1


def test_opened_again_while_closing() -> None:
    world = World()
    line = world.up()
    closed = world.link.close()
    world.link.open()
    world.link.dial_now()
    assert isinstance(world.link.status, Closing)
    line.owner.lost("closed")
    result(closed)
    world.dials().connects()
    assert world.words == ["Dialing", "Up", "Closing", "Dialing", "Up"]
    world.clock.advance(1000)
    assert line.asked == ["close"]


def test_opened_again_and_closed_again_while_closing() -> None:
    world = World()
    line = world.up()
    closed = [world.link.close()]
    world.link.open()
    closed.append(world.link.close())
    line.owner.lost("closed")
    assert [result(one) for one in closed] == [None, None]
    assert world.words == ["Dialing", "Up", "Closing", "Off"]


# ---------------------------------------------------------------------------------------------- what is over is over


class SlowToDie(FakeBackend):
    """Its dials clean up after being cancelled, and end when they like."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[Deferred[Line]] = []

    def dial(self, owner: Any) -> Deferred[Line]:
        async def attempt() -> Line:
            dial = FakeDial(owner)
            self.dials.append(dial)
            try:
                return await dial.deferred
            except BaseException:
                self.ends.append(Deferred())
                return await self.ends[-1]

        return Deferred.fromCoroutine(attempt())


@pytest.mark.parametrize("end", ["connects", "fails"])
@pytest.mark.parametrize("next_is_up", [False, True])
def test_a_dial_that_outlives_its_cancellation_disturbs_nothing(end: str, next_is_up: bool) -> None:
    world = World()
    world.backend = world.link._backend = SlowToDie()
    stale = world.open()
    result(world.link.close())
    dial = world.open()
    if next_is_up:
        dial.connects()
    told, stale_line = list(world.told), FakeLine(stale.owner)
    if end == "connects":
        world.backend.ends[0].callback(stale_line)
        assert stale_line.asked == ["abort"]
        stale_line.owner.received(b"who is this?")
        stale_line.owner.lost("aborted")
    else:
        world.backend.ends[0].errback(REFUSED)
    assert world.told == told
    if not next_is_up:
        dial.connects()
    world.clock.advance(1000)
    assert isinstance(world.link.status, Up)
    assert world.words.count("Waiting") == 0


def test_a_line_that_is_gone_is_not_heard_any_more() -> None:
    world = World()
    old = world.up()
    old.owner.lost("Connection reset by peer")
    new = world.wait().connects()
    told = list(world.told)
    old.owner.received(b"late")
    old.owner.lost("again")
    assert world.told == told
    new.owner.received(b"here")
    assert world.told == [*told, b"here"]


# ---------------------------------------------------------------------------------------------- keys


def test_keystrokes_and_breaks_need_a_line() -> None:
    world = World()

    def is_down() -> bool:
        for action in (lambda: world.link.write(b"secret"), world.link.send_break):
            with pytest.raises(LinkDown, match=r"\[x1\] is currently disconnected"):
                action()
        return True

    assert is_down()
    dial = world.open()
    assert is_down()
    dial.fails(REFUSED)
    assert is_down()
    line = world.wait().connects()
    world.link.write(b"root\r")
    world.link.send_break()
    assert line.asked == [b"root\r", "break"]
    line.full, line.has_break = True, False
    with pytest.raises(NodeNotReading):
        world.link.write(b"x")
    with pytest.raises(NoBreak):
        world.link.send_break()
    world.link.close()
    assert is_down()
    line.owner.lost("closed")
    assert is_down()
    assert line.asked == [b"root\r", "break", "close"]


# ---------------------------------------------------------------------------------------------- silence


def silences(logs: Any) -> int:
    return sum("silent" in (eventAsText(event)) for event in logs)


def test_a_silent_node_is_reported_once_for_each_silence() -> None:
    world = World(quiet_timeout=60)
    with capturedLogs() as logs:
        line = world.up()
        world.clock.advance(59)
        line.owner.received(b"x")
        world.clock.advance(59)
        assert silences(logs) == 0
        world.clock.advance(1)
        assert silences(logs) == 1
        for _ in range(100):
            world.clock.advance(60)
        assert silences(logs) == 1
        world.clock.advance(1)
        line.owner.received(b"x")
        for _ in range(3):
            world.clock.advance(60)
        assert silences(logs) == 2
    assert isinstance(world.link.status, Up)
    assert line.asked == []
    line.owner.lost("gone")
    result(world.link.close())
    assert not world.clock.getDelayedCalls()


def test_a_silent_line_is_dialled_anew_if_asked_for() -> None:
    world = World(quiet_timeout=60, quiet_action="reconnect")
    line = world.up()
    world.clock.advance(60)
    assert line.asked == ["abort"]
    line.owner.lost("Connection was aborted")
    assert world.waiting.why == "silent for 60 s"
    line = world.wait().connects()
    line.owner.lost("Connection reset by peer")
    assert world.waiting.why == "Connection reset by peer"


def test_nobody_listens_for_silence_by_default() -> None:
    world = World()
    world.up()
    assert not world.clock.getDelayedCalls()


# ---------------------------------------------------------------------------------------------- the log


def test_the_log_has_changes_and_every_doubling_of_the_attempts() -> None:
    world = World()
    with capturedLogs() as logs:
        dial = world.open()
        for _ in range(200):
            dial.fails(REFUSED)
            dial = world.wait()
        line = dial.connects()
        line.owner.received(b"canary-4711")
        world.link.write(b"canary-4711")
        line.owner.lost("Connection reset by peer")
    said = [eventAsText(event, includeTimestamp=False, includeSystem=False) for event in logs]
    assert said == [
        *(
            f"console x1: cannot connect to <bmc1:2001>, attempt {count}: Connection refused"
            for count in (1, 2, 4, 8, 16, 32, 64, 128)
        ),
        "console x1: connected to <bmc1:2001>",
        "console x1: lost <bmc1:2001>: Connection reset by peer",
    ]


def test_one_that_accepts_and_hangs_up_is_in_the_log_at_every_doubling_until_it_lasts() -> None:
    world = World()
    with capturedLogs() as logs:
        dial = world.open()
        for _ in range(20):
            line = dial.connects()
            world.clock.advance(FORGIVEN_AFTER - 1)
            line.owner.lost("Connection reset by peer")
            dial = world.wait()
        line = dial.connects()
        world.clock.advance(FORGIVEN_AFTER)
        line.owner.lost("Connection reset by peer")
        world.wait().connects()
    said = [eventAsText(event, includeTimestamp=False, includeSystem=False) for event in logs]
    lost = "console x1: lost <bmc1:2001>: Connection reset by peer"
    assert said == [
        "console x1: connected to <bmc1:2001>",
        lost,
        *(f"{lost} ({count} connections in a row did not last)" for count in (2, 4, 8, 16)),
        "console x1: connected to <bmc1:2001>",
        lost,
        "console x1: connected to <bmc1:2001>",
    ]
    assert not world.clock.getDelayedCalls()


def test_a_bug_leaves_its_trace_for_those_who_ask() -> None:
    world = World()
    with capturedLogs() as logs:
        world.open().fails(AttributeError("no such thing"))
        world.wait().fails(Failure(REFUSED).value)  # type: ignore[arg-type]
    traces = [event for event in logs if event["log_level"] is LogLevel.debug]
    assert len(traces) == 1
    assert "AttributeError" in eventAsText(traces[0])


def test_an_outage_is_as_old_as_its_beginning() -> None:
    """However often it was dialled since."""
    world = World()
    began = EPOCH + world.clock.seconds()
    dial = world.open()
    for _ in range(3):
        dial.fails(REFUSED)
        assert world.waiting.since == began
        dial = world.wait()
    line = dial.connects()
    world.clock.advance(100)
    lost = EPOCH + world.clock.seconds()
    line.owner.lost("Connection reset by peer")
    world.wait().fails(HeldElsewhere("in use"))
    assert world.waiting.since == lost
    world.link.park("ada@h")
    world.clock.advance(100)
    world.link.release()
    world.dials().fails(REFUSED)
    assert world.waiting.since == EPOCH + world.clock.seconds(), "while it was parked nobody missed it"


# ---------------------------------------------------------------------------------------------- parked


def test_parked_and_released() -> None:
    world = World()
    line = world.up()
    world.link.park("ada@h")
    assert line.asked == ["close"]
    line.owner.lost("closed")
    assert world.link.status == Parked(EPOCH, "ada@h")
    world.link.open()
    world.link.dial_now()
    world.clock.advance(3600)
    assert len(world.backend.dials) == 1, "it stays off, whoever wants it"
    world.link.release()
    world.dials().connects()
    assert world.words == ["Dialing", "Up", "Closing", "Parked", "Dialing", "Up"]


def test_one_that_nobody_wants_is_parked_too() -> None:
    world = World()
    world.link.park("ada@h")
    world.link.park("bob@h")
    assert world.link.status == Parked(EPOCH, "ada@h")
    world.link.release()
    world.link.release()
    assert world.words == ["Parked", "Off"]


def test_one_that_was_parked_before_begins_so() -> None:
    said: list[Any] = []
    world = World(parked=Parked(EPOCH - 1000, "ada@h"), remember=lambda *what: said.append(what))
    world.link.open()
    world.link.dial_now()
    world.clock.advance(3600)
    assert world.link.status == Parked(EPOCH - 1000, "ada@h")
    assert (world.backend.dials, said) == ([], [])
    world.link.release()
    world.dials()
    world.link.park("bob@h")
    assert said == [("x1", None), ("x1", Parked(EPOCH + 3600, "bob@h"))]


def test_other_settings_do_not_release_it() -> None:
    world = World()
    world.up()
    world.link.park("ada@h")
    world.link.renew(ConsoleSettings(name="x1"), FakeBackend())
    world.link.release()
    assert isinstance(world.link.status, Closing)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (HeldElsewhere("in use"), "held"),
        (Refused("wrong password"), "refused"),
        (ConnectionRefusedError(), "connection-refused"),
        (REFUSED, "connection-refused"),
        (OSError(113, "No route to host"), "network"),
        (DNSLookupError("no such name"), "name"),
        (AttributeError("a bug"), "other"),
    ],
)
def test_what_is_counted(error: Exception, reason: str) -> None:
    world = World()
    world.open().fails(error)
    assert world.tally.attempts == {"ConsoleSettings": 1}
    assert world.tally.failures == {("ConsoleSettings", reason): 1}


def test_every_reason_is_one_that_the_metrics_know() -> None:
    assert {*_SORTS, "other"} == {*REASONS}


def test_losses_and_time_limits_are_counted() -> None:
    world = World()
    world.open()
    world.clock.advance(15)
    assert world.tally.failures == {("ConsoleSettings", "timeout"): 1}
    world.wait().connects().owner.lost("reset by peer")
    assert world.tally.losses == {"ConsoleSettings": 1}
    line = world.wait().connects()
    world.link.close()
    line.owner.lost("closed")
    assert world.tally.losses == {"ConsoleSettings": 1}, "we hung up ourselves"


# ---------------------------------------------------------------------------------------------- whatever happens


class Lives(RuleBasedStateMachine):
    """Any order of events: one transport at most, the states follow the table, and it never stops trying."""

    FOLLOWS = {
        "Off": {"Dialing", "Parked"},
        "Parked": {"Dialing", "Off"},
        "Dialing": {"Up", "Waiting", "Off", "Parked"},
        "Up": {"Waiting", "Closing"},
        "Waiting": {"Dialing", "Off", "Parked"},
        "Closing": {"Off", "Dialing", "Parked"},
    }

    def __init__(self) -> None:
        super().__init__()
        clock = Clock()
        self.turns = Turns(clock, 1, 1)
        self.world = World(turns=self.turns, clock=clock, quiet_timeout=7, quiet_action="reconnect")
        self.lines: list[FakeLine] = []
        self.closes: list[Deferred[None]] = []
        self.wanted = self.parked = False

    @property
    def pending(self) -> list[FakeDial]:
        return [dial for dial in self.world.backend.dials if not dial.deferred.called]

    @rule()
    def opens(self) -> None:
        self.world.link.open()
        self.wanted = True

    @rule()
    def closes_it(self) -> None:
        self.closes.append(self.world.link.close())
        self.wanted = False

    @rule()
    def parks_it(self) -> None:
        self.world.link.park("ada@h")
        self.parked = True

    @rule()
    def releases_it(self) -> None:
        self.world.link.release()
        self.parked = False

    @rule()
    def dials_now(self) -> None:
        self.world.link.dial_now()

    @rule(seconds=st.sampled_from([0, 0.6, 2, 5, 16, 40]))
    def time_passes(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @precondition(lambda self: self.pending)
    @rule(refused=st.booleans())
    def a_dial_fails(self, refused: bool) -> None:
        self.pending[0].fails(Refused("no") if refused else REFUSED)

    @precondition(lambda self: self.pending)
    @rule()
    def a_dial_connects(self) -> None:
        self.lines.append(self.pending[0].connects())

    @precondition(lambda self: self.lines)
    @rule()
    def the_line_is_lost(self) -> None:
        self.lines.pop().owner.lost("lost")

    @precondition(lambda self: self.lines)
    @rule()
    def the_node_speaks(self) -> None:
        count = len(self.world.told)
        self.lines[0].owner.received(b"x")
        assert self.world.told[count:] == [b"x"]

    @invariant()
    def one_transport_at_most(self) -> None:
        assert len(self.pending) + len(self.lines) <= 1
        assert bool(self.lines) == isinstance(self.world.link.status, Up | Closing)

    @invariant()
    def the_states_follow_the_table(self) -> None:
        states = ["Off", *(word for word in self.world.words if isinstance(word, str))]
        assert all(after in self.FOLLOWS[before] for before, after in pairwise(states))

    @invariant()
    def it_never_stops_trying_nor_lingers(self) -> None:
        status = self.world.link.status
        is_wanted = self.wanted and not self.parked
        assert not (is_wanted and isinstance(status, Off))
        assert is_wanted or isinstance(status, Off | Closing)
        assert isinstance(status, Parked) == (self.parked and not isinstance(status, Closing))
        if isinstance(status, Dialing | Waiting):
            assert self.world.clock.getDelayedCalls()
        if isinstance(status, Off):
            assert not self.world.clock.getDelayedCalls()
            assert not self.turns.under_way
            assert all(closed.called for closed in self.closes)


Lives.TestCase.settings = hypothesis_settings(max_examples=150, stateful_step_count=30, deadline=None)
TestLives = Lives.TestCase
