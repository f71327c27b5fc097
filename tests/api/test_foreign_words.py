"""Whatever a client, a token or a BMC says: no terminal that shows a log, the audit or a client's screen obeys it.

Each case brings foreign words in by one road; then everything that people look at is searched for what a terminal
obeys.  The node's own output is not among it: that is the one thing which clients are to get as it is.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, textFileLogObserver

from consoled.auth.audit import Audit, Record
from consoled.auth.journal import datagram
from consoled.auth.sinks import line, to_log
from consoled.backends.chronicle import Chronicle
from consoled.backends.link import Link
from consoled.backends.ssh_login import said
from consoled.backends.tcp import TcpSettings
from consoled.backends.turns import Turns
from consoled.core.access import Knock, User
from consoled.core.attachment import Client as Who
from consoled.core.seams import Refused
from consoled.core.status import Up, Waiting
from consoled.printable import PlainStream
from tests.api.world import BARE, World
from tests.fakes import EPOCH, FakeBackend

EVIL = "\x1b]0;pwned\x07\x1b[2J\r\n2026-11-21 [-] forged\x9b31m\u202eabc\u2028\x00\x7f"
OBEYED = re.compile("[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""All but CR and LF, which frame what the daemon says to a client."""


class Eyes:
    """All that people look at."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.log = io.StringIO()
        self.screens: list[str] = []

    def check(self, clients: list[Any]) -> None:
        for record in self.world.records:
            for text in (line(record).decode().removesuffix("\n"), datagram(record).decode().replace("\n", "")):
                assert text.isprintable(), text
        assert not OBEYED.search(self.log.getvalue().replace("\n\t", "")), self.log.getvalue()
        assert not any(row.startswith("2026-11-21 [-] forged") for row in self.log.getvalue().splitlines())
        for client in clients:
            text = client.text()
            assert not OBEYED.search(text), text
            assert "\n2026-11-21" not in text


@pytest.fixture
def eyes(world: World, log: list[LogEvent]) -> Iterator[Eyes]:
    eyes = Eyes(world)
    yield eyes
    observer = textFileLogObserver(PlainStream(eyes.log))  # type: ignore[arg-type]
    for event in log:
        observer(event)
    eyes.check([client for client in world.clients if client.response and client.response.status_code == 101])


class Named:
    """A gate that lets in whoever it is told to."""

    def __init__(self, world: World, user: User) -> None:
        self._gate = world.gate
        self._user = user
        self.is_open = False

    def login(self, knock: Knock) -> Any:
        user = User(self._user.name, ("admin",), None, self._user.proof, knock.origin)
        done: Deferred[User] = Deferred()
        done.callback(user)
        return done

    def authorise(self, *what: Any) -> Any:
        return self._gate.authorise(*what)


def user_name(world: World) -> None:
    watcher = world.joined("x1", "olga")
    gate, world.gate = world.gate, Named(world, User(EVIL, ("admin",), None, EVIL))  # type: ignore[assignment]
    csm: Any = world.site.resource._faces[0]
    csm._admission._gate, before = world.gate, csm._admission._gate
    evil = world.joined("x1", "oscar")
    csm._admission._gate, world.gate = before, gate
    for keys in ("&F", "&M", "&J", "&B", "&R", "&W", "&I", "&?"):
        evil.send(keys)
        watcher.send("&W")
    world.x1.resets[-1].callback(EVIL)
    watcher.send("&F")
    evil.send("&.")


def node_name(world: World) -> None:
    for name in ("%1b%5d0;x%07", "x1%0d%0a", "%e2%80%aex", "%c2%9b31m", "%ff%1b"):
        for path in ("interact", "tail"):
            refused = world.knock(f"{BARE}/{path}/{name}", "oscar").refusal
            assert refused.status in (400, 404)
            assert not OBEYED.search(refused.message), refused.message


def tenant(world: World) -> None:
    for name in ("\x9b31m", "bl\xfce"):
        refused = world.knock(f"{BARE}/interact/x1", "oscar", [("Cray-Tenant-Name", name)]).refusal
        assert refused.status in (400, 403)
        assert not OBEYED.search(refused.message)


def method(world: World) -> None:
    world.ask(f"{BARE}/interact/x1", [], "oscar", "X'Y")


def close_reason(world: World) -> None:
    client = world.joined()
    client._protocol.send_close(1000, "\x1b]0;pwned\x07\u202e")
    client._flush()


def link_status(world: World) -> None:
    client = world.joined()
    backend = FakeBackend()
    clock = Clock()
    settings = TcpSettings(name="x1", address="bmc:1")
    world.x1.console.link = link = Link(
        settings,
        backend,
        world.x1.console,
        clock,
        lambda: EPOCH,
        lambda: 0.0,
        Turns(clock, 10, 10),
        Chronicle(clock),
    )
    link.open()
    clock.advance(0)
    backend.dials[-1].connects()
    clock.advance(60)
    line_ = link._line
    assert line_ is not None
    backend.dials[-1].owner.lost(EVIL)
    client.send("&I")
    for error in (Refused(EVIL), OSError(5, EVIL), ConnectError(EVIL), ConnectionError(EVIL)):
        link.dial_now()
        clock.advance(0)
        clock.advance(0)
        backend.dials[-1].fails(error)
        assert isinstance(link.status, Waiting)
        client.send("&I")
    link.close()
    clock.advance(2)


def bmc_name_for_itself(world: World) -> None:
    client = world.joined()
    world.x1.link.note = said(EVIL.encode())
    world.x1.link.status = Waiting(EPOCH, said(EVIL.encode()))
    world.x1.console.changed(world.x1.link.status)
    client.send("&I")
    world.x1.link.status = Up(EPOCH)


def reset_output(world: World) -> None:
    client = world.joined()
    client.send("&R")
    world.x1.resets[-1].callback(EVIL)
    client.send("&R")
    world.x1.resets[-1].errback(ConnectionError(EVIL))


def ticket_wish(world: World) -> None:
    wish = json.dumps({"console": EVIL, "mode": "tail"})
    answer = world.ask("/v1/tickets", [("Content-Type", "application/json")], "oscar", "POST", wish)
    assert not OBEYED.search(answer.message), answer.message
    wish = json.dumps({"console": "x1", "mode": EVIL, EVIL: EVIL})
    answer = world.ask("/v1/tickets", [("Content-Type", "application/json")], "oscar", "POST", wish)
    assert answer.status == 400
    assert not OBEYED.search(answer.body.decode())


def ticket_shown(world: World) -> None:
    world.knock(f"{BARE}/interact/x1?ticket=%1b%5d0;x%07%9b", None)


def bearer_token(world: World) -> None:
    world.knock(f"{BARE}/interact/x1", None, [("Authorization", "Bearer \x9b31m")])


def accident(world: World) -> None:
    # Whatever else comes into the log: the daemon's own stream spells it out.
    try:
        raise ValueError(EVIL)
    except ValueError:
        Logger().debug("it says {what}\n{what!r}", what=EVIL)


def audited_by_log(world: World) -> None:
    Audit(to_log(Logger()), lambda: EPOCH).refused(EVIL, EVIL, User(EVIL, (EVIL,), None, EVIL, EVIL), EVIL, EVIL, EVIL)


ROADS: list[Callable[[World], None]] = [
    user_name,
    node_name,
    tenant,
    method,
    close_reason,
    link_status,
    bmc_name_for_itself,
    reset_output,
    ticket_wish,
    ticket_shown,
    bearer_token,
    accident,
    audited_by_log,
]


@pytest.mark.parametrize("road", ROADS, ids=lambda road: road.__name__)
def test_foreign_words(world: World, eyes: Eyes, road: Callable[[World], None]) -> None:
    road(world)


def test_who_somebody_is(world: World) -> None:
    assert str(Who(EVIL, EVIL, "csm")).isprintable()


def test_the_test_can_fail(world: World) -> None:
    eyes = Eyes(world)
    eyes.log.write("\x1b[2J")
    with pytest.raises(AssertionError):
        eyes.check([])
    eyes = Eyes(world)
    bad: Record = {"action": "x", "account": "\x9b"}
    world.records.append(bad)
    with pytest.raises(AssertionError):
        eyes.check([])
