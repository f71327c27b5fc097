"""What a running daemon's metrics and probes say when something happens to it, seen from outside."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.real import disk, free_port
from tests.real.bare import LIMIT, Client, asking
from tests.real.outside import Daemon, Node, eventually, numbered

pytestmark = pytest.mark.real

TOKEN = "a-token-of-prometheus"
AUTH = '[auth]\ntokens = "tokens.toml"\n'
QUICK = 'retry_initial = "100ms"\nretry_max = "200ms"\n'


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node()
    yield node
    node.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    daemons: list[Daemon] = []

    def start(config: str, **more: Any) -> Daemon:
        digest = sha256(TOKEN.encode()).hexdigest()
        (tmp_path / "tokens.toml").write_text(f'[[token]]\nname = "ada"\nsha256 = "{digest}"\nrole = "admin"\n')
        daemons.append(Daemon(tmp_path, AUTH + config, **more))
        return daemons[-1].start()

    yield start
    for daemon in daemons:
        daemon.end()


def ask(daemon: Daemon, path: str, method: str = "GET", body: Any = None) -> tuple[int, str]:
    """The status and the body of an answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{daemon.port}{path}", method=method)
    request.add_header("Authorization", f"Bearer {TOKEN}")
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=LIMIT) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()


def client(daemon: Daemon, verb: str = "interact", token: str = TOKEN) -> Client:
    headers = {"Authorization": f"Bearer {token}", "Cray_Console_Follow": "true"}
    return Client(daemon.port, asking(f"/console-operator/{verb}/n1", **headers))


