"""An operator's day, through the shell: install, start, add a rack, break the configuration, reload, fill the disk,
rotate, renew the certificate, throw somebody out, stop.

Each test is an hour of one day, with one daemon; any of them may be left out.  From its start to its stop two clients
watch a console over TLS that nobody touches: they and the node behind it must not notice that anything happens at all.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.listening.pipe import client_context, write_pair
from tests.real import descendants, free_port, need
from tests.real.bare import Client, asking
from tests.real.disk import small_disk
from tests.real.operating import CHECKOUT, Lobby, Shell, Stream, Systemd, Watcher, terminal, web
from tests.real.outside import (
    SHUTDOWN,
    TERMINATED,
    Node,
    Transcripts,
    assert_begins,
    eventually,
    numbered,
    without_line_ends,
    without_own_lines,
)

pytestmark = pytest.mark.real

TOKENS = {"ada": "the-long-token-of-ada", "olga": "the-long-token-of-olga"}
ROLES = [("ada", "admin"), ("olga", "operator")]
TOKEN = '[[token]]\nname = "{}"\nsha256 = "{}"\nrole = "{}"\n'
RACK = [f"x7000c0s{slot}b0n0" for slot in range(12)]
MAIN = """\
include = "conf.d/*.toml"
[http]
listen = ["tcp:{http}:interface=127.0.0.1"]
[tls]
listen = ["tcp:{tls}:interface=127.0.0.1"]
certificates = [{{ certificate = "server.pem", key = "server.key" }}]
[auth]
tokens = "tokens.toml"
[audit]
file = "{log}/audit.log"
[hub]
state = "{lib}"
[transcript]
directory = "{log}"
max_unwritten = "256 KiB"
[defaults]
retry_initial = "100ms"
[[source]]
name = "cmdb"
kind = "http"
url = "{cmdb}"
token = {{ credential = "cmdb.token" }}
[[console]]
name = "lobby"
kind = "tcp"
address = "127.0.0.1:{lobby}"
[[console]]
name = "vm1"
kind = "process"
command = ["cat"]
record_input = true
"""
RACK_TOML = """\
[[group]]
name = "rack7"
kind = "tcp"
address = "127.0.0.1:{port}"
[[console]]
name = "x7000c0s[0-11]b0n0"
group = "rack7"
table = "rack7.csv"
"""


class Day:
    """What is there from the start to the stop."""

    def __init__(self, root: Path, ending: ExitStack) -> None:
        self.ending = ending
        self.no_small_disk = ending.enter_context(small_disk(root / "var/log/consoled", "6m"))
        self.sh = shell = Shell(root)
        shell.install()
        self.systemd = Systemd(shell)
        ending.callback(self.systemd.end)
        self.lobby = Lobby()
        ending.callback(self.lobby.end)
        self.rack = {name: Node() for name in RACK}
        self.found = Node()
        for node in (*self.rack.values(), self.found):
            ending.callback(node.close)
        found = {"name": "x9000c0s0b0n0", "kind": "tcp", "address": f"127.0.0.1:{self.found.port}"}
        proof = "the-token-of-the-cmdb"
        cmdb = web(lambda path, headers: [found] if headers["Authorization"] == f"Bearer {proof}" else None)
        self.systemd.give("cmdb.token", proof)
        self.kept = Transcripts(shell.log)
        self.authority = trustme.CA()
        write_pair(shell.etc, "server", self.authority.issue_cert("localhost", "first.example"))
        self.authority.cert_pem.write_to_path(root / "ca.pem")
        self.http, self.tls = free_port(), free_port()
        shell.variables |= {"URL": f"http://127.0.0.1:{self.http}", "TLS": f"https://localhost:{self.tls}"}
        shell.variables |= {name.upper(): token for name, token in TOKENS.items()}
        shell.write(
            "tokens.toml",
            "".join(TOKEN.format(name, sha256(TOKENS[name].encode()).hexdigest(), role) for name, role in ROLES),
        )
        self.main = MAIN.format(
            http=self.http,
            tls=self.tls,
            log=shell.log,
            lib=shell.lib,
            cmdb=ending.enter_context(cmdb),
            lobby=self.lobby.node.port,
        )
        shell.write("consoled.toml", self.main)
        self.watchers: list[Watcher] = []

    def begin(self) -> None:
        self.systemd.start()
        tls = client_context(self.authority)
        tail = Client(self.tls, self._request("lobby", 1_000_000), tls=tls)
        self.watchers = [Watcher(tail), Watcher(Stream(self.tls, "lobby", TOKENS["olga"], tls=tls))]

    def ask(self, path: str, *, method: str = "GET", by: str = "ada", status: int = 200) -> Any:
        """What curl gets as JSON."""
        line = f'curl -sS -X {method} -H "Authorization: Bearer ${by.upper()}" -w "\\n%{{http_code}}" "$URL{path}"'
        body, _, code = self.sh(line).rpartition("\n")
        assert code == str(status)
        return json.loads(body) if body else None

    def metrics(self, *names: str) -> list[float]:
        """The sum of each one's series."""
        page = self.sh('curl -sS -H "Authorization: Bearer $OLGA" $URL/metrics | grep -v "^#"')
        return [sum(map(float, re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.M))) for name in names]

    def watch(self, name: str, lines: int = 0, verb: str = "tail") -> Watcher:
        return Watcher(Client(self.http, self._request(name, lines, verb)))

    @staticmethod
    def _request(name: str, lines: int, verb: str = "tail") -> bytes:
        more = {"Cray_Console_Lines": str(lines), "Cray_Console_Follow": "True"}
        return asking(f"/console-operator/{verb}/{name}", Authorization=f"Bearer {TOKENS['olga']}", **more)

    def states(self) -> dict[str, Any]:
        """Of each console what its connection is and since when."""
        return {one["name"]: (one["state"], one["since"]) for one in self.ask("/v1/consoles")["consoles"]}

    def done_at(self, name: str) -> list[str]:
        """What the audit has of a console, in the file and in those that logrotate has moved."""
        records = map(json.loads, self._rotated("audit.log").splitlines())
        return [one["action"] for one in records if one.get("machine") == name and one["action"] != "accepted"]

    def typed(self) -> str:
        """What was typed at vm1, as far as it is recorded."""
        return "".join(json.loads(line)["input"] for line in self._rotated("input.vm1").splitlines())

    def _rotated(self, name: str) -> str:
        return self.sh(f"find $LOG -name '{name}*' | sort -r | xargs zcat -f")

    def add_rack(self) -> None:
        """If it is not there yet: each hour may be the first."""
        if not (self.sh.etc / "conf.d" / "rack7.toml").exists():
            ports = "".join(f"{name},{node.port}\n" for name, node in self.rack.items())
            self.sh.write("rack7.csv", "name,port\n" + ports)
            self.sh.write("conf.d/rack7.toml", RACK_TOML)
            assert "12 added" in self.systemd.reload()
            for node in self.rack.values():
                node.accept()
            eventually(lambda: {state for state, _ in self.states().values()} == {"up"})

    def assert_undisturbed(self) -> int:
        """The lobby has its first connection, and both who watch it have what it said just now: so many lines."""
        assert self.lobby.is_alive() and not self.lobby.node.is_called, "its connection was lost"
        said = self.lobby.said
        for watcher in self.watchers:
            watcher.until(b"line %012d" % (said - 1))
        return said


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    need("curl", "curl")
    with ExitStack() as ending:
        day = Day(tmp_path_factory.mktemp("day"), ending)
        day.begin()
        yield day


