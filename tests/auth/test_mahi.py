"""mahi: its answers as principals, its outages, and keys of sub-users."""

import json
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from consoled.auth.accounts import CONNECT, UnknownAccount
from consoled.auth.mahi import FRESH, STALE, Mahi
from consoled.core.access import CannotKnow
from consoled.fetch import Unreachable
from tests.auth.test_accounts import ED, RSA, UUID, fingerprints, pem
from tests.test_triton import done

ROLE = "0a1b2c3d-0000-4000-8000-000000000001"
ACCOUNT = {"uuid": UUID, "login": "acme", "groups": [], "keys": {fingerprints(RSA)[0]: pem(RSA)}, "isOperator": False}
USER = {
    "account": ACCOUNT,
    "user": {"uuid": "u", "login": "bob", "keys": {"x": pem(ED)}, "roles": [ROLE], "defaultRoles": [ROLE]},
    "roles": {
        ROLE: {"name": "ops", "rules": [[f"CAN {CONNECT}", {"effect": True, "actions": {}, "conditions": {}}]]},
        "other": {"name": "not-his", "rules": [["CAN *", {}]]},
    },
}


class Service:
    """mahi, as far as it is asked."""

    def __init__(self, **answers: Any) -> None:
        self.clock = Clock()
        self.answers = {"/accounts?login=acme": {"account": ACCOUNT, "roles": {}}, **answers}
        self.asked: list[str] = []
        self.down = False
        self.mahi = Mahi(self, "http://mahi/", self.clock)

    def get(self, url: str, headers: Any = None) -> Deferred[tuple[int, bytes]]:
        self.asked.append(url)
        if self.down:
            return fail(Unreachable("refused"))
        answer = self.answers.get(url.removeprefix("http://mahi"), (404, {"code": "AccountDoesNotExist"}))
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        return succeed((status, body if isinstance(body, bytes) else json.dumps(body).encode()))

    def find(self, login: str = "acme", user: str | None = None) -> Any:
        return done(self.mahi._find(login, user))


def test_an_account() -> None:
    service = Service()
    acme = service.find()
    assert (acme.account, acme.name, acme.operator, acme.enabled) == (UUID, "acme", False, True)
    assert set(acme.keys) == set(fingerprints(RSA))


def test_a_user_and_its_roles() -> None:
    service = Service(**{"/users?account=acme&login=bob&fallback=false": USER})
    bob = service.find("acme", "bob")
    assert (bob.account, bob.name) == (UUID, "acme/bob")
    assert set(bob.keys) == set(fingerprints(ED))
    [role] = bob.active(None)
    assert (role.uuid, role.name, role.machines) == (ROLE, "ops", None)
    assert role.allows(CONNECT)
    assert bob.active(["not-his"]) == ()


@pytest.mark.parametrize("login", ["nobody", "*)(uid=*", "a/../b", "a&login=root", "acme\r\nX: y", "ü"])
def test_T_AUTH_19_names_are_data(login: str) -> None:
    service = Service()
    with pytest.raises(UnknownAccount):
        service.find(login)
    with pytest.raises(UnknownAccount):
        service.find("acme", login)
    for url in service.asked:
        assert url.isascii()
        assert url.isprintable()
        assert url.count("&") == (2 if "/users" in url else 0)
        assert "/" not in url.removeprefix("http://mahi/")


def test_an_answer_for_somebody_else_is_none() -> None:
    other = {"account": ACCOUNT | {"login": "other"}}
    service = Service(**{"/accounts?login=acme": other})
    with pytest.raises(UnknownAccount):
        service.find()
    service = Service(**{"/users?account=acme&login=eve&fallback=false": USER})
    with pytest.raises(UnknownAccount):
        service.find("acme", "eve")
    # Without fallback=false mahi would answer with the account alone.
    service = Service(**{"/users?account=acme&login=eve&fallback=false": {"account": ACCOUNT}})
    with pytest.raises(UnknownAccount):
        service.find("acme", "eve")


@pytest.mark.parametrize(
    "answer", [(500, {}), (200, b"no json"), (200, []), (200, {"account": {"login": "acme", "uuid": "x"}}), (302, b"")]
)
def test_a_bad_answer_is_no_answer(answer: Any) -> None:
    service = Service(**{"/accounts?login=acme": answer})
    with pytest.raises(CannotKnow):
        service.find()


def test_an_outage_is_bridged_for_a_minute_and_no_longer() -> None:
    service = Service()
    service.find()
    service.find()
    assert len(service.asked) == 1
    service.down = True
    service.clock.advance(FRESH)
    assert service.find().login == "acme"
    assert len(service.asked) == 2
    service.clock.advance(STALE - FRESH - 1)
    assert service.find().login == "acme"
    service.clock.advance(1)
    with pytest.raises(CannotKnow):
        service.find()


def test_who_is_gone_is_gone_at_the_next_question() -> None:
    service = Service()
    service.find()
    del service.answers["/accounts?login=acme"]
    service.clock.advance(FRESH)
    for _ in range(2):
        with pytest.raises(UnknownAccount):
            service.find()
    service.down = True
    with pytest.raises(CannotKnow):
        service.find()


def test_a_disabled_account_and_an_operator() -> None:
    service = Service(**{"/accounts?login=acme": {"account": ACCOUNT | {"disabled": True, "isOperator": True}}})
    acme = service.find()
    assert not acme.enabled
    assert acme.operator
