"""The terms: what one configuration says of who may come in, made into parts.

`daemon` makes them at start and for each reload, whole or not at all, before anything is changed; `reception` takes
them up.  Parts that know something which was dear to learn (keys that were fetched, what a tenant service has answered)
are taken over from the terms before, where what is said of them is the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.cred.checkers import AllowAnonymousAccess, ICredentialsChecker
from twisted.internet.defer import Deferred

from consoled.api.origin import Origins
from consoled.api.proxies import Proxies
from consoled.auth.accounts import Accounts, AccountsFile
from consoled.auth.certificates import Certificates
from consoled.auth.jwks import Keys
from consoled.auth.jwt_settings import JwtSettings
from consoled.auth.jwt_tokens import JwtTokens, make_keys
from consoled.auth.mahi import Mahi
from consoled.auth.roles import make_roles
from consoled.auth.signed_requests import SignedRequests
from consoled.auth.tapms import TenantService
from consoled.auth.tenants import FirstTenants, Tenants, TenantTable
from consoled.auth.tickets import Tickets
from consoled.auth.tokens import TokensFile
from consoled.config import Config
from consoled.core.secret import Secrets
from consoled.fetch import Fetcher
from consoled.listening.contexts import Contexts
from consoled.machines import ByMachine, Machines, by_machine
from consoled.secrets import fetcher
from consoled.secrets.vault import KeyValueStore
from consoled.triton import Triton

_ANYBODY = AllowAnonymousAccess()


@dataclass(frozen=True, slots=True)
class Standing:
    """What the terms refer to, and outlives them."""

    reactor: Any
    in_thread: Callable[..., Deferred[Any]]
    secrets: Secrets
    tickets: Tickets
    machines: Machines


class Terms:
    """All of them."""

    def __init__(self, config: Config, standing: Standing, before: Terms | None = None) -> None:
        """Raises `ValueError` that names the key of what cannot be made."""
        self.config = config
        self._standing = standing
        self._reactor = standing.reactor
        self._before = before
        self.vault = self._vault()
        self.contexts = Contexts(config.tls, time.time) if config.tls is not None else None
        with _naming("http.trusted_proxies"):
            self.proxies = Proxies(config.http.trusted_proxies)
        with _naming("http.origins"):
            self.origins = Origins(config.http.origins, is_open=config.auth is None)
        self.roles = make_roles(config.role, config.groups, None if config.tapms else config.tenants)
        self.accounts: Accounts | None = None
        self.triton: Triton | None = None
        self.by_machine: ByMachine = {}
        if config.cloudapi is not None:
            with _naming("cloudapi"):
                self._make_cloudapi()
        self.tokens: TokensFile | None = None
        self.keys: list[tuple[JwtSettings, Keys]] = []
        self.jwt: JwtTokens | None = None
        self.checkers: Sequence[ICredentialsChecker] = self._make_checkers()
        self.tapms: TenantService | None = None
        self.tenants = self._make_tenants()
        self._before = None  # or each would hold all that ever were

    def start(self) -> None:
        """Begin to ask for what has to be asked for."""
        if self.jwt is not None:
            self.jwt.start()

    def stop(self) -> None:
        """Ask no more."""
        if self.jwt is not None:
            self.jwt.stop()

    @property
    def trouble(self) -> str | None:
        """What is wrong with them, for people; None if nothing is."""
        accounts = self.accounts if isinstance(self.accounts, AccountsFile) else None
        parts = (self.tokens, self.jwt, self.tapms, self.contexts, accounts)
        return "; ".join(part.trouble for part in parts if part is not None and part.trouble) or None

    # ------------------------------------------------------------------------------------------- its making

    def _vault(self) -> KeyValueStore | None:
        settings, before = self.config.vault, self._before
        if settings is None:
            return None
        if before is not None and before.config.vault == settings:
            return before.vault
        in_thread = self._standing.in_thread
        # Its own token is in no vault.
        token = fetcher.Fetcher(self._reactor, in_thread, os.environ)
        with _naming("vault"):
            return KeyValueStore(settings, self._reactor, token, in_thread)

    def _make_cloudapi(self) -> None:
        settings, before = self.config.cloudapi, self._before
        assert settings is not None
        http = Fetcher(self._reactor, ca=settings.ca)
        was = before.config.cloudapi if before is not None else None
        if settings.mahi:
            if before is not None and was is not None and (was.mahi, was.ca) == (settings.mahi, settings.ca):
                self.accounts = before.accounts
            else:
                self.accounts = Mahi(http, settings.mahi, self._reactor)
        elif settings.accounts:
            self.accounts = AccountsFile(Path(settings.accounts), self._reactor)
        if settings.vmapi:
            self.triton = Triton(http, settings.vmapi, settings.cnapi)
        self.by_machine = by_machine(self.config.consoles)

    def _make_checkers(self) -> list[ICredentialsChecker]:
        auth, cloudapi, roles = self.config.auth, self.config.cloudapi, self.roles
        if auth is None:
            return [_ANYBODY]
        checkers: list[ICredentialsChecker] = [self._standing.tickets]
        if auth.tokens:
            with _naming("auth.tokens"):
                self.tokens = TokensFile(Path(auth.tokens), roles, self._reactor)
            checkers.append(self.tokens)
        if auth.jwt:
            for at, issuer in enumerate(auth.jwt):
                with _naming(f"auth.jwt[{at}]"):
                    self.keys.append((issuer, self._keys(issuer)))
            self.jwt = JwtTokens(self.keys, roles, time.time)
            checkers.append(self.jwt)
        if auth.certificate and self.contexts is not None:
            checkers.append(Certificates(auth.certificate, roles, self.contexts.is_revoked))
        if cloudapi is not None and self.accounts is not None:
            if cloudapi.role not in roles:
                raise ValueError(f"cloudapi.role: there is no role {cloudapi.role!r}")
            checkers.append(SignedRequests(self.accounts, cloudapi.role, self._standing.machines.tags))
        return checkers

    def _keys(self, issuer: JwtSettings) -> Keys:
        """The keys of one issuer; those that were fetched are kept, while they come from where they came from."""
        made = make_keys(issuer, self._reactor)
        if issuer.key_files or self._before is None:
            return made
        kept = (keys for settings, keys in self._before.keys if settings.source == issuer.source)
        return next(kept, made)

    def _make_tenants(self) -> Tenants:
        sources: list[Tenants] = [TenantTable(self.config.tenants)]
        if self.config.cloudapi is not None:
            sources.append(self._standing.machines)
        settings, before = self.config.tapms, self._before
        if settings is not None:
            with _naming("tapms"):
                http = Fetcher(self._reactor, ca=settings.ca, fingerprint=settings.fingerprint)
            if before is not None and before.config.tapms == settings:
                self.tapms = before.tapms
            else:
                self.tapms = TenantService(settings, http, self._standing.secrets, self._reactor)
            assert self.tapms is not None
            sources.append(self.tapms)
        return FirstTenants(sources)


@contextmanager
def _naming(key: str) -> Iterator[None]:
    """What cannot be made is a `ValueError` that begins with the `key` it comes from."""
    try:
        yield
    except OSError as error:
        why = f"{error.filename}: {error.strerror}" if error.filename else error
        raise ValueError(f"{key}: {why}") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{key}: {error}") from None
