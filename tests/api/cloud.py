"""A data centre of Triton's around the world of consoles: its accounts and keys, VMAPI, CNAPI and mahi, its servers."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet.defer import Deferred

from consoled.auth.accounts import AccountsFile, fingerprints
from consoled.auth.gate import Gate
from consoled.auth.mahi import Mahi
from consoled.auth.roles import ROLES
from consoled.auth.signed_requests import SignedRequests
from consoled.auth.tenants import FirstTenants, TenantTable
from consoled.backends.chronicle import Chronicle
from consoled.backends.link import Link
from consoled.backends.settings import ConsoleSettings
from consoled.backends.triton import Find, TritonBackend
from consoled.backends.turns import Turns
from consoled.core import access
from consoled.core.console import Console
from consoled.fetch import Unreachable
from consoled.triton import Triton
from tests.api.wire import Client, Headers
from tests.api.world import ACME, MACHINES, TENANTS, World
from tests.backends.stream_fakes import Network, Wire
from tests.fakes import FakeTranscript

GLOBEX = "4c62e7b0-6a3f-4b2e-9a55-0a4f1f2d3c4b"
CLOSED = "0f1e2d3c-4b5a-4968-8776-655443322110"
ROOT = "00000000-0000-4000-8000-000000000001"
"""Other accounts: one is disabled, one is an operator's."""
X1 = MACHINES["x1"]
"""A machine whose console is configured."""
DB = "c0ffee00-1234-4567-89ab-0123456789ab"
FOREIGN = "deadbeef-1234-4567-89ab-0123456789ab"
"""Machines that are found, acme's and globex's."""
SERVER = "564d1b5c-2f2c-4b4d-8f1d-7d3f3c1a9d5e"
ROLE = "0a1b2c3d-0000-4000-8000-000000000001"
"""A role of acme's, as mahi and VMAPI know it."""

KEYS: dict[str, Any] = {
    "rsa": rsa.generate_private_key(65537, 2048),
    "ecdsa": ec.generate_private_key(ec.SECP256R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
    "globex": rsa.generate_private_key(65537, 2048),
    "bob": ed25519.Ed25519PrivateKey.generate(),
    "stranger": rsa.generate_private_key(65537, 2048),
}
HASHES: dict[str, Any] = {"sha1": SHA1(), "sha256": SHA256(), "sha384": SHA384(), "sha512": SHA512()}
ALGORITHMS = {"rsa": "rsa-sha256", "ecdsa": "ecdsa-sha256", "ed25519": "ed25519-sha512"}


def ssh(key: str) -> str:
    return KEYS[key].public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def pem(key: str) -> str:
    return KEYS[key].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def md5(key: str) -> str:
    return fingerprints(KEYS[key].public_key())[0]


def sign(key: str, algorithm: str, text: str) -> str:
    private, name = KEYS[key], algorithm.partition("-")[2]
    if isinstance(private, rsa.RSAPrivateKey):
        signature = private.sign(text.encode(), padding.PKCS1v15(), HASHES[name])
    elif isinstance(private, ec.EllipticCurvePrivateKey):
        signature = private.sign(text.encode(), ec.ECDSA(HASHES[name]))
    else:
        signature = private.sign(text.encode())
    return base64.b64encode(signature).decode()


FILE = f"""
[[account]]
login = "acme"
uuid = "{ACME}"
keys = ["{ssh("rsa")}", {{ name = "ec key", key = "{ssh("ecdsa")}" }}, "{ssh("ed25519")}"]

    [[account.role]]
    name = "ops"
    rules = ["CAN connectmachineconsole"]
    machines = ["{X1}"]
    [[account.role]]
    name = "watch"
    rules = ["CAN tailmachineconsole"]
    [[account.role]]
    name = "other"
    rules = ["CAN rebootmachine"]

    [[account.user]]
    login = "bob"
    keys = ["{ssh("bob")}"]
    roles = ["ops", "watch", "other"]
    default_roles = ["other"]

[[account]]
login = "globex"
uuid = "{GLOBEX}"
keys = ["{ssh("globex")}"]

[[account]]
login = "closed"
uuid = "{CLOSED}"
enabled = false
keys = ["{ssh("rsa")}"]

[[account]]
login = "root"
uuid = "{ROOT}"
operator = true
keys = ["{ssh("rsa")}"]
"""


class Services:
    """VMAPI, CNAPI and mahi: what they answer, and how badly.  As `fetch.Fetcher` they give up after three seconds."""

    def __init__(self, cloud: Cloud) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, Any] = {}
        """By a part of the URL: JSON, or status and JSON, or bytes."""
        self.silent: set[str] = set()
        """Services that give no answer."""
        self.down: set[str] = set()
        """Services that take no connection."""
        self.waiting: list[tuple[Deferred[Any], str]] = []
        """Questions that wait for the test, if it has made them."""
        self.late = False
        self._cloud = cloud

    def get(self, url: str, headers: Any = None) -> Deferred[tuple[int, bytes]]:
        self.asked.append(url)
        service = url.removeprefix("http://").partition("/")[0]
        asked: Deferred[tuple[int, bytes]] = Deferred()
        if service in self.down:
            asked.errback(Unreachable(f"{url}: secret-address refused"))
        elif service in self.silent:
            asked.addTimeout(3.0, self._cloud.clock, _too_late)
        elif self.late:
            self.waiting.append((asked, url))
        else:
            asked.callback(self._answer(url))
        return asked

    def answer(self) -> None:
        """Let the oldest question have its answer."""
        asked, url = self.waiting.pop(0)
        asked.callback(self._answer(url))

    def _answer(self, url: str) -> tuple[int, bytes]:
        for part, answer in self.answers.items():
            if part in url:
                status, body = answer if isinstance(answer, tuple) else (200, answer)
                return status, body if isinstance(body, bytes) else json.dumps(body).encode()
        return 404, b'{"code":"ResourceNotFound","message":"VM not found"}'