@pytest.fixture(autouse=True)
def nobody_else_notices(day: Day) -> Iterator[None]:
    yield
    if day.systemd.is_running:
        day.assert_undisturbed()


def test_it_is_installed_and_started(day: Day) -> None:
    assert day.sh("twistd consoled --version") == day.sh("consoled-import --version").replace("-import", "")
    assert day.sh("twistd consoled --config $ETC/consoled.toml --check --list").splitlines() == [
        f"lobby\ttcp\t<127.0.0.1:{day.lobby.node.port}>",
        'vm1\tprocess\t"cat"',
        # Only the site's inventory knows of this one, and it was asked with the credential.
        f"x9000c0s0b0n0\ttcp\t<127.0.0.1:{day.found.port}>",
        f"{day.sh.etc}/consoled.toml: 3 consoles, and nothing wrong",
    ]
    day.found.accept()
    eventually(lambda: day.ask("/v1/health", by="olga")["states"] == {"up": 3})
    assert day.ask("/v1/health")["status"] == "ok"
    day.sh("curl -sS -f $URL/v1/liveness && curl -sS -f $URL/v1/readiness")
    assert "the-token-of-the-cmdb" not in day.systemd.journal


def test_a_rack_is_added(day: Day) -> None:
    before = day.states()
    day.add_rack()
    eventually(lambda: day.ask("/v1/health")["states"] == {"up": 15})
    assert {name: state for name, state in day.states().items() if name not in RACK} == before
    # By the API, with one of them changed in its link, and one in what does not touch it.
    day.sh.write(
        "conf.d/more.toml",
        '[[console]]\nname = "vm2"\nkind = "process"\ncommand = ["cat"]\n'
        '[[console]]\nname = "spare"\nkind = "demo"\nrole = "quiet"\n',
    )
    changes = day.ask("/v1/reload", method="POST")
    assert changes["added"] == ["vm2", "spare"] and changes["removed"] == changes["changed"] == []
    day.sh('sed -i \'s/quiet/chatter/; s/"cat"/"cat", "-u"/\' $ETC/conf.d/more.toml')
    assert day.ask("/v1/reload", method="POST")["reconnected"] == ["vm2", "spare"]
    viewer = day.watch("vm2", lines=100)
    day.sh("rm $ETC/conf.d/more.toml")
    assert "2 removed (vm2, spare)" in day.systemd.hang_up()
    assert viewer.ended() == (1001, "The console was taken out of the configuration")
    assert day.ask("/v1/reload", method="POST", by="olga", status=403)["message"]


