"""HashiCorp Vault and OpenBao: one field of one secret out of a KV store, or a key that may be exported, over HTTPS.

Called by the fetcher.  The token comes from a `Secret` (usually a file that an agent keeps fresh) or from a login with
the Kubernetes service account; when Vault refuses it, it is got anew, once, for all who want it (Vault HTTP API: "KV
secrets engine", "Transit secrets engine: export key", "Kubernetes auth method").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from consoled.core.secret import Secret, Secrets, SecretUnavailable
from consoled.fetch import Fetcher, Unreachable, is_private
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
    transit: str = "transit"
    """The path of the transit engine: what is below it is a key to export, not a secret of the KV store."""
    ca: FilePath = FilePath()
    """A PEM file of the authorities that may sign Vault's certificate.  Empty: the system's."""
    unsafe_plaintext: bool = False
    """Ask over plain HTTP: whoever sits between sees every password that is asked for."""

    def __post_init__(self) -> None:
        if not is_private(self.address) and not (self.unsafe_plaintext and self.address.startswith("http://")):
            raise ValueError("address: it must begin with https://, or be http:// and say unsafe_plaintext = true")
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
        self._secrets = secrets
        self._in_thread = in_thread
        self._http = Fetcher(reactor, ca=settings.ca, limit=LIMIT, largest=LARGEST)
        self._token = ""
        self._waiting: list[Deferred[str]] = []
        """Who wants a new token; a thousand consoles log in once."""

    def read(self, path: str, field: str) -> Deferred[str]:
        """See `fetcher.Vault`."""
        return Deferred.fromCoroutine(self._read(path, field))

    async def _read(self, path: str, field: str) -> str:
        is_key = path.startswith(f"{self._settings.transit}/")
        is_wrapped = self._settings.version == 2 and not is_key
        if is_wrapped:
            mount, _, rest = path.partition("/")
            path = f"{mount}/data/{rest}"
        old = self._token
        token = old or await self._log_in()
        status, data = await self._get(path, token)
        if status == 403 and old:
            token = self._token if self._token != old else await self._log_in()
            status, data = await self._get(path, token)
        if status != 200:
            if status == 403 and self._token == token:
                self._token = ""
            raise SecretUnavailable(f"vault {path}: {_explanation(status)}")
        if is_wrapped:
            data = _table(data.get("data"))
        fields = {name.lower(): value for name, value in data.items()}
        value = fields.get(field.lower())
        if is_key and isinstance(value, dict):
            value = _newest(value)
        if not isinstance(value, str) or not value:
            raise SecretUnavailable(f"vault {path}: it has no field {field}")
        return value

    async def _get(self, path: str, token: str) -> tuple[int, dict[str, Any]]:
        status, answer = await self._ask("GET", path, {"X-Vault-Token": token})
        return status, _table(answer.get("data"))

    # ------------------------------------------------------------------------------------------- the token

    def _log_in(self) -> Deferred[str]:
        """A new token."""
        answer: Deferred[str] = Deferred(lambda cancelled: self._waiting.remove(cancelled))
        self._waiting.append(answer)
        if len(self._waiting) == 1:
            Deferred.fromCoroutine(self._new_token()).addBoth(self._logged_in)
        return answer

    def _logged_in(self, result: str | Failure) -> None:
        waiting, self._waiting = self._waiting, []
        if not isinstance(result, Failure):
            self._token = result
        for answer in waiting:
            if isinstance(result, Failure):
                answer.errback(result)
            else:
                answer.callback(result)

    async def _new_token(self) -> str:
        if self._settings.token is not None:
            return str(await self._secrets.fetch(self._settings.token, fresh=True))
        login = self._settings.kubernetes
        assert login is not None
        service_account = await self._in_thread(_read_file, login.token)
        body = msgspec.json.encode({"jwt": service_account, "role": login.role})
        status, answer = await self._ask(
            "POST", f"auth/{login.mount}/login", {"Content-Type": "application/json"}, body
        )
        token = _table(answer.get("auth")).get("client_token")
        if status != 200 or not isinstance(token, str):
            raise SecretUnavailable(f"vault: the login as role {login.role} failed: {_explanation(status)}")
        return token

    async def _ask(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> tuple[int, dict[str, Any]]:
        headers = {"X-Vault-Request": "true", **headers}
        if self._settings.namespace:
            headers["X-Vault-Namespace"] = self._settings.namespace
        url = f"{self._settings.address.rstrip('/')}/v1/{quote(path)}"
        try:
            status, content = await self._http.request(method, url, headers, body)
            return status, _table(msgspec.json.decode(content) if status == 200 else None)
        except Unreachable as error:
            raise SecretUnavailable(f"vault {path}: {str(error).removeprefix(f'{url}: ')}") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise SecretUnavailable(f"vault {path}: the answer is not JSON") from None


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _newest(versions: dict[str, Any]) -> Any:
    """Of the versions of a key, by their numbers, the last; None if there is none."""
    numbers = [int(number) for number in versions if number.isdecimal()]
    return versions[str(max(numbers))] if numbers else None


def _read_file(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:  # noqa: PTH123
            return file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SecretUnavailable(f"vault: {path}: {getattr(error, 'strerror', None) or 'not text'}") from None


def _explanation(status: int) -> str:
    return {403: "permission denied", 404: "no such secret", 503: "Vault is sealed"}.get(status, f"status {status}")