def _too_late(result: Any, limit: float) -> Any:
    raise Unreachable(f"no answer within {limit:g} s")


def vm(uuid: str = DB, owner: str = ACME, **more: Any) -> dict[str, Any]:
    """VMAPI's record of a machine."""
    return {"uuid": uuid, "owner_uuid": owner, "state": "running", "brand": "kvm", "server_uuid": SERVER, **more}


class Cloud(World):
    """One consoled in front of it.  `x1` is a configured console's machine, `DB` a found one."""

    def __init__(self, directory: Path, net: Network) -> None:
        super().__init__(directory, net.reactor)
        self.net = net
        self.services = Services(self)
        self.services.answers = {
            f"/vms/{DB}?owner_uuid={ACME}": vm(),
            f"/vms/{FOREIGN}?owner_uuid={GLOBEX}": vm(FOREIGN, GLOBEX),
            f"/servers/{SERVER}/vms/{DB}/console": {"host": "10.0.0.5", "port": 45678, "type": "socket"},
        }
        self.triton = Triton(self.services, "http://vmapi", "http://cnapi")
        self.file = directory / "accounts.toml"
        self.file.write_text(FILE)
        self.accounts = AccountsFile(self.file, self.clock)
        self.links: dict[str, Link] = {}
        self.found_consoles: list[Console] = []

    def with_mahi(self) -> Cloud:
        """Start over, with accounts from mahi."""
        self.accounts = Mahi(self.services, "http://mahi", self.clock)
        self.services.answers |= {
            "/accounts?login=acme": {"account": self.account("acme", ACME, "rsa"), "roles": {}},
            "/accounts?login=globex": {"account": self.account("globex", GLOBEX, "globex"), "roles": {}},
            "/users?account=acme&login=bob&fallback=false": {
                "account": self.account("acme", ACME, "rsa"),
                "user": {"uuid": "u", "login": "bob", "keys": {md5("bob"): pem("bob")}, "roles": [ROLE]}
                | {"defaultRoles": [ROLE]},
                "roles": {ROLE: {"name": "ops", "rules": [["CAN connectmachineconsole", {"effect": True}]]}},
            },
        }
        self.begin()
        return self

    @staticmethod
    def account(login: str, uuid: str, key: str) -> dict[str, Any]:
        return {"uuid": uuid, "login": login, "groups": [], "keys": {md5(key): pem(key)}, "isOperator": False}

    def make_gate(self) -> access.Gate:
        assert self.accounts is not None
        checkers = [self.tokens, self.tickets, SignedRequests(self.accounts, "operator", self.machines.tags)]
        return Gate(checkers, ROLES, FirstTenants([TenantTable(TENANTS), self.machines]), self.audit, self.now)

    def found(self, settings: ConsoleSettings, find: Find) -> Deferred[Any]:
        console = Console(settings.name, FakeTranscript(), self.clock, self.now, on_demand=True, linger=settings.linger)
        backend = TritonBackend(settings, find, self.clock)
        turns, chronicle = Turns(self.clock, 8, 8), Chronicle(self.clock)
        console.link = Link(settings, backend, console, self.clock, self.now, lambda: 0.0, turns, chronicle)
        self.found_consoles.append(console)
        made: Deferred[Any] = Deferred()
        self.clock.callLater(0, made.callback, (console, backend))
        return made

    # Time.

    def turn(self, seconds: float = 0.0) -> None:
        """Let so much time pass, and everything that is due happen."""
        for _ in range(4):
            self.clock.advance(0)
        if seconds:
            self.clock.advance(seconds)
            self.turn()

    def date(self, offset: float = 0.0) -> str:
        return format_datetime(datetime.fromtimestamp(self.now() + offset, UTC), usegmt=True)

    # Requests.

    def signed(
        self,
        path: str,
        key: str = "rsa",
        *,
        key_id: str = "",
        algorithm: str = "",
        names: str | None = "(request-target) date",
        date: str | None = None,
        method: str = "get",
        target: str = "",
        change: Callable[[str], str] = lambda text: text,
        dated: str = "date",
    ) -> list[tuple[str, str]]:
        """The headers of a request for `path`; `target` is what is signed, where that differs."""
        when = self.date() if date is None else date
        algorithm = algorithm or ALGORITHMS.get(key, "ed25519-sha512" if key == "bob" else "rsa-sha256")
        who = {"globex": "globex", "bob": "acme/users/bob"}.get(key, "acme")
        key_id = key_id or f"/{who}/keys/{md5(key)}"
        known = {"(request-target)": f"{method} {target or path}", dated: when, "host": "consoled"}
        text = "\n".join(f"{name}: {known[name]}" for name in (names or dated).split(" "))
        said = "" if names is None else f'headers="{names}",'
        value = f'keyId="{key_id}",algorithm="{algorithm}",{said}signature="{sign(key, algorithm, text)}"'
        return [(dated.title(), when), ("Authorization", change(f"Signature {value}"))]

    def presigned(
        self, path: str, key: str = "rsa", *, expires: float = 60, methods: str | None = None, **more: str
    ) -> str:
        """The URL of `path`, signed as smartdc-auth does."""
        query = {
            "algorithm": ALGORITHMS.get(key, "rsa-sha256").upper(),
            "expires": str(int(self.now() + expires)),
            "keyId": f"/acme/keys/{md5(key)}",
            **({} if methods is None else {"method": methods}),
            **more,
        }
        text = "&".join(f"{quote(name, safe='~')}={quote(query[name], safe='~')}" for name in sorted(query))
        head = f"{methods or 'GET'}\nconsoled\n{path}\n"
        signature = sign(key, query["algorithm"].lower(), head + text)
        return f"{path}?{text}&signature={quote(signature, safe='')}"

    def get(self, path: str, headers: Headers = (), method: str = "GET") -> Any:
        """A plain request's answer."""
        client = self.client()
        client.request(path, headers, method)
        self.turn()
        return client.answer(method)

    def attach(self, path: str, headers: Headers | None = None, **options: Any) -> Client:
        """A client that has asked for an upgrade, signed with acme's key unless `headers` are given."""
        client = self.client()
        client.upgrade(path, self.signed(path) if headers is None else headers, **options)
        self.turn()
        client.receive()
        return client

    def piped(
        self, path: str = f"/acme/machines/{X1}/console", headers: Headers | None = None, **options: Any
    ) -> Client:
        """A client that is in."""
        client = self.attach(path, headers, **options)
        assert client.is_open, client.refusal
        return client

    def connected(
        self, path: str = f"/acme/machines/{DB}/console", headers: Headers | None = None
    ) -> tuple[Client, Wire]:
        """A client of a found machine, and the machine's end of the connection to it."""
        client = self.piped(path, headers)
        wire = self.net.accept()
        self.turn()
        return client, wire

    def sweep(self) -> None:
        """A minute has passed."""
        Deferred.fromCoroutine(self.machines.sweep())
        self.turn()

    # What was written down.

    def counted(self, name: str, **labels: str) -> float:
        return self.meters.registry.get_sample_value(f"consoled_{name}", labels) or 0.0

    @property
    def attempts(self) -> list[Any]:
        return self.audited("ConnectMachineConsole")

    def statuses(self) -> Counter[int]:
        return Counter(attempt["statusCode"] for attempt in self.attempts)


def body(data: list[str | bytes]) -> bytes:
    """Binary messages as one."""
    assert all(isinstance(piece, bytes) for piece in data), data
    return b"".join(data)  # type: ignore[arg-type]


def refused(answer: Any, status: int, code: str) -> None:
    """The answer is a whole error of restify's."""
    assert (answer.status, answer.json["code"]) == (status, code), answer
    assert set(answer.json) == {"code", "message"}
    assert answer.json["message"]
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert answer.headers["api-version"] == "9.0.0"
    assert answer.headers["request-id"]
