"""The Q method: two ends that follow it always agree in the end, whatever they want and whenever (RFC 1143)."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoled.backends.telnet_options import State, heard, wanted


class End:
    """One end of one option: what it wants, how it thinks it is, and what it has said that is still on its way."""

    def __init__(self) -> None:
        self.state = State.NO
        self.wish = False
        self.wire: deque[bool] = deque()

    def take(self, step: tuple[State, bool | None]) -> None:
        self.state, say = step
        if say is not None:
            self.wire.append(say)

    def want(self, on: bool) -> None:
        self.wish = on
        self.take(wanted(self.state, on))


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from(["on", "off", "read"])), max_size=40))
def test_two_ends_come_to_rest_and_agree(steps: list[tuple[int, str]]) -> None:
    ends = End(), End()
    for who, step in steps:
        if step != "read":
            ends[who].want(step == "on")
        elif ends[1 - who].wire:
            ends[who].take(heard(ends[who].state, ends[1 - who].wire.popleft(), ends[who].wish))
    for _ in range(100):
        for me, peer in (ends, ends[::-1]):
            if peer.wire:
                me.take(heard(me.state, peer.wire.popleft(), me.wish))
    assert not any(end.wire for end in ends), "they never stop talking"
    assert ends[0].state is ends[1].state
    assert ends[0].state in (State.YES, State.NO)
    if all(end.wish for end in ends):
        assert ends[0].state is State.YES
    if not any(end.wish for end in ends):
        assert ends[0].state is State.NO


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("agreeable", [True, False])
def test_what_is_so_already_is_not_answered(state: State, on: bool, agreeable: bool) -> None:
    after, _ = heard(state, on, agreeable)
    if after in (State.YES, State.NO):
        assert heard(after, after is State.YES, agreeable) == (after, None)


def test_a_refusal_is_an_answer() -> None:
    assert heard(State.NO, True, agreeable=False) == (State.NO, False)