class Page:
    """The metrics of `daemon`; `page["name", "label", ...]` is how much a series has grown since this was made."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._before = self._samples()

    def __getitem__(self, key: tuple[str, ...]) -> float:
        return self._samples()[key] - self._before.get(key, 0)

    def _samples(self) -> dict[tuple[str, ...], float]:
        status, text = ask(self._daemon, "/metrics")
        assert status == 200
        return {
            (
                sample.name.removeprefix("consoled_"),
                *(value for _, value in sorted(sample.labels.items())),
            ): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


def test_every_series_moves_when_its_thing_happens(start: Callable[..., Daemon], node: Node) -> None:
    dead = f'[[console]]\nname = "dead"\nkind = "tcp"\naddress = "127.0.0.1:{free_port()}"\n{QUICK}'
    daemon = start(node.toml("n1") + QUICK + dead)
    node.accept()
    eventually(lambda: '"up"' in ask(daemon, "/v1/consoles/n1")[1])
    page = Page(daemon)

    # The way in.
    typist = client(daemon)
    assert page["upgrades_total", "101"] == page["handshake_seconds_count",] == 1
    assert page["clients", "csm", "interact"] == page["sessions", "csm"] == 1
    assert page["logins_total", "refused"] == 0
    with pytest.raises(ConnectionError):
        client(daemon, token="a-guess-that-is-wrong")
    assert page["logins_total", "refused"] == page["upgrades_total", "401"] == 1
    viewers = [client(daemon, "tail") for _ in range(5)]
    assert page["clients", "csm", "tail"] == 5
    assert page["process_open_fds",] >= 6

    # Bytes, there and back.
    typist.type(b"?")
    assert node.heard() == b"?"
    node.say(numbered(0, 100))
    for one in (typist, *viewers):
        one.until(b"line %012d" % 99)
    assert page["node_sent_bytes_total",] == page["echo_seconds_count",] == 1
    assert page["node_received_bytes_total",] == 6400
    assert page["transcript_bytes_total",] >= 6400
    eventually(lambda: page["client_sent_bytes_total",] >= 6 * 6400)

    # They leave; the node does, and comes back.
    for one in (typist, *viewers):
        one.leave()
    eventually(lambda: page["clients", "csm", "tail"] == page["clients", "csm", "interact"] == 0)
    eventually(lambda: page["session_seconds_count", "csm"] == 6)
    node.hang_up()
    eventually(lambda: page["link_losses_total", "tcp"] == 1)
    node.accept()
    eventually(lambda: page["link_attempts_total", "tcp"] > 1)
    eventually(lambda: page["link_failures_total", "tcp", "connection-refused"] > 1)
    eventually(lambda: page["reactor_lag_seconds_count",] > 0)
    assert page["link_failures_total", "tcp", "timeout"] == 0


def test_a_full_disk(start: Callable[..., Daemon], node: Node, tmp_path: Path) -> None:
    """Liveness goes on all the while, and so does readiness: clients still get what the nodes say."""
    with disk.small_disk(tmp_path / "small", "2m") as refused:
        if refused:
            pytest.skip(refused)
        transcript = 'max_unwritten = "64 KiB"\nmax_size = "64 KiB"'
        daemon = start(node.toml("n1"), directory=tmp_path / "small" / "transcripts", transcript=transcript)
        node.accept()
        viewer, page, ballast = client(daemon, "tail"), Page(daemon), tmp_path / "small" / "ballast"
        with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(4096))
        for first in range(0, 4096, 256):
            node.say(numbered(first, 256))
            viewer.until(b"line %012d" % (first + 255))
        eventually(lambda: page["transcripts_troubled",] == 1)
        assert page["transcript_lag_bytes",] > 0
        assert page["transcript_lost_bytes_total",] > 0
        assert json.loads(ask(daemon, "/v1/health")[1])["unwritten"] == ["n1"]
        assert [ask(daemon, f"/v1/{probe}")[0] for probe in ("liveness", "readiness")] == [204, 204]
        ballast.unlink()
        eventually(lambda: page["transcripts_troubled",] == page["transcript_lag_bytes",] == 0)
        assert json.loads(ask(daemon, "/v1/health")[1])["status"] == "ok"
        viewer.leave()
        daemon.end()


def test_a_directory_that_is_gone_is_known_as_soon_as_a_write_fails(start: Callable[..., Daemon], node: Node) -> None:
    """Upkeep, which looks once a minute, would be too late for this test."""
    daemon = start(node.toml("n1"))
    node.accept()
    node.say(b"before\r\n")
    eventually(lambda: b"before" in daemon.stream("n1"))
    daemon.directory.rename(daemon.directory.with_name("elsewhere"))
    daemon.directory.write_text("in the way")

    def probed(status: int) -> bool:
        node.say(b"words\r\n")
        return ask(daemon, "/v1/readiness")[0] == status

    eventually(lambda: probed(503))
    assert ask(daemon, "/v1/readiness")[1] == '{"message":"The directory of the transcripts cannot be written to"}'
    assert ask(daemon, "/console-operator/readiness")[0] == 503
    assert ask(daemon, "/v1/liveness")[0] == 204
    daemon.directory.unlink()
    eventually(lambda: probed(204))


def test_a_link_that_is_held_stays_so_over_a_crash(start: Callable[..., Daemon], node: Node, tmp_path: Path) -> None:
    daemon = start('[hub]\nstate = "state"\n' + node.toml("n1"))
    node.accept()
    link = "/v1/consoles/n1/link"
    assert ask(daemon, link, "POST", {"action": "hold"})[0] == 200
    eventually((tmp_path / "state" / "parked.json").exists)
    daemon.kill()
    daemon.start()
    console = json.loads(ask(daemon, "/v1/consoles/n1")[1])
    assert (console["state"], console["why"]) == ("parked", "parked by ada@127.0.0.1")
    assert b"still parked by <ada@127.0.0.1> at" in daemon.stream("n1")
    assert not node.is_called
    assert ask(daemon, link, "POST", {"action": "release"})[0] == 200
    node.accept()
    eventually(lambda: json.loads((tmp_path / "state" / "parked.json").read_text()) == {})
