"""HashiCorp Vault and OpenBao: one field of one secret out of a KV store, over HTTPS.

Called by the fetcher.  The token comes from a `Secret` (usually a file that an agent keeps fresh) or from a login with
the Kubernetes service account; when Vault refuses it, it is got anew, once (Vault HTTP API: "KV secrets engine",
"Kubernetes auth method").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec
from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from consoled.core.secret import Secret, Secrets, SecretUnavailable
from consoled.units import FilePath

LIMIT = 5.0
"""Seconds for one request."""
LARGEST = 1 << 20
"""Bytes of an answer."""


class Kubernetes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[vault.kubernetes]`: log in with the pod's service account."""

    role: str
    """Vault's role to log in as."""
    mount: str = "kubernetes"
    """The path of that way of logging in."""
    token: FilePath = FilePath("/var/run/secrets/kubernetes.io/serviceaccount/token")
    """The service account's token, read at each login."""


class VaultSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[vault]`."""

    address: str
    """`"https://vault.example.com:8200"`."""
    version: int = 2
    """Of the KV engine, 1 or 2."""
    token: Secret | None = None
    """What to show to Vault, usually a file that an agent keeps fresh.  Either this or `kubernetes`."""
    kubernetes: Kubernetes | None = None
    """Log in with the service account of a pod instead."""
    namespace: str = ""
    """Vault Enterprise and OpenBao: the namespace that all paths are in."""
    ca: FilePath = FilePath()
    """A PEM file of the authorities that may sign Vault's certificate.  Empty: the system's."""

    def __post_init__(self) -> None:
        if not self.address.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
            raise ValueError("address: it must begin with https:// (or be http:// on loopback)")
        if self.version not in (1, 2):
            raise ValueError("version: it must be 1 or 2")
        if (self.token is None) == (self.kubernetes is None):
            raise ValueError("one of token and kubernetes is needed, and not both")


class KeyValueStore:
    """A connection to one Vault."""

    def __init__(
        self, settings: VaultSettings, reactor: Any, secrets: Secrets, in_thread: Callable[..., Deferred[Any]]
    ) -> None:
        """`secrets` fetches the token.  Raises `OSError` or `ValueError` if the CA's file cannot be used."""
        self._settings = settings
        self._reactor = reactor
        self._secrets = secrets
        self._in_thread = in_thread
        pool = HTTPConnectionPool(reactor, persistent=False)
        self._http = HTTPClient(Agent(reactor, _Policy(settings.ca), connectTimeout=LIMIT, pool=pool))
        self._token = ""

    def read(self, path: str, field: str) -> Deferred[str]:
        """See `fetcher.Vault`."""
        return Deferred.fromCoroutine(self._read(path, field))

    async def _read(self, path: str, field: str) -> str:
        if self._settings.version == 2:
            mount, _, rest = path.partition("/")
            path = f"{mount}/data/{rest}"
        fresh = not self._token
        if fresh:
            self._token = await self._log_in()
        status, body = await self._get(path)
        if status == 403 and not fresh:
            self._token = await self._log_in()
            status, body = await self._get(path)
        if status != 200:
            if status == 403:
                self._token = ""
            raise SecretUnavailable(f"vault {path}: {_explanation(status)}")
        data = body.get("data")
        if self._settings.version == 2 and isinstance(data, dict):
            data = data.get("data")
        fields = {name.lower(): value for name, value in data.items()} if isinstance(data, dict) else {}
        value = fields.get(field.lower())
        if not isinstance(value, str) or not value:
            raise SecretUnavailable(f"vault {path}: it has no field {field}")
        return value

    async def _log_in(self) -> str:
        if self._settings.token is not None:
            return str(await self._secrets.fetch(self._settings.token, fresh=True))
        login = self._settings.kubernetes
        assert login is not None
        service_account = await self._in_thread(_read_file, login.token)
        body = {"jwt": service_account, "role": login.role}
        status, answer = await self._request("POST", f"auth/{login.mount}/login", body)
        auth = answer.get("auth")
        token = auth.get("client_token") if isinstance(auth, dict) else None
        if status != 200 or not isinstance(token, str):
            raise SecretUnavailable(f"vault: the login as role {login.role} failed: {_explanation(status)}")
        return token

    async def _get(self, path: str) -> tuple[int, dict[str, Any]]:
        return await self._request("GET", path, None)

    async def _request(self, method: str, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        headers = Headers({"X-Vault-Request": ["true"]})
        if body is None:
            headers.addRawHeader("X-Vault-Token", self._token)
        if self._settings.namespace:
            headers.addRawHeader("X-Vault-Namespace", self._settings.namespace)
        url = f"{self._settings.address.rstrip('/')}/v1/{quote(path)}"
        try:
            response = await self._http.request(
                method, url, headers=headers, json=body, timeout=LIMIT, allow_redirects=False, reactor=self._reactor
            )
            content = bytearray()

            def collect(data: bytes) -> None:
                content.extend(data)
                if len(content) > LARGEST:
                    raise ValueError("the answer is too large")

            await response.collect(collect).addTimeout(LIMIT, self._reactor)
            answer = msgspec.json.decode(content) if content else {}
        except Exception as error:
            # Whatever it is, its text goes to operators: the kind of error, and none of what was sent.
            raise SecretUnavailable(f"vault {path}: {type(error).__name__}") from None
        return response.code, answer if isinstance(answer, dict) else {}


@implementer(IPolicyForHTTPS)
class _Policy:
    """Certificates are always checked: name by service-identity, authority against the CA's file or the system's."""

    def __init__(self, ca: str) -> None:
        self._trust = None
        if ca:
            with open(ca, encoding="ascii") as file:  # noqa: PTH123
                blocks = file.read().split("-----END CERTIFICATE-----")[:-1]
            if not blocks:
                raise ValueError(f"vault.ca: there is no certificate in {ca}")
            pem = [f"{block}-----END CERTIFICATE-----\n" for block in blocks]
            self._trust = trustRootFromCertificates([Certificate.loadPEM(one.encode()) for one in pem])

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        if self._trust is None:
            return optionsForClientTLS(hostname.decode("ascii"))
        return optionsForClientTLS(hostname.decode("ascii"), trustRoot=self._trust)


def _read_file(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:  # noqa: PTH123
            return file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SecretUnavailable(f"vault: {path}: {getattr(error, 'strerror', None) or 'not text'}") from None


def _explanation(status: int) -> str:
    return {403: "permission denied", 404: "no such secret", 503: "Vault is sealed"}.get(status, f"status {status}")
