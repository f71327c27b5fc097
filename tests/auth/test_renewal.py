"""Checkers that become others while those whom they have let in are there."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.cred.checkers import AllowAnonymousAccess, ICredentialsChecker
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from consoled.auth.credentials import BearerToken, IBearerToken
from consoled.auth.gate import Gate
from consoled.auth.roles import ROLES
from consoled.auth.tenants import TenantTable
from consoled.core.access import Forbidden, Knock, Unauthenticated, User


class Nobody:
    """An audit that keeps nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


@implementer(ICredentialsChecker)
class Book:
    """Knows people by their tokens."""

    credentialInterfaces = (IBearerToken,)

    def __init__(self, **roles: str) -> None:
        self.roles = roles

    def become(self, other: Book) -> None:
        self.roles = other.roles

    def requestAvatarId(self, credentials: BearerToken) -> Any:
        return succeed(self.user(credentials.value.decode()))

    def user(self, name: str) -> User:
        if name not in self.roles:
            raise UnauthorizedLogin("unknown")
        return User(name, (self.roles[name],), None, "book", again=lambda: self.user(name))


class OtherBook(Book):
    pass


def gate(*checkers: Any) -> Gate:
    return Gate(checkers, ROLES, TenantTable({}), Nobody(), lambda: 0.0)


def now(deferred: Deferred[Any]) -> Any:
    results: list[Any] = []
    deferred.addBoth(results.append)
    [result] = results
    if hasattr(result, "raiseException"):
        result.raiseException()
    return result


def entered(gate: Gate, name: str = "ann") -> Any:
    user = now(gate.login(Knock("a:1", (f"Bearer {name}".encode(),))))
    return now(gate.authorise(user, "interact"))


def test_who_is_in_is_asked_about_by_the_new_settings() -> None:
    one = gate(Book(ann="operator", bob="operator"))
    ann, bob = entered(one), entered(one, "bob")
    one.renew([Book(ann="operator", bob="viewer")], ROLES, TenantTable({}))
    ann = now(ann.again())
    with pytest.raises(Forbidden):
        now(bob.again())
    one.renew([Book(bob="operator")], ROLES, TenantTable({}))
    with pytest.raises(Unauthenticated):
        now(ann.again())
    assert now(bob.again()).user.roles == ("operator",)
    roles = {name: role for name, role in ROLES.items() if name != "operator"}
    one.renew([Book(bob="operator")], roles, TenantTable({}))
    with pytest.raises(Forbidden):
        now(bob.again())


def test_a_way_that_is_closed_lets_nobody_stay() -> None:
    one = gate(Book(ann="operator"), OtherBook(bob="operator"))
    ann, bob = entered(one), entered(one, "bob")
    one.renew([OtherBook(bob="operator")], ROLES, TenantTable({}))
    with pytest.raises(Unauthenticated):
        now(ann.again())
    bob = now(now(bob.again()).again())
    one.renew([Book(ann="operator")], ROLES, TenantTable({}))
    with pytest.raises(Unauthenticated):
        now(bob.again())


def test_a_lock_is_put_on_and_taken_off() -> None:
    one = gate(AllowAnonymousAccess())
    anybody = now(one.authorise(now(one.login(Knock("a:1"))), "interact"))
    assert now(anybody.again()).user.name == "anonymous"
    one.renew([Book(ann="operator")], ROLES, TenantTable({}))
    with pytest.raises(Unauthenticated):
        now(anybody.again())
    ann = entered(one)
    one.renew([AllowAnonymousAccess()], ROLES, TenantTable({}))
    assert now(ann.again()).user.name == "ann"