MISTAKES: dict[str, tuple[str, str]] = {
    # What the operator does, and what is said of it.
    "a bracket": ("echo '[[console]' > $ETC/conf.d/oops.toml", "conf.d/oops.toml: "),
    "a key": (
        "sed -i 's/max_unwritten/max_unwriten/' $ETC/consoled.toml",
        "consoled.toml: transcript: .*`max_unwriten`",
    ),
    "a unit": (
        "sed -i 's/100ms/100 parsecs/' $ETC/consoled.toml",
        r"consoled.toml: console\[0\].retry_initial: '100 parsecs' is not a duration: .* from \[defaults\]",
    ),
    "a group": (
        'printf \'[[console]]\\nname = "n1"\\ngroup = "rack8"\\n\' > $ETC/conf.d/oops.toml',
        r"conf.d/oops.toml: console\[0\].group: there is no group 'rack8'",
    ),
    "a name twice": (
        'printf \'[[console]]\\nname = "lobby"\\nkind = "demo"\\n\' > $ETC/conf.d/oops.toml',
        "conf.d/oops.toml: .*lobby",
    ),
    "a row": (
        "sed -i '/^x7000c0s7b0n0/d' $ETC/rack7.csv",
        "conf.d/rack7.toml: .*table: there is no row for x7000c0s7b0n0",
    ),
    "a secret": ("chmod o+r $ETC/server.key", r"tls.certificates\[0\]: .*/server.key: everybody may read"),
    "a token": ("sed -i 's/^sha256 = \"./&x/' $ETC/tokens.toml", r"auth.tokens: .*/tokens.toml: .*token\[0\].sha256"),
    "a file": ("mv $ETC/server.pem $ETC/old.pem", r"tls.certificates\[0\]: .*/server.pem: No such file or directory"),
}


