"""Client certificates: whose they are, and what that makes of them.

One checker of the gate's portal.  TLS has verified the chain, the time and that the client has the key; which of the
people and machines that the authority has certified may come in, and as what, is for the rules of
`[[auth.certificate]]` to say: the first that fits counts.  A certificate that fits none lets nobody in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Annotated, Any, Final

import msgspec
from cryptography import x509
from cryptography.x509.oid import NameOID
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.error import UnauthorizedLogin
from zope.interface import implementer

from consoled.auth.credentials import Certificate, ICertificate
from consoled.auth.tenants import TENANT
from consoled.core.access import Unauthenticated, User

_FIELDS: Final = ("cn", "o", "ou", "dns", "email", "uri")
_SUBJECT: Final = {
    "cn": NameOID.COMMON_NAME,
    "o": NameOID.ORGANIZATION_NAME,
    "ou": NameOID.ORGANIZATIONAL_UNIT_NAME,
}
_ALTERNATIVES: Final[dict[str, Any]] = {
    "dns": x509.DNSName,
    "email": x509.RFC822Name,
    "uri": x509.UniformResourceIdentifier,
}
# What a name may be made of: it is shown to others.  Tokens' names, and what a SPIFFE id needs.
_NAME: Final = re.compile(r"[A-Za-z0-9_.@+:/-]{1,128}")

_Pattern = Annotated[str, msgspec.Meta(min_length=1)]


class CertificateRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of `[[auth.certificate]]`: all patterns that it has must fit, of a field's several values any one.

    In a pattern `*` stands for any text, `?` for one character, `[ab]` for one of them; case counts, but in `dns`.
    """

    cn: _Pattern | None = None
    """The common name of the subject."""
    o: _Pattern | None = None
    """The organisation."""
    ou: _Pattern | None = None
    """The organisational unit."""
    dns: _Pattern | None = None
    """A host name, of the subject alternative names (RFC 5280 section 4.2.1.6)."""
    email: _Pattern | None = None
    """A mail address of these."""
    uri: _Pattern | None = None
    """A URI of these."""
    user: _Pattern = "{cn}"
    """Who it is: a name, or with a field of the certificate in braces, whose value must then be the only one."""
    roles: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """What it may do: the names of roles."""
    tenants: tuple[Annotated[str, msgspec.Meta(pattern=TENANT)], ...] | None = None
    """If there, only these tenants' nodes."""

    def __post_init__(self) -> None:
        if all(getattr(self, field) is None for field in _FIELDS):
            raise ValueError(f"it needs at least one of {', '.join(_FIELDS)}: the authority may certify anybody")
        if unknown := set(re.findall(r"\{(.*?)\}", self.user)) - set(_FIELDS):
            raise ValueError(f"user: {{{unknown.pop()}}} is no field: it must be one of {', '.join(_FIELDS)}")


@implementer(ICredentialsChecker)
class Certificates:
    """Lets in whomever a rule knows by the certificate."""

    credentialInterfaces = (ICertificate,)

    def __init__(
        self,
        rules: Sequence[CertificateRule],
        roles: Collection[str],
        is_revoked: Callable[[x509.Certificate], bool] = lambda _: False,
    ) -> None:
        """`is_revoked` is asked again while sessions last.  Raises `ValueError` that names the key."""
        for at, rule in enumerate(rules):
            for role in rule.roles:
                if role not in roles:
                    known = ", ".join(sorted(roles))
                    raise ValueError(f"auth.certificate[{at}].roles: {role!r} is not a role ({known})")
        self._rules = rules
        self._is_revoked = is_revoked

    def become(self, other: Certificates) -> None:
        """See `gate.Renewable`."""
        self._rules, self._is_revoked = other._rules, other._is_revoked

    def requestAvatarId(self, credentials: Certificate) -> Any:  # cred's own annotation knows ids of bytes only
        """The `User` it is.  Raises `UnauthorizedLogin`."""
        try:
            certificate = x509.load_der_x509_certificate(credentials.value)
            fields = _fields(certificate)
        except ValueError:
            raise UnauthorizedLogin("a certificate that cannot be read") from None
        return self._known(certificate, fields)

    def _known(self, certificate: x509.Certificate, fields: _Fields) -> User:
        if self._is_revoked(certificate):
            raise Unauthenticated("the certificate is revoked")
        rule = next((rule for rule in self._rules if _fits(rule, fields)), None)
        if rule is None:
            raise UnauthorizedLogin(f"no rule for the certificate of {_shown(fields)}")
        return User(
            _user(rule.user, fields),
            rule.roles,
            None if rule.tenants is None else frozenset(rule.tenants),
            proof="certificate",
            expires=certificate.not_valid_after_utc.timestamp(),
            again=partial(self._known, certificate, fields),
        )


_Fields = dict[str, tuple[str, ...]]


def _fields(certificate: x509.Certificate) -> _Fields:
    """All values of each field.  Raises `ValueError` for what cannot be parsed."""
    fields: _Fields = {}
    for field, oid in _SUBJECT.items():
        fields[field] = tuple(str(one.value) for one in certificate.subject.get_attributes_for_oid(oid))
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = None
    for field, kind in _ALTERNATIVES.items():
        fields[field] = tuple(names.get_values_for_type(kind)) if names is not None else ()
    return fields


def _fits(rule: CertificateRule, fields: _Fields) -> bool:
    for field in _FIELDS:
        pattern = getattr(rule, field)
        if pattern is None:
            continue
        values = fields[field]
        if field == "dns":
            pattern, values = pattern.lower(), tuple(value.lower() for value in values)
        if not any(fnmatchcase(value, pattern) for value in values):
            return False
    return True


def _user(template: str, fields: _Fields) -> str:
    """The user's name.  Raises `UnauthorizedLogin` if the certificate gives none that is fit, or several."""

    def value(found: re.Match[str]) -> str:
        values = fields[found[1]]
        if len(values) != 1:
            raise UnauthorizedLogin(f"a certificate with {len(values)} values of {found[1]}: whose is it?")
        return values[0]

    name = re.sub(r"\{(.*?)\}", value, template)
    if not _NAME.fullmatch(name):
        raise UnauthorizedLogin(f"the certificate's name is not fit for a user: {_shown(fields)}")
    return name


def _shown(fields: _Fields) -> str:
    """For the audit log, which escapes and cuts it."""
    return ", ".join(f"{field}={value}" for field, values in fields.items() for value in values) or "nobody"
