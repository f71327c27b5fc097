"""Bearer tokens as they come over the wire (RFC 6750).

Called by the gate with a request's `Authorization` headers; what it makes of them goes to whichever checker
takes `IBearerToken`.
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


@implementer(IBearerToken)
@dataclass(frozen=True, slots=True, eq=False)
class BearerToken:
    """A token that a client showed.  Neither `repr` nor `str` has it, and `==` does not compare it."""

    value: bytes = field(repr=False)


def bearer(headers: Sequence[bytes]) -> BearerToken | None:
    """The token in the values of all `Authorization` headers; None if there are none.

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
    return BearerToken(found[1])
