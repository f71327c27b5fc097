"""A KV store that speaks Vault's HTTP API, in the test, and the client against it."""

import json

import pytest
import pytest_twisted
import trustme
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, execute, gatherResults, succeed
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint
from twisted.internet.ssl import CertificateOptions
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from consoled.core.secret import Secret, SecretUnavailable
from consoled.secrets.vault import KeyValueStore, Kubernetes, VaultSettings

CANARY = "c4n4ry-passw0rd"


class FakeVault(Resource):
    """Answers as Vault does for one secret in a KV of version 1 and one of version 2."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.tokens = {"good"}
        self.requests: list[str] = []
        self.namespaces: list[str | None] = []
        self.mode = "well"
        self.keys: object = {"9": f"old {CANARY}", "10": f"new {CANARY}", "2": "older"}

    def render(self, request):
        path = request.path.decode()
        self.requests.append(f"{request.method.decode()} {path}")
        self.namespaces.append(request.getHeader("x-vault-namespace"))
        if self.mode == "hanging":
            return NOT_DONE_YET
        if self.mode == "garbage":
            return b"<html>proxy error</html>"
        if self.mode == "array":
            return b"[]"
        if self.mode == "flood":
            return b"x" * (2 << 20)
        if self.mode == "sealed":
            request.setResponseCode(503)
            return b'{"errors":["Vault is sealed"]}'
        if path == "/v1/auth/kubernetes/login":
            body = json.loads(request.content.read())
            if body != {"jwt": "service-account", "role": "consoled"}:
                request.setResponseCode(400)
                return b'{"errors":["permission denied"]}'
            self.tokens = {f"kubernetes-{len(self.requests)}"}
            return json.dumps({"auth": {"client_token": next(iter(self.tokens))}}).encode()
        if request.getHeader("x-vault-token") not in self.tokens:
            request.setResponseCode(403)
            return b'{"errors":["permission denied"]}'
        secret = {"Xname": "x1", "Username": "root", "Password": CANARY, "Count": 3}
        if path == "/v1/transit/export/signing-key/console":
            return json.dumps({"data": {"name": "console", "type": 3, "keys": self.keys}}).encode()
        if path == "/v1/secret/hms-creds/x1":
            return json.dumps({"data": secret}).encode()
        if path == "/v1/kv/data/hms-creds/x1":
            return json.dumps({"data": {"data": secret, "metadata": {"version": 1}}}).encode()
        request.setResponseCode(404)
        return b'{"errors":[]}'


class Secrets:
    """The vault's own token."""

    def __init__(self) -> None:
        self.value = "good"

    def fetch(self, secret, fresh=False):
        assert fresh, "a stale token is no use"
        return succeed(self.value)


@pytest.fixture
def vault():
    return FakeVault()


@pytest.fixture
def address(vault):
    port = pytest_twisted.blockon(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Site(vault)))
    yield f"http://127.0.0.1:{port.getHost().port}"
    pytest_twisted.blockon(port.stopListening())


def store(address, secrets=None, **settings):
    settings.setdefault("token", Secret.parse({"file": "/token"}) if "kubernetes" not in settings else None)
    return KeyValueStore(VaultSettings(address=address, **settings), reactor, secrets or Secrets(), execute)


async def refusal(answer) -> str:
    with pytest.raises(SecretUnavailable) as caught:
        await answer
    assert CANARY not in str(caught.value)
    assert "good" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("field", ["Password", "password", "PASSWORD"])
@pytest_twisted.ensureDeferred
async def test_version_1(address, field):
    assert await store(address, version=1).read("secret/hms-creds/x1", field) == CANARY


@pytest_twisted.ensureDeferred
async def test_version_2(address):
    assert await store(address).read("kv/hms-creds/x1", "Password") == CANARY


@pytest_twisted.ensureDeferred
async def test_a_namespace(address, vault):
    await store(address, version=1, namespace="hpc").read("secret/hms-creds/x1", "Password")
    assert vault.namespaces == ["hpc"]


