"""CloudAPI's credentials, clause by clause (T-AUTH), through a whole site."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from twisted.cred.checkers import AllowAnonymousAccess

from consoled.auth.accounts import fingerprints
from consoled.auth.gate import Gate
from consoled.auth.roles import ROLES
from consoled.auth.tenants import TenantTable
from tests.api.cloud import ALGORITHMS, DB, FILE, FOREIGN, KEYS, ROLE, X1, Cloud, md5, refused, sign, ssh, vm
from tests.api.world import ACME, bearer

PATH = f"/acme/machines/{X1}/console"


def opens(cloud: Cloud, headers: Any, path: str = PATH) -> bool:
    client = cloud.attach(path, headers)
    opened = client.response is not None and client.response.status_code == 101
    client.socket.hang_up()
    return opened


def no(cloud: Cloud, status: int, code: str, headers: Any, path: str = PATH) -> None:
    """Refused in the same words, with and without the headers of an upgrade."""
    refused(cloud.get(path, headers), status, code)
    refused(cloud.attach(path, headers).refusal, status, code)


def test_t_auth_1_no_credentials(cloud: Cloud) -> None:
    no(cloud, 401, "InvalidCredentials", [])
    assert cloud.get(PATH).message == "You must make authenticated requests to use CloudAPI"


@pytest.mark.parametrize("value", ["Basic YWNtZTpzZWNyZXQ=", "Bearer nobodys-token", "Digest x=y"])
def test_t_auth_1_other_schemes_are_no_credentials(cloud: Cloud, value: str) -> None:
    no(cloud, 401, "InvalidCredentials", [("Authorization", value)])
    assert cloud.get(PATH, [("Authorization", value)]).headers["www-authenticate"] == "Signature"


@pytest.mark.parametrize("value", ["Signature", "Basic", "garbage"])
def test_a_header_of_one_word(cloud: Cloud, value: str) -> None:
    no(cloud, 400, "InvalidHeader", [("Authorization", value)])


@pytest.mark.parametrize("names", ["(request-target) date", "date", "date (request-target)", "host date", None])
def test_t_auth_2_3_what_is_signed(cloud: Cloud, names: str | None) -> None:
    assert opens(cloud, cloud.signed(PATH, names=names))


@pytest.mark.parametrize("key", ["rsa", "ecdsa", "ed25519"])
def test_t_auth_4_5_every_kind_of_key(cloud: Cloud, key: str) -> None:
    assert opens(cloud, cloud.signed(PATH, key))


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [("rsa", "rsa-sha384"), ("rsa", "rsa-sha512"), ("ecdsa", "ecdsa-sha384"), ("ecdsa", "ecdsa-sha512"),
     ("rsa", "RSA-SHA256")],
)  # fmt: skip
def test_t_auth_6_every_hash(cloud: Cloud, key: str, algorithm: str) -> None:
    headers = cloud.signed(
        PATH, key, algorithm=algorithm.lower(), change=lambda text: text.replace("rsa-", algorithm[:4])
    )
    assert opens(cloud, headers)


def test_t_auth_6_sha1_is_refused(cloud: Cloud) -> None:
    no(cloud, 400, "InvalidHeader", cloud.signed(PATH, algorithm="rsa-sha1"))


def test_t_auth_7_a_key_by_its_name_and_by_either_fingerprint(cloud: Cloud) -> None:
    for known_as in ("ec key", *fingerprints(KEYS["ecdsa"].public_key())):
        key = known_as
        if "/" not in key:  # base64 has slashes, and so have key ids
            assert opens(cloud, cloud.signed(PATH, "ecdsa", key_id=f"/acme/keys/{key}"))


def test_t_auth_8_an_altered_signature(cloud: Cloud) -> None:
    def change(text: str) -> str:
        head, _, rest = text.partition('signature="')
        signature = bytearray(base64.b64decode(rest[:-1]))
        signature[5] ^= 1
        return f'{head}signature="{base64.b64encode(signature).decode()}"'

    for key in ("rsa", "ecdsa", "ed25519"):
        no(cloud, 401, "InvalidCredentials", cloud.signed(PATH, key, change=change))
    assert cloud.get(PATH, cloud.signed(PATH, change=change)).message == "Invalid authorization credentials supplied"


@pytest.mark.parametrize("how", [{"target": f"/acme/machines/{DB}/console"}, {"method": "post"}])
def test_t_auth_9_10_another_target_or_method(cloud: Cloud, how: dict[str, str]) -> None:
    no(cloud, 401, "InvalidCredentials", cloud.signed(PATH, **how))


def test_t_auth_9_the_query_is_signed(cloud: Cloud) -> None:
    no(cloud, 401, "InvalidCredentials", cloud.signed(PATH), f"{PATH}?mode=tail")
    assert opens(cloud, cloud.signed(f"{PATH}?mode=tail"), f"{PATH}?mode=tail")


@pytest.mark.parametrize("offset", [-299, 299])
def test_t_auth_11_a_little_skew(cloud: Cloud, offset: float) -> None:
    assert opens(cloud, cloud.signed(PATH, date=cloud.date(offset)))


@pytest.mark.parametrize("offset", [-301, 301, -86400, 10**9])
def test_t_auth_12_too_much_skew(cloud: Cloud, offset: float) -> None:
    no(cloud, 400, "InvalidHeader", cloud.signed(PATH, date=cloud.date(offset)))


def test_t_auth_12_a_replay_ends_with_the_skew(cloud: Cloud) -> None:
    headers = cloud.signed(PATH)
    cloud.clock.advance(301)
    no(cloud, 400, "InvalidHeader", headers)


@pytest.mark.parametrize("date", ["garbage", "NaN", "0", "Sat, 99 Nov 2026 22:05:35 GMT", ""])
def test_t_auth_13_a_date_that_is_none(cloud: Cloud, date: str) -> None:
    no(cloud, 400, "InvalidHeader", cloud.signed(PATH, date=date))


def test_t_auth_14_the_date_must_be_signed(cloud: Cloud) -> None:
    for names in ("(request-target)", "host", "(request-target) host"):
        no(cloud, 400, "InvalidHeader", cloud.signed(PATH, names=names))


@pytest.mark.parametrize("algorithm", ["hmac-sha256", "hmac-sha1", "dsa-sha1", "none", "rsa-md5", "rsa", "", "ed25519"])
def test_t_auth_15_unknown_algorithms(cloud: Cloud, algorithm: str) -> None:
    headers = cloud.signed(PATH, change=lambda text: text.replace("rsa-sha256", algorithm))
    no(cloud, 400, "InvalidHeader", headers)


@pytest.mark.parametrize(("key", "algorithm"), [("rsa", "ecdsa-sha256"), ("rsa", "ed25519-sha512"),
                                                ("ecdsa", "rsa-sha256"), ("ed25519", "rsa-sha256")])  # fmt: skip
def test_t_auth_16_the_algorithm_of_another_kind_of_key(cloud: Cloud, key: str, algorithm: str) -> None:
    headers = cloud.signed(PATH, key, change=lambda text: text.replace(ALGORITHMS[key], algorithm))
    no(cloud, 401, "InvalidCredentials", headers)


def test_t_auth_17_unknown_accounts_and_keys_look_alike(cloud: Cloud) -> None:
    answers = set()
    for key_id in (
        f"/nobody/keys/{md5('rsa')}",
        "/acme/keys/00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff",
        f"/acme/keys/{md5('globex')}",
        f"/acme/users/nobody/keys/{md5('bob')}",
        f"/acme/users/bob/keys/{md5('rsa')}",
        f"/acme/keys/{md5('bob')}",
    ):
        answer = cloud.get(PATH, cloud.signed(PATH, key_id=key_id))
        refused(answer, 401, "InvalidCredentials")
        answers.add(answer.body)
    answers.add(cloud.get(PATH, cloud.signed(PATH, "stranger", key_id=f"/acme/keys/{md5('rsa')}")).body)
    assert len(answers) == 1


@pytest.mark.parametrize(
    "key_id", ["acme", "/", "/acme", "/acme/keys/", "//keys/x", "/a/b/c/d/e/f/g", "/acme/users//keys/x"]
)
def test_t_auth_18_malformed_key_ids(cloud: Cloud, key_id: str) -> None:
    no(cloud, 401, "InvalidCredentials", cloud.signed(PATH, key_id=key_id))


@pytest.mark.parametrize("value", [
    "Signature a", "Signature keyId=", 'Signature keyId="/acme/keys/x"', 'Signature keyId="a" algorithm="b"',
    'Signature keyId="a",keyId="b",algorithm="rsa-sha256",signature="x"', "Signature " + "=" * 40,
    'Signature keyId="/acme/keys/x",algorithm="rsa-sha256",signature="!"', "Signature \xff\xfe keyId",
    "Signature " + "x" * 9000,
])  # fmt: skip
def test_t_auth_18_malformed_headers(cloud: Cloud, value: str) -> None:
    answer = cloud.get(PATH, [("Date", cloud.date()), ("Authorization", value)])
    assert answer.status in (400, 401)
    assert answer.json["code"] in ("InvalidHeader", "InvalidCredentials")


@pytest.mark.parametrize("name", ["*", "*)(objectclass=*", "a)(|(uid=*))", "..", "%2e%2e", "\\2a"])
def test_t_auth_19_a_directorys_signs_are_data(cloud: Cloud, name: str) -> None:
    no(cloud, 401, "InvalidCredentials", cloud.signed(PATH, key_id=f"/acme/keys/{name}"))
    no(cloud, 401, "InvalidCredentials", cloud.signed(PATH, key_id=f"/{name}/keys/{md5('rsa')}"))


def test_t_auth_20_a_key_opens_no_other_accounts_machines(cloud: Cloud) -> None:
    seen = set()
    for path in (
        f"/acme/machines/{FOREIGN}/console",  # somebody else's machine, as one's own
        f"/globex/machines/{FOREIGN}/console",  # and as theirs
        f"/globex/machines/{DB}/console",
        f"/acme/machines/{SERVERLESS}/console",  # nobody's
        f"/globex/machines/{X1}/console",
    ):
        no(cloud, 404, "ResourceNotFound", cloud.signed(path), path)
        seen.add(cloud.get(path, cloud.signed(path)).body)
    assert len(seen) == 1, "whether it exists is not to be seen"
    assert not any("cnapi" in url for url in cloud.services.asked)


SERVERLESS = "11111111-1234-4567-89ab-0123456789ab"


def test_an_operator_opens_every_accounts_machines(cloud: Cloud) -> None:
    path = f"/acme/machines/{X1}/console"
    assert opens(cloud, cloud.signed(path, key_id=f"/root/keys/{md5('rsa')}"), path)


def test_a_disabled_account(cloud: Cloud) -> None:
    for path in (f"/closed/machines/{DB}/console", PATH):
        no(cloud, 403, "NotAuthorized", cloud.signed(path, key_id=f"/closed/keys/{md5('rsa')}"), path)
    assert not cloud.services.asked


def test_t_auth_21_a_sub_user_without_a_role(cloud: Cloud) -> None:
    no(cloud, 403, "NotAuthorized", cloud.signed(PATH, "bob"))
    answer = cloud.get(PATH, cloud.signed(PATH, "bob"))
    assert answer.message == f"You do not have permission to access {PATH} (connectmachineconsole)"


@pytest.mark.parametrize("roles", ["ops", "ops,other", "other,ops", "watch,ops"])
def test_t_auth_22_a_sub_user_with_the_role(cloud: Cloud, roles: str) -> None:
    path = f"{PATH}?as-role={roles}"
    assert opens(cloud, cloud.signed(path, "bob"), path)


@pytest.mark.parametrize("roles", ["", "other", "watch", "nobodys", "OPS"])
def test_t_auth_22_and_not_with_another(cloud: Cloud, roles: str) -> None:
    path = f"{PATH}?as-role={roles}"
    no(cloud, 403, "NotAuthorized", cloud.signed(path, "bob"), path)


def test_t_auth_22_a_role_is_for_the_machines_that_are_tagged(cloud: Cloud) -> None:
    path = f"/acme/machines/{DB}/console?as-role=ops"
    no(cloud, 403, "NotAuthorized", cloud.signed(path, "bob"), path)


def test_a_sub_user_that_may_only_watch(cloud: Cloud) -> None:
    path = f"{PATH}?mode=tail&as-role=watch"
    client = cloud.piped(path, cloud.signed(path, "bob"))
    client.send(b"rm -rf /\r")
    assert cloud.x1.heard == b""


def test_t_auth_22_roles_and_tags_from_mahi(cloud: Cloud) -> None:
    cloud.with_mahi()
    path = f"/acme/machines/{DB}/console"
    no(cloud, 403, "NotAuthorized", cloud.signed(path, "bob"), path)
    cloud.services.answers[f"/vms/{DB}?owner_uuid={ACME}"] = vm(role_tags=[ROLE])
    assert opens(cloud, cloud.signed(path, "bob"), path)
    assert opens(cloud, cloud.signed(path), path)


@pytest.mark.parametrize("what", ["down", "silent"])
def test_mahi_does_not_answer(cloud: Cloud, what: str) -> None:
    cloud.with_mahi()
    getattr(cloud.services, what).add("mahi")
    client = cloud.attach(PATH)
    cloud.turn(4)
    refused(client.refusal, 503, "ServiceUnavailable")
    assert "mahi" not in client.refusal.body.decode()
    assert client.refusal.headers["retry-after"]


def test_t_auth_23_the_old_form(cloud: Cloud) -> None:
    date = cloud.date()
    for key, algorithm in (("rsa", "rsa-sha256"), ("ecdsa", "ecdsa-sha256")):
        signature = sign(key, algorithm, date)
        value = f'Signature keyId="/acme/keys/{md5(key)}",algorithm="{algorithm}" {signature}'
        assert opens(cloud, [("Date", date), ("Authorization", value)]) == (key == "rsa")


def test_t_auth_24_x_date_now_and_after_a_malformed_header(cloud: Cloud) -> None:
    for _ in range(2):
        for names in ("(request-target) x-date", "x-date", None):
            assert opens(cloud, cloud.signed(PATH, dated="x-date", names=names))
        cloud.get(PATH, [("Authorization", "Signature a=b")])


def test_t_auth_25_an_auth_token_alone_opens_nothing(cloud: Cloud) -> None:
    no(cloud, 401, "InvalidCredentials", [("X-Auth-Token", '{"keyid":"/acme/keys/x","data":"e30=","hash":"x"}')])


def test_t_auth_26_a_presigned_url(cloud: Cloud) -> None:
    for key in ("rsa", "ecdsa", "ed25519"):
        assert opens(cloud, [], cloud.presigned(PATH, key))
    assert opens(cloud, [], cloud.presigned(PATH, methods="GET,POST"))
    path = cloud.presigned(PATH, mode="tail", lines="3")
    assert opens(cloud, [], path)


def test_t_auth_27_a_presigned_url_that_is_not_good(cloud: Cloud) -> None:
    good = cloud.presigned(PATH)
    for path, status, code in (
        (cloud.presigned(PATH, expires=-1), 401, "InvalidCredentials"),
        (cloud.presigned(PATH, methods="POST"), 400, "InvalidHeader"),
        (good.replace("keyId", "keyid"), 400, "InvalidHeader"),
        (good + "&mode=tail", 401, "InvalidCredentials"),
        (good.replace(X1, DB), 401, "InvalidCredentials"),
        (good.partition("&signature")[0], 400, "InvalidHeader"),
        (good.replace("expires=", "expires=x"), 400, "InvalidHeader"),
    ):
        no(cloud, status, code, [], path)
    no(cloud, 400, "InvalidHeader", cloud.signed(good), good)
    cloud.clock.advance(61)
    no(cloud, 401, "InvalidCredentials", [], good)


def test_an_open_session_outlives_its_presigned_url(cloud: Cloud) -> None:
    client = cloud.piped(cloud.presigned(PATH), [])
    cloud.turn(61)
    assert client.is_open


# ---------------------------------------------------------------------------------------------- beyond the original


def test_bearer_tokens_are_taken_as_everywhere(cloud: Cloud) -> None:
    for user, path, good in (
        ("oscar", PATH, True),
        ("oscar", f"/{ACME}/machines/{X1}/console", True),
        ("bob", PATH, True),  # of the tenant blue, whose x1 is
        ("gina", PATH, False),
        ("vera", PATH, False),  # a viewer
        ("vera", f"{PATH}?mode=tail", True),
        ("oscar", f"/my/machines/{X1}/console", False),  # a token is no account's
    ):
        assert opens(cloud, bearer(user), path) == good, (user, path)


def test_a_key_that_is_withdrawn_ends_its_session_within_a_minute(cloud: Cloud) -> None:
    client = cloud.piped()
    cloud.file.write_text(FILE.replace(ssh("rsa"), ssh("stranger")))
    cloud.turn(2)
    cloud.turn(31)
    client.receive()
    assert client.close_code == 4401


def test_mahi_going_away_ends_no_session_at_once_and_all_within_minutes(cloud: Cloud) -> None:
    cloud.with_mahi()
    client = cloud.piped()
    cloud.services.down.add("mahi")
    cloud.turn(31)
    assert client.is_open
    for _ in range(4):
        cloud.turn(31)
    client.receive()
    assert client.close_code == 1013


def test_without_auth_everybody_may_do_everything(cloud: Cloud) -> None:
    cloud.begin(gate=Gate([AllowAnonymousAccess()], ROLES, TenantTable({}), cloud.audit, cloud.now))
    for login in ("my", "acme", "whoever", ACME):
        for headers in ([], cloud.signed(PATH), [("Authorization", "garbage")]):
            assert opens(cloud, headers, f"/{login}/machines/{X1}/console")
    cloud.services.answers[f"/vms/{DB}?fields"] = cloud.services.answers[f"/vms/{DB}?owner_uuid={ACME}"]
    assert opens(cloud, [], f"/my/machines/{DB}/console")


def test_many_failures_are_met_with_patience_also_in_urls(cloud: Cloud) -> None:
    cloud.begin(patient=True, limits={"failed_logins": 4})
    for number in range(6):
        bad = cloud.presigned(PATH, expires=60 + number).replace("signature=", "signature=A")
        client = cloud.client()
        client.request(bad)
        cloud.turn(2)
        answer = client.answer()
    refused(answer, 429, "TooManyRequests")
    assert int(answer.headers["retry-after"]) > 0


def test_nothing_of_a_credential_is_seen(cloud: Cloud, log: list[Any]) -> None:
    headers, path = cloud.signed(PATH), cloud.presigned(PATH)
    secrets = [headers[1][1].rpartition('signature="')[2][:30], path.rpartition("signature=")[2][:30]]
    assert opens(cloud, headers)
    assert opens(cloud, [], path)
    no(cloud, 400, "InvalidHeader", [], path + "x")
    seen = str(cloud.records) + str(log)
    assert not any(secret in seen for secret in secrets)
