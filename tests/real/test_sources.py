"""Consoles from elsewhere as an operator lives with them: they come, go, and do not go when their source is ill."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import treq
from prometheus_client.parser import text_string_to_metric_families
from twisted.conch.ssh.keys import Key
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.web.client import HTTPConnectionPool

from tests.real.daemon import RunningDaemon
from tests.real.inventories import SOURCES, Bmc, Csm, Ports, new_key
from tests.real.talk import WebSocket

pytestmark = pytest.mark.real
LIMIT = 30.0
ADMIN, VIEWER = "a-token-of-ada-the-admin", "a-token-of-vera-who-may-look"
USERS = "".join(
    f'[[token]]\nname = "{name}"\nsha256 = "{sha256(token.encode()).hexdigest()}"\nrole = "{role}"\n'
    for name, token, role in (("ada", ADMIN, "admin"), ("vera", VIEWER, "viewer"))
)


async def eventually(look: Callable[[], Any], what: str) -> Any:
    """What `look` gives, be it a coroutine's, once it is something."""
    deadline = reactor.seconds() + LIMIT
    while True:
        found = look()
        found = await found if hasattr(found, "__await__") else found
        if found:
            return found
        assert reactor.seconds() < deadline, f"{what} did not come"
        await deferLater(reactor, 0.05)


class Site:
    """A daemon with one source of consoles, and an operator before it."""

    def __init__(self, home: Path, source: Any, more: str = "", interval: str = "100ms") -> None:
        (home / "tokens.toml").write_text(USERS)
        self.daemon = RunningDaemon(
            reactor,
            home,
            f'[hub]\nstate = "state"\n[auth]\ntokens = "tokens.toml"\n'
            f'[defaults]\nretry_max = "1s"\n[[source]]\nname = "cmdb"\ninterval = "{interval}"\n{source.toml}\n{more}',
        )
        self.daemon.token = ADMIN

    async def ask(self, path: str, method: str = "GET", token: str = ADMIN) -> tuple[int, Any]:
        pool = HTTPConnectionPool(reactor, persistent=False)
        url = f"http://{self.daemon.address}{path}"
        answer = await treq.request(method, url, headers={"Authorization": f"Bearer {token}"}, pool=pool, timeout=LIMIT)
        text = await answer.text()
        return answer.code, json.loads(text) if answer.headers.getRawHeaders("content-type") == JSON else text

    async def source(self) -> Any:
        status, found = await self.ask("/v1/sources")
        assert status == 200
        [one] = found["sources"]
        return one

    async def metric(self, name: str, **labels: str) -> float:
        _, page = await self.ask("/metrics")
        [value] = [
            sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == f"consoled_source_{name}" and labels.items() <= sample.labels.items()
        ]
        return float(value)

    async def trouble(self) -> str:
        return str((await self.ask("/v1/health", token=VIEWER))[1].get("trouble", ""))

    async def names(self) -> set[str]:
        return {one["name"] for one in (await self.ask("/v1/consoles"))[1]["consoles"]}

    async def viewer(self, name: str) -> WebSocket:
        headers = {"Authorization": f"Bearer {VIEWER}", "Cray-Console-Follow": "True"}
        return await WebSocket.open(self.daemon.ws(f"tail/{name}"), headers)


JSON = ["application/json"]
TEN = tuple(f"n{number}" for number in range(10))
HALF = TEN[:5]


@pytest.mark.parametrize("kind", list(SOURCES))
@pytest_twisted.ensureDeferred
async def test_the_story_of_an_inventory_that_shrinks(tmp_path: Path, kind: str) -> None:
    ports = Ports()
    ports.add(*TEN, "n10")
    source = SOURCES[kind](tmp_path, ports)
    site = Site(tmp_path, source)

    def called(name: str) -> str:
        return ports.addresses[name].partition(":")[2] if kind == "csm" else name

    try:
        # Ten nodes come, and an eleventh while they are there.
        source.has(*TEN)
        await site.daemon.start()
        await eventually(lambda: len(ports.peers) == 10, "the ten")
        before = ports.peers
        source.has(*TEN, "n10")
        await eventually(lambda: "n10" in ports.peers, "the eleventh")
        source.has(*TEN)
        await eventually(lambda: "n10" not in ports.peers, "its end")
        assert ports.peers == before
        assert await site.metric("consoles") == 10
        assert await site.trouble() == ""

        # An outage halves the list.  Nothing is hung up, and everybody who should know is told.
        last = await site.viewer(called("n9"))
        await last.until("log opened")
        source.has(*HALF)
        await eventually(lambda: site.metric("held_back"), "the guard")
        held = (await site.source())["held_back"]
        # The eleventh has gone within the hour, and counts as well.
        assert (held["would_remove"], held["of"]) == (6, 11)
        assert called("n9") in held["some"]
        assert "6 of 11 consoles are missing from its answer: it is held back" in await site.trouble()
        assert "POST /v1/reload?confirm=cmdb" in site.daemon.log
        assert (await site.ask("/v1/reload", "POST"))[1]["held_back"] == ["cmdb"]
        assert ports.peers == before
        ports.lines["n9"].transport.write(b"still here\r\n")
        await last.until("still here")

        # It gets worse, and better, and worse.
        source.fail()
        await eventually(lambda: site.metric("failing"), "a failure")
        assert (await site.source())["failures"] > 0
        assert ports.peers == before
        source.has(*TEN)
        await eventually(lambda: _is_good(site), "the whole list")
        source.has(*HALF)
        await eventually(lambda: site.metric("held_back"), "the guard again")

        # A restart in the middle of it knows no more and no less.
        await last.leave()
        await site.daemon.stop()
        await site.daemon.start()
        await eventually(lambda: len(ports.peers) == 10, "the ten again")
        await eventually(lambda: site.metric("held_back"), "the guard after the restart")
        before = ports.peers

        # They are really gone: somebody who may say so says so.
        first, last = await site.viewer(called("n0")), await site.viewer(called("n9"))
        await first.until("log opened")
        await last.until("log opened")
        assert (await site.ask("/v1/reload?confirm=cmdb", "POST", VIEWER))[0] == 403
        status, said = await site.ask("/v1/reload?confirm=cmbd", "POST")
        assert (status, said["message"]) == (422, "there is no source 'cmbd'")
        assert ports.peers == before
        status, changes = await site.ask("/v1/reload?confirm=cmdb", "POST")
        assert status == 200
        assert set(changes["removed"]) == {called(name) for name in TEN[5:]}
        assert changes["held_back"] == changes["added"] == changes["changed"] == []
        await last.until("closed 1001 The console was taken out of the configuration")
        await eventually(lambda: len(ports.peers) == 5, "the end of five")
        assert ports.peers == {name: before[name] for name in HALF}
        ports.lines["n0"].transport.write(b"still here\r\n")
        await first.until("still here")
        assert await site.names() == {called(name) for name in HALF}
        status, said = await site.ask("/v1/reload?confirm=cmdb", "POST")
        assert (status, said["message"]) == (422, "nothing is held back of source cmdb")
        assert (await site.metric("held_back"), await site.metric("failing"), await site.metric("consoles")) == (
            0,
            0,
            5,
        )
        assert await site.trouble() == ""
        audited = [line for line in site.daemon.log.splitlines() if '"action":"reload"' in line and "confirm" in line]
        assert len(audited) == 3
        assert all('"account":"ada"' in line for line in audited)
        await first.leave()
        await site.daemon.stop()
        assert "Traceback" not in site.daemon.log
    finally:
        await site.daemon.kill()
        await source.close()
        await ports.close()


