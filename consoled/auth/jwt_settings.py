"""`[[auth.jwt]]`: whose tokens are taken, how they must be signed, and what their claims are worth.

Read by `config`; `jwt_tokens` is what it configures.  `docs/auth-jwt.md` is the reference.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from consoled.auth.claims import ClaimPath, Grant, TenantClaim
from consoled.auth.gateway import Gateway
from consoled.auth.jwk import ALGORITHMS
from consoled.auth.jwks import check_url
from consoled.units import Duration, FilePath

MOST_LEEWAY: Final = 60.0
LONGEST_STALE: Final = 24 * 3600.0


class JwtSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One identity provider."""

    preset: Literal["csm"] | None = None
    """Whose settings hold where nothing else is said."""
    issuers: tuple[str, ...] = ()
    """What `iss` may be: the names of one issuer, for all of which its keys sign."""
    audience: str | tuple[str, ...] = ()
    """What `aud` must be or have among others; one of them, if there are several."""
    algorithms: tuple[str, ...] = ("RS256",)
    """What a token may be signed by."""
    jwks_url: str = ""
    """Where the keys are.  Without it and `key_files` they are found by discovery."""
    discovery_url: str = ""
    """Where the discovery document is, if not at the first issuer's /.well-known/openid-configuration."""
    key_files: tuple[FilePath, ...] = ()
    """Files with the keys: JWK sets, public keys or certificates in PEM."""
    ca: FilePath = FilePath()
    """A PEM file of the authorities that may sign the provider's certificate.  Empty: the system's."""
    fingerprint: str = ""
    """The SHA-256 of the provider's certificate, in hex: then neither authority nor name count."""
    unsafe_plaintext: bool = False
    """Ask for keys over plain HTTP: whoever sits between may put in keys of his own."""
    refresh: Duration = Duration(300)
    """How often the keys are asked for; 10 s to a day."""
    stale: Duration = Duration(3600)
    """How long keys are good when they cannot be asked for; 60 s to a day, and not less than `refresh`."""
    leeway: Duration = Duration(10)
    """By how much the issuer's clock may differ from ours; 60 s at most."""
    name: tuple[ClaimPath, ...] = (ClaimPath.parse("preferred_username"), ClaimPath.parse("sub"))
    """The claims that may be the user's name; the first that is fit counts."""
    grant: tuple[Grant, ...] = ()
    """What the claims are worth; the first that gives any role decides."""
    trusted_gateway: tuple[str, ...] = ()
    """Addresses of a gateway that has checked the signature already."""

    def __post_init__(self) -> None:
        if self.preset is not None:
            self._take_over(PRESETS[self.preset])
        if isinstance(self.audience, str):
            msgspec.structs.force_setattr(self, "audience", (self.audience,))
        for key in ("issuers", "audience", "algorithms", "name", "grant"):
            if not getattr(self, key) or "" in getattr(self, key):
                raise ValueError(f"{key}: it is needed")
        for algorithm in self.algorithms:
            if algorithm not in ALGORITHMS:
                raise ValueError(
                    f"algorithms: {algorithm!r} is none of {', '.join(sorted(ALGORITHMS))}; "
                    "what whoever checks tokens could also sign is not taken"
                )
        sources = [key for key in ("jwks_url", "discovery_url", "key_files") if getattr(self, key)]
        if len(sources) > 1:
            raise ValueError(f"{' and '.join(sources)}: only one of them")
        if self.ca and self.fingerprint:
            raise ValueError("ca and fingerprint: only one of them")
        if not self.key_files:
            key = sources[0] if sources else "issuers"
            try:
                check_url(self.jwks_url or self.discovery, self.unsafe_plaintext)
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None
        for key, least, most in (("leeway", 0, MOST_LEEWAY), ("refresh", 10, 86400), ("stale", 60, LONGEST_STALE)):
            if not least <= getattr(self, key) <= most:
                raise ValueError(f"{key}: it is from {least:g} to {most:g} seconds")
        if self.stale < self.refresh:
            raise ValueError("stale: it cannot be less than refresh")
        try:
            Gateway(self.trusted_gateway)
        except ValueError as error:
            raise ValueError(f"trusted_gateway: {error}") from None

    @property
    def discovery(self) -> str:
        """The discovery document's URL (OpenID Connect Discovery 1.0, section 4)."""
        return self.discovery_url or f"{self.issuers[0].rstrip('/')}/.well-known/openid-configuration"

    @property
    def source(self) -> tuple[object, ...]:
        """Where the keys come from, and how: of settings that say the same of it, one may use the keys of the other."""
        where = (self.issuers, self.jwks_url, self.discovery_url, self.key_files)
        return *where, self.ca, self.fingerprint, self.unsafe_plaintext, self.refresh, self.stale

    def _take_over(self, preset: dict[str, Any]) -> None:
        """What the preset says, for all that was left unsaid."""
        if self.discovery_url or self.key_files:
            preset = {key: value for key, value in preset.items() if key != "jwks_url"}
        for key, value in preset.items():
            if not getattr(self, key):
                msgspec.structs.force_setattr(self, key, value)


_CSM_REALM: Final = "://{}/keycloak/realms/shasta"
PRESETS: Final[dict[str, dict[str, Any]]] = {
    # HPE Cray System Management: what its gateway's policy (OPA) decides for the realm `shasta` of its Keycloak.
    "csm": {
        "issuers": tuple(
            scheme + _CSM_REALM.format(host)
            for host in ("keycloak:8080", "api-gw-service-nmn.local")
            for scheme in ("http", "https")
        ),
        "audience": "shasta",
        "jwks_url": "https://api-gw-service-nmn.local/keycloak/realms/shasta/protocol/openid-connect/certs",
        "grant": (
            Grant(claim=ClaimPath.parse("resource_access.shasta.roles"), map={"admin": "admin"}),
            # TAPMS makes a group `TENANT-tenant-admin` for each tenant.
            Grant(
                claim=ClaimPath.parse("realm_access.roles"),
                map={"tenant-admin": "operator"},
                tenants=TenantClaim(claim=ClaimPath.parse("groups"), suffix="-tenant-admin"),
                must_name_tenant=True,
            ),
        ),
    },
}
