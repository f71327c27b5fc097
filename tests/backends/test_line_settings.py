"""Which keys of a console make its connection another one."""

from __future__ import annotations

import msgspec
import pytest

from consoled.backends.settings import _ASIDE, ConsoleSettings
from consoled.backends.tcp import TcpSettings

OTHER = {
    "enabled": False,
    "on_demand": True,
    "quiet_action": "reconnect",
    "record_input": True,
    "reset_command": ("true",),
    "account": "a",
    "machine": "m",
    "machine_port": 1,
    "brand": "lx",
}
ONE = TcpSettings(name="n1", address="b:1")


@pytest.mark.parametrize("key", sorted(_ASIDE))
def test_what_the_link_and_the_console_heed_alone(key: str) -> None:
    other = msgspec.structs.replace(ONE, **{key: OTHER.get(key, 7)})
    assert other != ONE
    assert other.line == ONE.line


@pytest.mark.parametrize("change", [{"address": "b:2"}, {"keepalive": 9}, {"name": "n2"}])
def test_what_it_takes_another_connection_for(change: dict[str, object]) -> None:
    assert msgspec.structs.replace(ONE, **change).line != ONE.line


def test_every_key_of_all_kinds_has_been_thought_of() -> None:
    keys = {field.name for field in msgspec.structs.fields(ConsoleSettings)}
    assert keys == {*_ASIDE, "name", "keepalive"}, "is it the line's? then here, else in `_ASIDE`"