async def _is_good(site: Site) -> bool:
    return not (await site.source())["why"]


@pytest_twisted.ensureDeferred
async def test_each_class_of_csm_gets_in_with_what_vault_has(tmp_path: Path) -> None:
    old, new = new_key(), new_key()
    bmc = Bmc({"admin": "of-river", "root": "of-paradise"}, {"n0": Key.fromString(new).public()})
    csm = Csm(tmp_path)
    reached = f'address = "{bmc.address}", trust_on_first_use = true'
    csm.toml = csm.toml.replace('names = "alias"\n', "").partition("river = ")[0] + (
        f'river = {{ kind = "ssh", {reached} }}\nmountain = {{ {reached} }}\nparadise = {{ {reached} }}\n'
    )
    csm.nodes = {
        "x3000c0s1b0n0": "River",
        "x3000c0s2b0n0": "River",
        "x3000c0s3b0n0": "River",
        "x3000c0s4b0n0": "Management",
        "x3000c0s5b0n0": None,
        "x1000c0s0b0n0": "Mountain",
        "x9000c1s0b0n0": "Hill",
    }
    csm.paradise = ["x3000c0s2b0n0"]
    csm.keys = {"1": old, "2": new}
    csm.give("x3000c0s1b0", "admin", "of-river")
    csm.give("x3000c0s2b0", "root", "of-paradise")  # and x3000c0s3b0 has none
    site = Site(tmp_path, csm, csm.vault, "1h")
    try:
        await site.daemon.start()
        for name, who in {
            "x3000c0s1b0n0": "admin",
            "x3000c0s2b0n0": "root",
            "x1000c0s0b0n0": "n0",
            "x9000c1s0b0n0": "n0",
        }.items():
            await eventually(lambda name=name: _is_up(site, name), name)
            viewer = await WebSocket.open(
                site.daemon.ws(f"tail/{name}"),
                {"Authorization": f"Bearer {VIEWER}", "Cray-Console-Follow": "True", "Cray-Console-Lines": "100"},
            )
            await viewer.until(f"welcome {who}")
            await viewer.leave()
        without = "x3000c0s3b0n0"
        why = await eventually(lambda: _why(site, without), "a reason")
        assert why == "vault secret/hms-creds/x3000c0s3b0: no such secret"
        found = await site.source()
        assert (found["consoles"], found["left_out"]) == (5, 2)
        assert "Class: 'Management' is none of River, Mountain and Hill" in found["complaints"][0]
        assert "(x3000c0s5b0n0).Class: is missing" in found["complaints"][1]
        assert "2 of its entries are left out" in await site.trouble()
        assert csm.logins == [{"jwt": "a-service-account", "role": "services"}]

        # The one gets its credentials, from a Vault that wants a new login meanwhile.
        csm.tokens.append("somebody-else's")
        csm.give("x3000c0s3b0", "admin", "of-river")
        await eventually(lambda: _is_up(site, without), "the one that had no credentials")
        assert len(csm.logins) == 2
        await site.daemon.stop()
        for secret in ("of-river", "of-paradise", "a-token-of-vault", "a-service-account", "PRIVATE KEY"):
            assert secret not in site.daemon.log
        assert "Traceback" not in site.daemon.log
    finally:
        await site.daemon.kill()
        await csm.close()
        await bmc.close()


async def _is_up(site: Site, name: str) -> bool:
    status, console = await site.ask(f"/v1/consoles/{name}")
    return status == 200 and console["state"] == "up"


async def _why(site: Site, name: str) -> str:
    status, console = await site.ask(f"/v1/consoles/{name}")
    return str(console["why"]) if status == 200 and console["state"] == "waiting" else ""
