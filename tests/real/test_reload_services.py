"""A reload of whom the daemon asks and believes: the tenant service, identity providers, Vault, client certificates.

Each time somebody who has nothing to do with it watches a node, and must not notice.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.auth.keycloak import jwk, private_key
from tests.auth.keycloak import sign as signed
from tests.auth.tapms import tenant
from tests.listening.pipe import client_context, write_pair
from tests.real import free_port
from tests.real.bare import Client, asking
from tests.real.operating import web
from tests.real.outside import TERMINATED, Daemon, Node, assert_begins, demo, eventually, numbered

pytestmark = pytest.mark.real

TOKEN = "the-long-token-of-olga"


class Site:
    """A daemon with one node that is watched by olga."""

    def __init__(self, home: Path) -> None:
        self.node = Node()
        self._home = home
        self._reloads = 0
        digest = sha256(TOKEN.encode()).hexdigest()
        (home / "tokens.toml").write_text(f'[[token]]\nname = "olga"\nsha256 = "{digest}"\nrole = "operator"\n')

    def start(self, config: str) -> None:
        config += self.node.toml("stays")
        self.daemon = Daemon(self._home, f'[hub]\nstate = "state"\n[auth]\ntokens = "tokens.toml"\n{config}')
        self.daemon.start()
        self.node.accept()
        self._watching = self.attach("stays", lines=1000)

    def attach(self, name: str, verb: str = "tail", token: str = TOKEN, lines: int = 0, **headers: str) -> Client:
        """Raises `ConnectionError` when it is not let in."""
        more = {"Cray_Console_Lines": str(lines), "Cray_Console_Follow": "True", "Authorization": f"Bearer {token}"}
        return Client(self.daemon.port, asking(f"/console-operator/{verb}/{name}", **more | headers))

    def refuses(self, name: str, status: int, **who: str) -> None:
        with pytest.raises(ConnectionError, match=f"HTTP/1.1 {status} "):
            self.attach(name, **who).leave()

    def reload(self, before: str, after: str, taken_up: str) -> None:
        """Have `after` where `before` was; whoever watches the node sees it going on."""
        text = self.daemon.config.read_text()
        assert before in text
        fresh = self._home / "fresh"
        fresh.write_text(text.replace(before, after))
        fresh.replace(self.daemon.config)
        self.daemon.signal(signal.SIGHUP)
        eventually(lambda: self.daemon.log.count("reloaded: ") == self._reloads + 1)
        assert taken_up in self.daemon.log.rpartition("reloaded: ")[2]
        self.node.say(numbered(self._reloads, 1))
        self._watching.until(b"line %012d" % self._reloads)
        self._reloads += 1

    def end(self) -> None:
        assert not self.node.is_called
        assert self.daemon.terminate() == TERMINATED
        assert_begins(self.daemon.stream("stays"), self._watching.rest().seen)
        assert self.daemon.stream("stays").count(b" connected to") == 1
        assert "Traceback" not in self.daemon.log


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    try:
        yield site
        site.end()
    finally:
        with suppress(AttributeError):  # not started
            site.daemon.end()
            site._watching.leave()
        site.node.close()


def test_another_tenant_service(site: Site) -> None:
    nodes = {"/before/v1alpha3/tenants/blue": "n1", "/after/v1alpha3/tenants/blue": "n2"}
    with web(lambda path, headers: tenant("blue", nodes[path])) as url:
        site.start(f'[tapms]\nurl = "{url}/before"\n' + demo("n[1-2]", "chatter"))
        blue = {"Cray_Tenant_Name": "blue"}
        mine = site.attach("n1", **blue)
        site.refuses("n2", 403, **blue)
        site.reload("/before", "/after", "taken up: tapms")
        assert (mine.rest().closed or ())[0] == 4403
        site.attach("n2", **blue).leave()
        site.refuses("n1", 403, **blue)
        mine.leave()


def test_what_a_provider_says_is_worth_something_else_and_its_keys_are_elsewhere(site: Site) -> None:
    keys = {path: private_key("RSA", which) for which, path in enumerate(("/before", "/after"))}

    def token(path: str) -> str:
        now = int(time.time())
        claims = {"iss": "https://sso.example", "aud": "consoled", "sub": "ivan", "iat": now, "exp": now + 3600}
        return signed({**claims, "typ": "Bearer", "roles": ["ops"]}, keys[path], "RS256", kid=path)

    with web(lambda path, headers: {"keys": [jwk(keys[path], path, "RS256")]}) as url:
        site.start(
            f'[[auth.jwt]]\nissuers = ["https://sso.example"]\naudience = "consoled"\njwks_url = "{url}/before"\n'
            '[[auth.jwt.grant]]\nclaim = "roles"\nmap = { ops = "operator" }\n' + demo("n1", "chatter", interval="20ms")
        )
        typing, watching = (site.attach("n1", verb, token("/before")) for verb in ("interact", "tail"))
        site.reload('ops = "operator"', 'ops = "viewer"', "taken up: auth")
        assert (typing.rest().closed or ())[0] == 4403
        seen = len(watching.seen)
        watching.up_to(seen + 1000)
        site.reload("/before", "/after", "taken up: auth")
        assert (watching.rest().closed or ())[0] == 4401
        site.refuses("n1", 401, token=token("/before"))
        site.attach("n1", token=token("/after")).leave()
        for one in (typing, watching):
            one.leave()


def test_another_vault(site: Site, tmp_path: Path) -> None:
    wanted, found = "first", [{"name": "n1", "kind": "tcp", "address": "127.0.0.1:9"}]

    def vault(token: str) -> Callable[..., Any]:
        secret = {"data": {"data": {"token": token}, "metadata": {"version": 1}}}
        return lambda path, headers: secret if headers["X-Vault-Token"] == "s.abc" else None

    token_file = tmp_path / "vault.token"
    token_file.touch(0o600)
    token_file.write_text("s.abc")
    with (
        web(vault("first")) as first,
        web(vault("second")) as second,
        web(lambda path, headers: found if headers["Authorization"] == f"Bearer {wanted}" else None) as cmdb,
    ):
        site.start(
            f'[vault]\naddress = "{first}"\ntoken = {{ file = "vault.token" }}\n'
            f'[[source]]\nname = "cmdb"\nkind = "http"\nurl = "{cmdb}"\n'
            'token = { vault = "secret/cmdb", field = "token" }\n'
        )
        eventually(lambda: "reloaded: 1 added (n1)" in site.daemon.log)
        site._reloads = 1
        wanted = "second"
        found.append({"name": "n2", "kind": "tcp", "address": "127.0.0.1:9"})
        site.reload(first, second, "taken up: vault")
        site.daemon.signal(signal.SIGHUP)  # whoever asks a source by then has the secrets of the new one
        eventually(lambda: "reloaded: 1 added (n2)" in site.daemon.log)


def test_other_rules_for_certificates(site: Site, tmp_path: Path) -> None:
    authority, port = trustme.CA(), free_port()
    write_pair(tmp_path, "server", authority.issue_cert("localhost"))
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    site.start(
        f'[[auth.certificate]]\nemail = "*@lab.example"\nuser = "{{email}}"\nroles = ["viewer"]\n'
        f'[tls]\nlisten = ["tcp:{port}:interface=127.0.0.1"]\nclient_ca = "ca.pem"\n'
        'certificates = [{ certificate = "server.pem", key = "server.key" }]\n' + demo("n1", "chatter", interval="20ms")
    )
    context = client_context(authority, authority.issue_cert("eve@lab.example"))
    request = asking("/console-operator/tail/n1", Cray_Console_Follow="True")
    eve = Client(port, request, tls=context)
    site.reload('"*@lab.example"', '"*@office.example"', "taken up: auth")
    assert (eve.rest().closed or ())[0] == 4401
    with pytest.raises(ConnectionError, match="401 Unauthorized"):
        Client(port, request, tls=context)
    site.reload('"*@office.example"', '"eve@lab.example"', "taken up: auth")
    Client(port, request, tls=context).leave()
    eve.leave()
