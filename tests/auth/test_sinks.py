"""Where the records go, and what becomes of a flood of refusals."""

import json
import os
import socket
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import Clock, deferLater
from twisted.logger import Logger, capturedLogs, eventAsText

from consoled.auth.audit import Audit, Record
from consoled.auth.journal import datagram
from consoled.auth.sinks import IN_FULL, IN_LOG, WINDOW, AuditSettings, Bounded, Measure, Records
from consoled.core.access import User

ALICE = User("alice", ("operator",), None, "tokens", "192.0.2.7:40112")
EVIL = "\x1b]0;pwned\x07\r\n\u202e\u2028\ud800"


def now() -> float:
    return 1_700_000_000.0


def records(settings: dict[str, Any], **more: Any) -> Records:
    return Records(
        msgspec.convert(settings, AuditSettings, dec_hook=lambda kind, value: kind(value)),
        Logger(),
        reactor,
        now,
        reactor.callFromThread,
        **more,
    )


def log_lines(events: list[Any]) -> list[Any]:
    texts = [eventAsText(event, includeTimestamp=False, includeSystem=False) for event in events]
    return [json.loads(text.removeprefix("audit ")) for text in texts if text.startswith("audit ")]


@pytest_twisted.ensureDeferred
async def test_the_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    kept = records({"file": str(path)})
    await kept.check()
    audit = Audit(kept, now)
    with capturedLogs() as events:
        audit.accepted(ALICE)
        audit.refused(EVIL, EVIL)
        audit.noted("took", ALICE, "x1")
        await kept.close()
    lines = path.read_text().splitlines()
    assert [json.loads(line)["action"] for line in lines] == ["accepted", "refused", "took"]
    assert all(line.isprintable() for line in lines)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert not log_lines(events), "it is said once"
    assert kept.trouble is None