@pytest_twisted.ensureDeferred
async def test_a_path_is_one_path(address, vault):
    await refusal(store(address, version=1).read("secret/a b?c#d/é", "Password"))
    assert vault.requests == ["GET /v1/secret/a%20b%3Fc%23d/%C3%A9"]


@pytest.mark.parametrize(
    ("path", "field", "said"),
    [
        ("secret/none", "Password", "vault secret/none: no such secret"),
        ("secret/hms-creds/x1", "Pin", "vault secret/hms-creds/x1: it has no field Pin"),
        ("secret/hms-creds/x1", "Count", "vault secret/hms-creds/x1: it has no field Count"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_not_there(address, path, field, said):
    assert await refusal(store(address, version=1).read(path, field)) == said


@pytest.mark.parametrize("version", [1, 2])
@pytest_twisted.ensureDeferred
async def test_the_newest_version_of_a_key(address, version):
    client = store(address, version=version)
    assert await client.read("transit/export/signing-key/console", "keys") == f"new {CANARY}"


@pytest.mark.parametrize("keys", [{}, {"latest": "x"}, {"1": 3}, {"1": ""}, [], "x" * 9 + CANARY, None])
@pytest_twisted.ensureDeferred
async def test_a_key_without_versions(address, vault, keys):
    vault.keys = keys
    path = "transit/export/signing-key/console"
    if isinstance(keys, str):
        assert await store(address, version=1).read(path, "keys") == keys
    else:
        assert await refusal(store(address, version=1).read(path, "keys")) == f"vault {path}: it has no field keys"


@pytest_twisted.ensureDeferred
async def test_another_place_of_the_transit_engine(address, vault):
    path = "transit/export/signing-key/console"
    await refusal(store(address, transit="keys").read(path, "keys"))
    await refusal(store(address, transit="keys").read("keys/export/x", "keys"))
    assert vault.requests == ["GET /v1/transit/data/export/signing-key/console", "GET /v1/keys/export/x"]


@pytest_twisted.ensureDeferred
async def test_a_thousand_log_in_once(address, vault, tmp_path):
    (tmp_path / "token").write_text("service-account")
    client = store(address, version=1, kubernetes=Kubernetes(role="consoled", token=str(tmp_path / "token")))

    async def everybody():
        reading = [client.read("secret/hms-creds/x1", "Password") for _ in range(50)]
        reading[0].addErrback(lambda failure: failure.trap(CancelledError))
        reading[0].cancel()  # who leaves does not cost the others their token
        assert await gatherResults(reading[1:]) == [CANARY] * 49

    await everybody()
    vault.tokens = {"somebody-else's"}
    await everybody()
    assert len([request for request in vault.requests if request.startswith("POST")]) == 2


@pytest_twisted.ensureDeferred
async def test_a_login_that_fails_fails_for_all_and_is_tried_again(address, tmp_path):
    client = store(address, version=1, kubernetes=Kubernetes(role="consoled", token=str(tmp_path / "token")))
    for reading in [client.read("secret/hms-creds/x1", "Password") for _ in range(3)]:
        assert "token: No such file" in await refusal(reading)
    (tmp_path / "token").write_text("service-account")
    assert await client.read("secret/hms-creds/x1", "Password") == CANARY


@pytest_twisted.ensureDeferred
async def test_a_token_that_was_renewed(address, vault):
    secrets = Secrets()
    client = store(address, secrets, version=1)
    assert await client.read("secret/hms-creds/x1", "Password") == CANARY
    vault.tokens, secrets.value = {"better"}, "better"
    assert await client.read("secret/hms-creds/x1", "Password") == CANARY
    assert len(vault.requests) == 3


@pytest_twisted.ensureDeferred
async def test_a_token_that_is_refused_is_tried_once_a_time(address, vault):
    vault.tokens = set()
    client = store(address, version=1)
    for count in (1, 2):
        assert "permission denied" in await refusal(client.read("secret/hms-creds/x1", "Password"))
        assert len(vault.requests) == count


@pytest_twisted.ensureDeferred
async def test_the_kubernetes_login(address, vault, tmp_path):
    (tmp_path / "token").write_text("service-account\n")
    login = Kubernetes(role="consoled", token=str(tmp_path / "token"))
    client = store(address, version=1, kubernetes=login)
    assert await client.read("secret/hms-creds/x1", "Password") == CANARY
    vault.tokens = {"somebody-else's"}
    assert await client.read("secret/hms-creds/x1", "Password") == CANARY
    logins = [request for request in vault.requests if request.startswith("POST")]
    assert logins == ["POST /v1/auth/kubernetes/login"] * 2


@pytest_twisted.ensureDeferred
async def test_the_kubernetes_login_is_refused(address, tmp_path):
    (tmp_path / "token").write_text("another")
    client = store(address, kubernetes=Kubernetes(role="consoled", token=str(tmp_path / "token")))
    assert "the login as role consoled failed: status 400" in await refusal(client.read("kv/x", "y"))


@pytest.mark.parametrize("mode", ["garbage", "array", "flood", "sealed"])
@pytest_twisted.ensureDeferred
async def test_a_vault_that_is_not_well(address, vault, mode):
    vault.mode = mode
    assert "vault kv/data/x: " in await refusal(store(address).read("kv/x", "Password"))


@pytest_twisted.ensureDeferred
async def test_no_vault_at_all():
    assert "refused" in await refusal(store("http://127.0.0.1:1").read("kv/x", "Password"))


@pytest_twisted.ensureDeferred
async def test_its_certificate_is_checked(vault, tmp_path):
    authority, other = trustme.CA(), trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    [chain] = leaf.cert_chain_pems
    options = CertificateOptions(
        certificate=load_pem_x509_certificate(chain.bytes()),
        privateKey=load_pem_private_key(leaf.private_key_pem.bytes(), None),
    )
    port = await SSL4ServerEndpoint(reactor, 0, options, interface="127.0.0.1").listen(Site(vault))
    address = f"https://127.0.0.1:{port.getHost().port}"
    authority.cert_pem.write_to_path(tmp_path / "good.pem")
    other.cert_pem.write_to_path(tmp_path / "bad.pem")
    try:
        good = store(address, version=1, ca=str(tmp_path / "good.pem"))
        assert await good.read("secret/hms-creds/x1", "Password") == CANARY
        asked = len(vault.requests)
        for settings in ({"ca": str(tmp_path / "bad.pem")}, {}):
            await refusal(store(address, version=1, **settings).read("secret/hms-creds/x1", "Password"))
        assert len(vault.requests) == asked
    finally:
        await port.stopListening()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"address": "http://vault:8200", "token": Secret(env="T")}, "https"),
        ({"address": "http://127.0.0.1.example.com:8200", "token": Secret(env="T")}, "https"),
        ({"address": "ftp://vault", "token": Secret(env="T"), "unsafe_plaintext": True}, "https"),
        ({"address": "https://vault:8200"}, "one of token and kubernetes"),
        ({"address": "https://vault", "token": Secret(env="T"), "kubernetes": Kubernetes(role="r")}, "not both"),
        ({"address": "https://vault", "token": Secret(env="T"), "version": 3}, "version"),
    ],
)
def test_settings_that_make_no_sense(settings, said):
    with pytest.raises(ValueError, match=said):
        VaultSettings(**settings)


def test_plaintext_that_is_meant():
    assert VaultSettings(address="http://cray-vault.vault:8200", token=Secret(env="T"), unsafe_plaintext=True)


def test_a_ca_file_without_a_certificate(tmp_path):
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(ValueError, match="there is no certificate in"):
        store("https://vault:8200", ca=str(tmp_path / "ca.pem"))