@pytest.mark.parametrize(("mistake", "complaint"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_and_changes_nothing(day: Day, mistake: str, complaint: str) -> None:
    day.add_rack()
    before, etc = day.states(), day.sh.root / "etc.good"
    shutil.copytree(day.sh.etc, etc)
    try:
        day.sh(mistake)
        [answer] = day.ask("/v1/reload", method="POST", status=422).values()
        assert re.search(complaint, answer)
        assert f"not reloaded, and nothing has changed: {answer}" in day.systemd.hang_up()
        assert answer in day.systemd.reload(status=1)
        assert day.states() == before
    finally:
        day.sh("cp -a etc.good/. $ETC && rm -rf etc.good $ETC/conf.d/oops.toml")
    assert "reloaded: no console has changed" in day.systemd.hang_up()


def test_a_port_that_is_taken_is_named_and_changes_nothing(day: Day) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        day.sh.write("consoled.toml", day.main.replace("[http]\nlisten = [", f'[http]\nlisten = ["tcp:{port}", '))
        assert re.search(f"{port}.*Address already in use", day.ask("/v1/reload", method="POST", status=422)["message"])
    day.sh.write("consoled.toml", day.main)
    assert "no console has changed" in day.systemd.hang_up()


def test_the_disk_is_full_for_a_while(day: Day) -> None:
    if day.no_small_disk:
        pytest.skip(day.no_small_disk)
    day.add_rack()
    noisy, quiet = RACK[0], RACK[1]
    viewers = {name: day.watch(name, lines=1000) for name in (noisy, quiet)}
    day.ending.callback((day.sh.log / "ballast").unlink, missing_ok=True)
    assert "No space left" in day.sh("cat /dev/zero > $LOG/ballast", status=1)
    for part in range(16):
        day.rack[noisy].say(numbered(part * 1024, 1024))
        viewers[noisy].until(b"line %012d" % (part * 1024 + 1023))
    day.rack[quiet].say(b"as if nothing were\r\n")
    viewers[quiet].until(b"as if nothing were\r\n")
    health = eventually(lambda: (page := day.ask("/v1/health"))["status"] == "degraded" and page)
    assert "No space left on device" in health["trouble"] and noisy in health["unwritten"]
    troubled, lost = day.metrics("consoled_transcripts_troubled", "consoled_transcript_lost_bytes_total")
    assert troubled >= 2 and lost > 512 * 1024

    day.sh("rm $LOG/ballast")
    viewers[noisy].until(b"log lost ")
    eventually(lambda: day.ask("/v1/health")["status"] == "ok")
    assert day.metrics("consoled_transcripts_troubled") == [0]
    day.rack[noisy].say(numbered(16384, 1))
    viewers[noisy].until(b"line %012d" % 16384)
    told = re.findall(rb"log lost (\d+) bytes before this line", viewers[noisy].seen)
    assert sum(map(int, told)) == day.metrics("consoled_transcript_lost_bytes_total")[0]
    assert day.kept.lost(quiet) == [] and b"as if nothing were" in day.kept.stream(quiet)
    assert "No space left on device" in day.systemd.journal
    for viewer in viewers.values():
        viewer.leave()


def test_files_are_cut_by_their_size(day: Day) -> None:
    day.add_rack()
    name = RACK[2]
    viewer = day.watch(name, lines=1000)
    day.sh.write("consoled.toml", day.main.replace("[transcript]", '[transcript]\nmax_size = "64 KiB"'))
    assert "taken up: transcript" in day.systemd.hang_up()
    day.rack[name].say(numbered(0, 8192))
    viewer.until(b"line %012d" % 8191)
    viewer.leave()
    eventually(lambda: len(day.kept.segments(name)) > 6)
    # Both ways of the documentation to have the whole stream.
    day.sh(f"cat $LOG/console.{name}.* $LOG/console.{name} > by-cat")
    day.sh(
        f'curl -sS -f -H "Authorization: Bearer $OLGA" $URL/v1/consoles/{name}/transcript > by-curl; cmp by-cat by-curl'
    )
    assert_begins((day.sh.root / "by-cat").read_bytes(), viewer.seen)
    day.sh.write("consoled.toml", day.main)
    day.systemd.hang_up()


def test_files_are_moved_by_hand(day: Day) -> None:
    day.add_rack()
    name = RACK[3]
    viewer = day.watch(name, lines=1000)
    moved = b""
    for turn in range(3):
        day.rack[name].say(numbered(turn * 1024, 1024))
        viewer.until(b"line %012d" % (turn * 1024 + 1023))
        day.sh(f"mv $LOG/console.{name} $LOG/moved")
        day.rack[name].say(b"in between\r\n")
        day.systemd.kill(signal.SIGUSR1)
        eventually((day.sh.log / f"console.{name}").exists)
        moved += (day.sh.log / "moved").read_bytes()
    day.rack[name].say(b"the end\r\n")
    viewer.until(b"the end\r\n")
    viewer.leave()
    eventually(lambda: (day.sh.log / f"console.{name}").read_bytes().endswith(b"the end\r\n"))
    assert_begins(moved + (day.sh.log / f"console.{name}").read_bytes(), viewer.seen)


def test_logrotate_moves_the_audit_and_what_was_typed(day: Day) -> None:
    logrotate = need("logrotate", "logrotate")
    shipped = (CHECKOUT / "etc" / "consoled.logrotate").read_text()
    for theirs, ours in (
        ("/var/log/consoled", str(day.sh.log)),
        ("consoled consoled", day.sh("id -un; id -gn").replace("\n", " ")),
        ("systemctl kill --signal=USR1 --kill-who=main consoled.service", f"kill -USR1 {day.systemd.pid}"),
    ):
        assert theirs in shipped
        shipped = shipped.replace(theirs, ours)
    (day.sh.root / "logrotate.conf").write_text(shipped)
    typed, done = "", []
    for turn in range(3):
        typist = day.watch("vm1", verb="interact")
        typist.client.type(b"turn %d\r" % turn)
        typist.until(b"turn %d" % turn)
        typed, done = f"{typed}turn {turn}\r", [*done, "attached"]
        # Both are written by threads of their own.
        eventually(lambda: (day.typed(), day.done_at("vm1")) == (typed, done))  # noqa: B023  # it is over at once
        day.sh(f"{logrotate} --force --state {day.sh.root}/state logrotate.conf")
        typist.leave()
        done.append("detached")
    # Nothing is missing and nothing is there twice, in what was moved and what was not.
    eventually(lambda: (day.typed(), day.done_at("vm1")) == (typed, done))
    assert len(day.sh("ls $LOG/rotated").split()) == 6


def test_the_certificate_is_renewed(day: Day) -> None:
    day.sh("curl -sS -f --cacert ca.pem $TLS/v1/liveness")
    # First by halves: the new key is in place before its certificate.
    fresh = trustme.CA()
    chained = fresh.create_child_ca().issue_cert("localhost", "second.example")
    fresh.cert_pem.write_to_path(day.sh.root / "ca.new.pem")
    files = write_pair(day.sh.root, "new", chained)
    day.sh(f"cp $ETC/server.key old.key && cat {files['key']} > $ETC/server.key")
    assert "server.key" in day.systemd.reload(status=1)
    assert re.search("not reloaded.*server.key", day.systemd.hang_up())
    day.sh("curl -sS -f --cacert ca.pem $TLS/v1/liveness")
    day.sh(f"cp {files['certificate']} $ETC/server.pem.new && mv $ETC/server.pem.new $ETC/server.pem")
    assert "reloaded: no console has changed" in day.systemd.reload()
    day.sh("curl -sS -f --cacert ca.new.pem $TLS/v1/liveness")
    day.sh("curl -sS -f --cacert ca.pem $TLS/v1/liveness", status=60)
    shown = day.sh(f"echo | openssl s_client -connect localhost:{day.tls} -CAfile ca.new.pem -verify_return_error 2>&1")
    assert "Verify return code: 0 (ok)" in shown


def test_somebody_is_thrown_out(day: Day) -> None:
    day.add_rack()
    name = RACK[4]
    other = day.watch(name, verb="interact")
    url = f"ws://127.0.0.1:{day.http}/console-operator/interact/{name}"
    with terminal(day.sh, f'wsdump -r -v --headers "Authorization: Bearer $OLGA" {url}') as shows:
        shows("opened")
        day.rack[name].say(b"login: ")
        shows("login: ")
        clients = day.ask(f"/v1/consoles/{name}/clients", by="olga")["clients"]
        assert [client["user"] for client in clients] == ["olga", "olga"]
        number = max(client["id"] for client in clients)
        day.ask(f"/v1/consoles/{name}/clients/{number}", method="DELETE", by="olga", status=403)
        day.ask(f"/v1/consoles/{name}/clients/{number}", method="DELETE", status=204)
        shows("Kicked by ada")
    day.rack[name].say(b"still here\r\n")
    other.until(b"still here\r\n")
    [left] = day.ask(f"/v1/consoles/{name}/clients")["clients"]
    day.ask(f"/v1/consoles/{name}/clients/{left['id']}", method="DELETE", status=204)
    code, why = other.ended() or (0, "")
    assert code == 1008 and why.startswith("Kicked by ada")
    eventually(lambda: day.done_at(name).count("kick") == 2)


def test_it_stops(day: Day) -> None:
    day.add_rack()
    name = RACK[5]
    viewer, typist = day.watch(name, lines=1000), day.watch("vm1", verb="interact")
    day.rack[name].say(numbered(0, 100))
    viewer.until(b"line %012d" % 99)
    said, children = day.assert_undisturbed(), descendants(day.systemd.pid)
    assert children
    assert day.systemd.stop() == TERMINATED
    for one in (*day.watchers, viewer, typist):
        assert one.ended() == SHUTDOWN
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)
    assert_begins(day.kept.stream(name), viewer.seen)
    for one in ("lobby", "vm1", *RACK):
        assert b"log closed at" in (day.sh.log / f"console.{one}").read_bytes()[-100:]

    # What the lobby's node has said, what is kept of it and what was seen is one and the same, from one connection.
    stream = day.kept.stream("lobby")
    for watcher in day.watchers:
        assert_begins(stream, watcher.seen)
        assert len(watcher.seen) > said * 64
    own = re.findall(rb"<ConMan> Console \[lobby\] (\w+ \w+)", stream)
    assert own == [b"log opened", b"connected to", b"disconnected from", b"log closed"]
    assert len(kept := without_line_ends(without_own_lines(stream))) >= said * 62
    assert without_line_ends(numbered(0, day.lobby.said)).startswith(kept)
    assert "Traceback" not in day.systemd.journal