@pytest_twisted.ensureDeferred
async def test_the_file_is_moved_away(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    kept = records({"file": str(path)})
    audit = Audit(kept, now)
    audit.noted("reload", number=1)
    while not path.exists() or not path.read_text():
        await deferLater(reactor, 0.005)
    path.rename(tmp_path / "audit.log.1")
    kept.reopen()
    audit.noted("reload", number=2)
    await kept.close()
    assert json.loads((tmp_path / "audit.log.1").read_text())["number"] == 1
    assert json.loads(path.read_text())["number"] == 2


@pytest_twisted.ensureDeferred
async def test_what_was_lost_is_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "audit.log"
    os.mkfifo(path)
    monkeypatch.setattr("consoled.ledger.WAITING", 0)
    kept = records({"file": str(path)})
    with pytest.raises(OSError, match=r"audit.file: .*not a regular file"):
        await kept.check()
    audit = Audit(kept, now)
    count = 0
    while not (kept.trouble or "").endswith("not a regular file"):
        audit.noted("reload", number=count)
        count += 1
        await deferLater(reactor, 0)
    # More than may wait.
    for number in range(20_000):
        audit.noted("reload", number=count + number)
    path.unlink()
    kept.reopen()
    while kept.trouble:
        await deferLater(reactor, 0.005)
    await kept.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    [lost] = [line for line in lines if line["action"] == "records-lost"]
    assert lost["count"] == count + 20_000 - (len(lines) - 1)
    assert lost["timestamp"] == "2023-11-14T22:13:20.000Z"
    assert [line["number"] for line in lines if "number" in line] == list(range(len(lines) - 1))


@pytest_twisted.ensureDeferred
async def test_the_journal(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        kept = records({"journal": True}, socket=path)
        await kept.check()
        audit = Audit(kept, now)
        audit.refused(EVIL, EVIL)
        audit.detached(ALICE, "tail", "x1", 1.5, 10, 0)
        await kept.close()
        journal.settimeout(30)
        refused, detached = (fields(journal.recv(65536)) for _ in range(2))
    assert refused["PRIORITY"] == "4"
    assert refused["CONSOLED_ACTION"] == "refused"
    assert refused["CONSOLED_REMOTE_ADDRESS"].isprintable()
    assert detached["PRIORITY"] == "6"
    assert detached["SYSLOG_IDENTIFIER"] == "consoled"
    assert (detached["CONSOLED_ACCOUNT"], detached["CONSOLED_MACHINE"], detached["CONSOLED_TO_CLIENT"]) == (
        "alice",
        "x1",
        "10",
    )
    assert json.loads(detached["MESSAGE"])["remotePort"] == 40112


def fields(data: bytes) -> dict[str, str]:
    """A datagram by journald's rules: a field in each line, in upper case, and nothing without `=`."""
    found = dict(line.split("=", 1) for line in data.decode().removesuffix("\n").split("\n"))
    assert all(name.replace("_", "A").isalnum() and name == name.upper() for name in found)
    return found


def test_no_field_of_a_record_is_two_in_the_journal() -> None:
    kept: list[Record] = []
    Audit(kept.append, now).refused(EVIL, f"{EVIL}\nCONSOLED_ACCOUNT=root", User(EVIL, (EVIL,), None, EVIL, EVIL))
    assert "\nCONSOLED_ACCOUNT=root" not in datagram(kept[0]).decode()
    assert len(fields(datagram(kept[0]))) == 4 + len(kept[0])


@pytest_twisted.ensureDeferred
async def test_there_is_no_journald(tmp_path: Path) -> None:
    kept = records({"journal": True}, socket=str(tmp_path / "absent"))
    with pytest.raises(OSError, match=r"audit.journal: .*No such file or directory \(is journald there\?\)"):
        await kept.check()


@pytest.mark.parametrize(
    ("settings", "logged"),
    [({}, 1), ({"log": False}, 0), ({"journal": True}, 0), ({"journal": True, "log": True}, 1), ({"log": True}, 1)],
)
def test_the_log(settings: dict[str, Any], logged: int) -> None:
    kept = Records(AuditSettings(**settings), Logger(), Clock(), now, lambda *_: None, socket="/nonexistent/journald's")
    with capturedLogs() as events:
        Audit(kept, now).noted("reload")
    assert len(log_lines(events)) == logged


# ------------------------------------------------------------------------------------------------------- a flood


class Flood:
    def __init__(self, burst: int, sustained: int = 1) -> None:
        self.clock = Clock()
        self.records: list[Record] = []
        self.sink = Bounded(self.records.append, Measure(burst, sustained), self.clock)
        self.audit = Audit(self.sink, lambda: now() + self.clock.seconds())

    @property
    def actions(self) -> list[Any]:
        return [record["action"] for record in self.records]


def test_a_flood_of_refusals_is_summed_up() -> None:
    flood = Flood(3)
    for number in range(10):
        flood.audit.refused(f"192.0.2.{1 if number else 2}:{number}", "unknown token")
    flood.audit.refused("192.0.2.9:1", "unknown token")
    assert flood.actions == ["refused"] * 3
    flood.clock.advance(WINDOW)
    assert flood.actions == ["refused"] * 3 + ["refusals-omitted"]
    summary = {"action": "refusals-omitted", "count": 8, "addresses": 2, "mostlyFrom": "192.0.2.1"}
    assert flood.records[-1] == {"timestamp": "2023-11-14T22:13:20.000Z"} | summary
    flood.audit.refused("192.0.2.1:1", "unknown token")
    assert flood.actions[-1] == "refused"


def test_a_flood_that_goes_on_is_written_down_more_and_more_seldom() -> None:
    flood = Flood(20, 2)
    for _ in range(100):
        for _ in range(50):
            flood.audit.refused("192.0.2.1:1", "unknown token")
        flood.clock.advance(WINDOW)
    assert flood.actions.count("refused") == 20 + 99 * 2
    assert sum(int(one.get("count", 1)) for one in flood.records) == 100 * 50
    # Whoever knocks after it is heard, and nothing goes on for ever.
    for _ in range(10):
        flood.clock.advance(WINDOW)
    assert not flood.clock.getDelayedCalls()
    flood.records.clear()
    for _ in range(20):
        flood.audit.refused("192.0.2.1:1", "unknown token")
    assert flood.actions == ["refused"] * 20
    flood.sink.close()


def test_attempts_of_strangers_are_refusals_whatever_they_are_called() -> None:
    flood = Flood(3)
    for _ in range(10):
        flood.audit.noted("ConnectMachineConsole", None, "x1", statusCode=401, remoteAddress="192.0.2.1")
        flood.audit.noted("ConnectMachineConsole", ALICE, "x1", statusCode=101)
        flood.audit.noted("reload")
    assert [record["action"] for record in flood.records if "account" not in record].count("ConnectMachineConsole") == 3
    assert [record["action"] for record in flood.records if "account" in record].count("ConnectMachineConsole") == 10
    assert flood.actions.count("reload") == 10
    flood.clock.advance(WINDOW)
    assert flood.records[-1]["count"] == 7
    flood.sink.close()


def test_a_flood_hides_nobody() -> None:
    flood = Flood(3)
    for _ in range(10):
        flood.audit.refused("192.0.2.1:1", "unknown token")
    flood.audit.refused("192.0.2.7:1", "not the tenant's", ALICE)
    flood.audit.accepted(ALICE)
    flood.audit.noted("break", ALICE, "x1")
    assert flood.actions == ["refused"] * 4 + ["accepted", "break"]
    assert flood.records[3]["account"] == "alice"


def test_at_the_end_the_rest_is_said() -> None:
    flood = Flood(1)
    flood.sink.close()
    flood.audit.refused("192.0.2.1:1", "unknown token")
    flood.sink.close()
    assert flood.actions == ["refused"]
    assert not flood.clock.getDelayedCalls()
    for _ in range(3):
        flood.audit.refused("192.0.2.1:1", "unknown token")
    flood.sink.close()
    assert flood.actions == ["refused", "refusals-omitted"]
    assert not flood.clock.getDelayedCalls()


def test_the_log_keeps_less_than_the_file() -> None:
    assert IN_LOG < IN_FULL
