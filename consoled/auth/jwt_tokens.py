"""JSON Web Tokens (RFC 7519) as bearer tokens: who it is that an identity provider vouches for, and for how long.

One checker of the gate's portal, for all providers that are configured.  What a token says of itself decides nothing
but which issuer's rules it is held to: how it may be signed is configured, keys are the issuer's own (`jwks`), and each
key checks only the signatures that it is for (`jwk`).  What the claims are worth is `claims`.  RFC 8725 is the list of
what goes wrong with such tokens; `tests/auth/test_jwt_attacks.py` tries it.

The whole reason of a refusal goes to the audit log.  It never has any of the token in it but its `kid`, `alg`, `typ`
and `iss`, cut and escaped, without which nobody could find out what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
from jwt.api_jws import PyJWS
from jwt.exceptions import PyJWTError
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from consoled.auth.claims import ClaimError, name, rights
from consoled.auth.credentials import BearerToken, IBearerToken
from consoled.auth.gateway import Gateway
from consoled.auth.jwk import ALGORITHMS, Key
from consoled.auth.jwks import FetchedKeys, Keys, from_discovery, from_url
from consoled.auth.jwt_settings import JwtSettings
from consoled.auth.key_files import KeyFiles
from consoled.core.access import Unauthenticated, User
from consoled.fetch import Fetcher

LONGEST_KID: Final = 256

_TYPES: Final = {"jwt", "at+jwt"}
_YEAR_10000: Final = 253402300800
_JWS: Final = PyJWS(algorithms=sorted(ALGORITHMS))


@dataclass(frozen=True, slots=True)
class _Token:
    """A token taken apart.  Nothing in it is true yet."""

    header: dict[str, Any] = field(repr=False)
    claims: dict[str, Any] = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: bytes) -> _Token:
        """Raises `UnauthorizedLogin` for what is no signed token (JWS compact serialization, RFC 7515)."""
        try:
            parts = _JWS.decode_complete(text, options={"verify_signature": False})
            claims = msgspec.json.decode(parts["payload"])
        except (PyJWTError, ValueError, RecursionError):
            claims = None
        if not isinstance(claims, dict):
            raise UnauthorizedLogin("no JSON Web Token")
        return cls(parts["header"], claims, text.rpartition(b".")[0], parts["signature"])


@implementer(ICredentialsChecker)
class JwtTokens:
    """Lets in whomever one of its issuers vouches for."""

    credentialInterfaces = (IBearerToken,)
    _log = Logger()

    def __init__(
        self, issuers: Sequence[tuple[JwtSettings, Keys]], roles: Collection[str], now: Callable[[], float]
    ) -> None:
        """`now`: the wall clock.  Raises `ValueError` that names the key."""
        self._issuers: dict[str, _Issuer] = {}
        self._keys = [keys for _, keys in issuers]
        self._warnings: list[str] = []
        for at, (settings, keys) in enumerate(issuers):
            for index, grant in enumerate(settings.grant):
                for role in grant.map.values():
                    if role not in roles:
                        known = ", ".join(sorted(roles))
                        raise ValueError(f"auth.jwt[{at}].grant[{index}].map: {role!r} is not a role ({known})")
            issuer = _Issuer(settings, keys, now)
            for text in settings.issuers:
                if text in self._issuers:
                    raise ValueError(f"auth.jwt[{at}].issuers: {text!r} is there already")
                self._issuers[text] = issuer
            if settings.trusted_gateway:
                self._warnings.append(
                    f"auth.jwt[{at}].trusted_gateway: whoever connects from {', '.join(settings.trusted_gateway)} "
                    f"is believed to be whom a token of {settings.issuers[0]} names, whether it is signed or not"
                )
            if settings.unsafe_plaintext:
                self._warnings.append(
                    f"auth.jwt[{at}].unsafe_plaintext: whoever sits between here and {settings.issuers[0]} "
                    "may sign tokens"
                )

    def become(self, other: JwtTokens) -> None:
        """See `gate.Renewable`.  Keys that it has no use for are not asked for any more."""
        for keys in self._keys:
            if keys not in other._keys:
                keys.stop()
        self._issuers, self._keys, self._warnings = other._issuers, other._keys, other._warnings

    def start(self) -> None:
        """Begin to ask for the keys; wait for nothing."""
        for warning in self._warnings:
            self._log.warn("{warning}", warning=warning)
        for keys in self._keys:
            keys.start()

    def stop(self) -> None:
        """Ask no more."""
        for keys in self._keys:
            keys.stop()

    @property
    def trouble(self) -> str | None:
        """Whose keys may be out of date, for people; None if nobody's."""
        return "; ".join(keys.trouble for keys in self._keys if keys.trouble) or None

    def requestAvatarId(self, credentials: BearerToken) -> Any:  # cred's own annotation knows ids of bytes only
        """The `User` it is.  Fails with `UnauthorizedLogin`, `Unauthenticated` or `CannotKnow`."""
        return Deferred.fromCoroutine(self._user(credentials))

    async def _user(self, credentials: BearerToken) -> User:
        token, peer = _Token.parse(credentials.value), credentials.peer
        key = await self._issuer(token.claims).key(token, peer)
        return self._known(token.header, token.claims, key, peer)

    def _issuer(self, claims: dict[str, Any]) -> _Issuer:
        named = claims.get("iss")
        issuer = self._issuers.get(named) if isinstance(named, str) else None
        if issuer is None:
            raise UnauthorizedLogin(f"the issuer {_shown(named)} is not one of ours")
        return issuer

    def _known(self, header: dict[str, Any], claims: dict[str, Any], key: Key | None, peer: str) -> User:
        """Whom a token stands for that `key` has signed, or a gateway at `peer` vouches for."""

        def again() -> User:
            self._issuer(claims).check(key, peer)
            return self._known(header, claims, key, peer)

        return replace(self._issuer(claims).user(header, claims, key), again=again)


