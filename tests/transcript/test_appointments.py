"""Everybody comes once, in time, and not much sooner than was said."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from consoled.transcript.appointments import TICK, Appointments

WHO = st.integers(0, 4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("make"), WHO, st.integers(1, 60)),
        st.tuples(st.just("cancel"), WHO, st.just(0)),
        st.tuples(st.just("pass"), st.just(0), st.integers(1, 30)),
        st.tuples(st.just("take"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS)
def test_whoever_has_an_appointment_comes_at_it(steps):
    clock = Clock()
    clock.advance(1234.5678)
    wanted, came = {}, []

    def come(authors):
        for author in authors:
            assert author not in appointments
            latest = wanted.pop(author)
            assert latest - TICK <= clock.seconds() + 1e-6
            came.append((author, latest))

    appointments = Appointments(clock, come)
    for step, who, milliseconds in steps:
        if step == "make":
            appointments.make(who, milliseconds / 1000)
            wanted[who] = min(wanted.get(who, float("inf")), clock.seconds() + milliseconds / 1000)
        elif step == "cancel":
            appointments.cancel(who)
            wanted.pop(who, None)
        elif step == "take":
            assert set(appointments.take()) == set(wanted)
            wanted.clear()
        else:
            clock.advance(milliseconds / 1000)
            assert all(latest > clock.seconds() - 1e-6 for latest in wanted.values())
        assert {who for who in range(5) if who in appointments} == set(wanted)
        assert len(clock.getDelayedCalls()) <= 1
    clock.advance(1)
    assert not wanted
    assert not clock.getDelayedCalls()


def test_those_of_one_millisecond_come_together_and_others_by_themselves():
    clock, came = Clock(), []
    appointments = Appointments(clock, lambda authors: came.append(list(authors)))
    for author, within in {"a": 0.0502, "b": 0.0508, "c": 0.0516, "d": 0.02}.items():
        appointments.make(author, within)
    clock.advance(0.02)
    clock.advance(0.035)
    assert came == [["d"], ["a", "b"], ["c"]]


def test_what_is_much_overdue_comes_at_once_and_what_is_a_little_does_not():
    clock, came = Clock(), []
    appointments = Appointments(clock, lambda authors: came.append(list(authors)))
    for author, within in {"a": 0.05, "b": 0.07, "c": 0.06, "d": 0.098}.items():
        appointments.make(author, within)
    clock.advance(0.1)
    assert came == [["a", "c", "b"], ["d"]]


def test_one_timer_is_set_for_all_and_none_for_nobody():
    clock = Clock()
    appointments = Appointments(clock, lambda authors: None)
    appointments.make("a", 0.05)
    appointments.make("b", 0.01)
    assert [call.getTime() for call in clock.getDelayedCalls()] == [0.01]
    appointments.take()
    assert not clock.getDelayedCalls()
