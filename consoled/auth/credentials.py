"""What a client can prove itself with: a bearer token (RFC 6750), a TLS certificate, a one-use ticket.

The gate makes one of them of a request's `Knock`; it goes to whichever checkers take its interface.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from twisted.cred.credentials import ICredentials
from zope.interface import Attribute, implementer

from consoled.core.access import Unauthenticated

LONGEST: Final = 8192
"""In bytes, of one header value; Keycloak's tokens have one or two thousand."""

# RFC 6750, section 2.1: "Bearer" 1*SP b64token; the scheme's case is free (RFC 9110, section 11.1).
_BEARER: Final = re.compile(rb"(?i:bearer) +([A-Za-z0-9\-._~+/]+=*)")


class IBearerToken(ICredentials):
    """Something whose possession is the proof."""

    value: bytes = Attribute("The token itself.")
    peer: str = Attribute("The IP address of who has really connected, before any proxy's word.")


class ICertificate(ICredentials):
    """A client certificate whose chain and possession TLS has verified.  Whose it is, is yet to be said."""

    value: bytes = Attribute("The certificate, DER.")


class ITicket(ICredentials):
    """A one-use ticket, given to somebody who had logged in before."""

    value: bytes = Attribute("The ticket itself.")


@implementer(IBearerToken)
@dataclass(frozen=True, slots=True, eq=False)
class BearerToken:
    """A token that a client showed.  Neither `repr` nor `str` has it, and `==` does not compare it."""

    value: bytes = field(repr=False)
    peer: str = ""


@implementer(ICertificate)
@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """A client's certificate."""

    value: bytes = field(repr=False)


@implementer(ITicket)
@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """A ticket that a client showed, as secret as a token."""

    value: bytes = field(repr=False)


def bearer(headers: Sequence[bytes], peer: str = "") -> BearerToken | None:
    """The token in the values of all `Authorization` headers, which came from `peer`; None if there are none.

    Raises `Unauthenticated` for anything but exactly one well-formed bearer token of at most `LONGEST` bytes:
    of two headers, a proxy may have checked the one and we the other.
    """
    if not headers:
        return None
    if len(headers) > 1:
        raise Unauthenticated("several Authorization headers")
    if len(headers[0]) > LONGEST:
        raise Unauthenticated("an Authorization header of more than 8 KiB")
    found = _BEARER.fullmatch(headers[0].strip(b" \t"))
    if found is None:
        raise Unauthenticated("an Authorization header that is no bearer token")
    return BearerToken(found[1], peer)