def make_keys(settings: JwtSettings, reactor: Any) -> Keys:
    """The keys that `settings` mean; nothing is asked before their `start`.  Raises `OSError` or `ValueError`."""
    if settings.key_files:
        return KeyFiles(settings.key_files, reactor)
    fetcher = Fetcher(reactor, ca=settings.ca, fingerprint=settings.fingerprint)
    if settings.jwks_url:
        fetch = from_url(fetcher, settings.jwks_url)
    else:
        issuers = settings.issuers if settings.discovery_url else settings.issuers[:1]
        fetch = from_discovery(fetcher, settings.discovery, issuers, settings.unsafe_plaintext)
    return FetchedKeys(fetch, reactor, refresh=settings.refresh, stale=settings.stale, issuer=settings.issuers[0])


class _Issuer:
    """One provider's rules."""

    def __init__(self, settings: JwtSettings, keys: Keys, now: Callable[[], float]) -> None:
        self._settings = settings
        self._keys = keys
        self._now = now
        self._gateway = Gateway(settings.trusted_gateway)

    async def key(self, token: _Token, peer: str) -> Key | None:
        """The key that has signed `token`, or None if a gateway at `peer` vouches for it.

        Raises `Unauthenticated` or `CannotKnow`.
        """
        algorithm, kid = self._header(token.header)
        if self._gateway.vouches(peer):
            return None
        key = await self._keys.find(kid, algorithm)
        if not key.signed(algorithm, token.signed, token.signature):
            raise Unauthenticated(f"the signature is not by the key {_shown(kid)}")
        return key

    def check(self, key: Key | None, peer: str) -> None:
        """Raise `Unauthenticated` unless `key` or the gateway at `peer` still counts."""
        if key is None and not self._gateway.vouches(peer):
            raise Unauthenticated("the gateway that vouched for the token is not believed any more")
        if key is not None and not self._keys.holds(key):
            raise Unauthenticated("the key that signed the token has been withdrawn")

    def user(self, header: dict[str, Any], claims: dict[str, Any], key: Key | None) -> User:
        """Whom such a token, signed by `key`, stands for.  Raises `Unauthenticated`."""
        self._header(header)
        self._is_for_us(claims)
        expires = self._in_time(claims)
        try:
            who = name(self._settings.name, claims)
            granted = rights(self._settings.grant, claims)
        except ClaimError as error:
            raise Unauthenticated(str(error)) from None

        return User(
            who,
            granted.roles,
            granted.tenants,
            proof=f"jwt {claims['iss']}" if key is not None else f"gateway {claims['iss']}",
            expires=expires,
            must_name_tenant=granted.must_name_tenant,
        )

    def _header(self, header: dict[str, Any]) -> tuple[str, str | None]:
        """The algorithm, if it may be used, and the key's name.  Keys and URLs of keys in the header are not read."""
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self._settings.algorithms:
            raise Unauthenticated(f"the algorithm {_shown(algorithm)} is not allowed")
        if "crit" in header or "b64" in header:
            raise Unauthenticated("the token uses an extension (crit, b64)")
        if kid is not None and not (isinstance(kid, str) and len(kid) <= LONGEST_KID):
            raise Unauthenticated("the kid is no text, or too long")
        kind = header.get("typ", "JWT")
        if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in _TYPES:
            # A logout token or a proof of possession is signed by the same key (RFC 8725, section 3.11).
            raise Unauthenticated(f"the token's type {_shown(kind)} is not JWT")
        return algorithm, kid

    def _is_for_us(self, claims: dict[str, Any]) -> None:
        audience = claims.get("aud")
        audiences = [audience] if isinstance(audience, str) else audience if isinstance(audience, list) else []
        if not any(one in self._settings.audience for one in audiences if isinstance(one, str)):
            raise Unauthenticated("the token is for another audience")
        # What Keycloak calls the use of a token: `ID` and `Refresh` are not for showing to services.
        if str(claims.get("typ", "Bearer")).lower() != "bearer":
            raise Unauthenticated("the token is not an access token")
        if "cnf" in claims:
            raise Unauthenticated("the token is bound to a key (cnf), which has not been shown")

    def _in_time(self, claims: dict[str, Any]) -> float:
        """When it ends, leeway included.  Raises `Unauthenticated` unless now is between its beginning and its end."""
        now, leeway = self._now(), self._settings.leeway
        ends = _date(claims, "exp")
        if ends is None:
            raise Unauthenticated("the token has no exp")
        if now >= ends + leeway:
            raise Unauthenticated(f"the token expired {now - ends:.0f} s ago")
        for claim in ("nbf", "iat"):
            begins = _date(claims, claim)
            if begins is not None and now < begins - leeway:
                raise Unauthenticated(f"the token begins ({claim}) in {begins - now:.0f} s")
        return ends + leeway


def _date(claims: dict[str, Any], claim: str) -> float | None:
    """A NumericDate (RFC 7519, section 2), in seconds since the epoch."""
    value = claims.get(claim)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _YEAR_10000:
        raise Unauthenticated(f"the token's {claim} is no date")
    return float(value)


def _shown(value: Any) -> str:
    """Some of the header, for the audit log."""
    return ascii(value[:64]) if isinstance(value, str) else "of none" if value is None else "that is no text"
