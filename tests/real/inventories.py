"""What has consoles beside the file, played by the test: a program, a web server, and the services of a CSM system.

Also the nodes themselves: raw ports of a terminal server, and a BMC behind SSH.  Used by `test_sources`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from trustme import CA
from twisted.conch.avatar import ConchUser
from twisted.conch.error import ValidPublicKey
from twisted.conch.ssh.channel import SSHChannel
from twisted.conch.ssh.factory import SSHFactory
from twisted.conch.ssh.keys import Key
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import ISSHPrivateKey
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Site

# ------------------------------------------------------------------------------------------------ nodes


class Ports(Factory):
    """A terminal server with a port for each node."""

    noisy = False

    def __init__(self) -> None:
        self.addresses: dict[str, str] = {}
        self.lines: dict[str, _Line] = {}
        """Of each node the connection that it has now."""
        self._ports: list[Any] = []

    def add(self, *names: str) -> None:
        for name in names:
            factory = Factory.forProtocol(lambda name=name: _Line(self, name))
            factory.noisy = False
            port = reactor.listenTCP(0, factory, interface="127.0.0.1")
            self._ports.append(port)
            self.addresses[name] = f"127.0.0.1:{port.getHost().port}"

    @property
    def peers(self) -> dict[str, int]:
        """The port at the daemon's end of each connection, by which one knows that it is still the same."""
        return {name: line.transport.getPeer().port for name, line in self.lines.items()}

    async def close(self) -> None:
        for port in self._ports:
            await port.stopListening()
        for line in list(self.lines.values()):
            line.transport.abortConnection()
            await line.gone


class _Line(Protocol):
    def __init__(self, ports: Ports, name: str) -> None:
        self._ports = ports
        self._name = name
        self.gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self._ports.lines[self._name] = self

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._ports.lines.get(self._name) is self:
            del self._ports.lines[self._name]
        self.gone.callback(None)


class Bmc(SSHFactory):
    """A BMC that lets in by password, or by key, and greets by name."""

    noisy = False

    def __init__(self, passwords: dict[str, str], keys: dict[str, Key]) -> None:
        host = Key.fromString(new_key())
        self.publicKeys, self.privateKeys = {b"ssh-rsa": host.public()}, {b"ssh-rsa": host}
        by_password = InMemoryUsernamePasswordDatabaseDontUse(
            **{name: password.encode() for name, password in passwords.items()}
        )
        self.portal = Portal(self, [by_password, _ByKey(keys)])
        self.transports: list[Any] = []
        self._port = reactor.listenTCP(0, self, interface="127.0.0.1")
        self.address = f"127.0.0.1:{self._port.getHost().port}"

    def requestAvatar(self, name: Any, mind: Any, *interfaces: Any) -> Any:
        user = ConchUser()
        user.channelLookup[b"session"] = type("Greeting", (_Session,), {"who": name.decode()})
        return interfaces[0], user, lambda: None

    def buildProtocol(self, addr: Any) -> Any:
        self.transports.append(super().buildProtocol(addr))
        return self.transports[-1]

    async def close(self) -> None:
        await self._port.stopListening()
        for one in self.transports:
            if one.transport.connected:
                one.transport.abortConnection()


class _ByKey:
    """Knows the key of each user.  (Conch's own needs a module that Python no longer has.)"""

    credentialInterfaces = (ISSHPrivateKey,)

    def __init__(self, keys: dict[str, Key]) -> None:
        self._keys = keys

    def requestAvatarId(self, credentials: Any) -> bytes:
        key = self._keys.get(credentials.username.decode())
        if key is None or credentials.blob != key.blob():
            raise UnauthorizedLogin
        if credentials.signature is None:
            raise ValidPublicKey
        if not key.verify(credentials.signature, credentials.sigData):
            raise UnauthorizedLogin
        return bytes(credentials.username)


class _Session(SSHChannel):
    name = b"session"
    who: str

    def request_pty_req(self, data: bytes) -> int:
        return 1

    def request_shell(self, data: bytes) -> int:
        reactor.callLater(0, self.write, f"welcome {self.who}\r\n".encode())
        return 1


def new_key() -> str:
    """A private key as Vault's transit engine exports it."""
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


# ------------------------------------------------------------------------------------------------ over HTTP


class Web(Resource):
    """A web server that has what the test puts there: JSON, or a status."""

    isLeaf = True

    def __init__(self, authority: CA | None = None) -> None:
        super().__init__()
        self.pages: dict[str, Any] = {}
        """By the path with its query: JSON, a status, or a function of the request that gives one of them."""
        self.heard: list[tuple[str, str | None]] = []
        """Each path, and the token that came with it."""
        self.status = 200
        if authority is None:
            self._port = reactor.listenTCP(0, Site(self), interface="127.0.0.1")
        else:
            leaf = authority.issue_cert("localhost")
            certificate = load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
            key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
            options = CertificateOptions(certificate=certificate, privateKey=key)
            self._port = reactor.listenSSL(0, Site(self), options, interface="127.0.0.1")
        self.url = f"{'https' if authority else 'http'}://localhost:{self._port.getHost().port}"

    def render(self, request: Any) -> bytes:
        path = request.uri.decode()
        self.heard.append((path, request.getHeader("authorization")))
        page = self.pages.get(path, 404)
        if callable(page):
            page = page(request)
        status = page if isinstance(page, int) else self.status
        request.setResponseCode(status)
        if status != 200:
            return json.dumps({"title": "Out of order", "detail": "as the test wants it"}).encode()
        return json.dumps(page).encode()

    async def close(self) -> None:
        await self._port.stopListening()


# ------------------------------------------------------------------------------------------------ sources


class Command:
    """A program that prints the list."""

    def __init__(self, home: Path, ports: Ports) -> None:
        self._list = home / "list.json"
        self._ports = ports
        program = home / "consoles"
        program.write_text(f"#!/bin/sh\nexec cat {self._list}\n")
        program.chmod(0o755)
        self.toml = f'kind = "command"\ncommand = ["{program}"]'

    def has(self, *names: str) -> None:
        fresh = self._list.with_suffix(".new")
        fresh.write_text(json.dumps(entries(self._ports, names)))
        fresh.replace(self._list)

    def fail(self) -> None:
        self._list.unlink()

    async def close(self) -> None:
        pass


class Http:
    """A web server that has the list."""

    def __init__(self, home: Path, ports: Ports, *, secure: bool = False) -> None:
        authority = CA()
        authority.cert_pem.write_to_path(home / "site-ca.pem")
        (home / "site.token").write_text("a-token-of-the-site\n")
        (home / "site.token").chmod(0o600)
        self._ports = ports
        self.web = Web(authority if secure else None)
        self.toml = f'kind = "http"\nurl = "{self.web.url}/consoles"\ntoken = {{ file = "site.token" }}\n'
        self.toml += 'ca = "site-ca.pem"' if secure else ""

    def has(self, *names: str) -> None:
        self.web.status = 200
        self.web.pages["/consoles"] = entries(self._ports, names)

    def fail(self) -> None:
        self.web.status = 503

    async def close(self) -> None:
        assert {token for _, token in self.web.heard} == {"Bearer a-token-of-the-site"}
        await self.web.close()


def https(home: Path, ports: Ports) -> Http:
    return Http(home, ports, secure=True)


class Csm:
    """HSM, SLS and Vault, in the shapes that CSM's documents give them."""

    def __init__(self, home: Path, ports: Ports | None = None) -> None:
        self._ports = ports
        self.web = Web()
        self.nodes: dict[str, str | None] = {}
        """The class of each node, by its xname."""
        self.paradise: list[str] = []
        self.credentials: dict[str, dict[str, str]] = {}
        """Of BMCs, by their xnames."""
        self.keys: dict[str, str] = {}
        """The versions of the key for Mountain."""
        self.tokens: list[str] = []
        self.logins: list[dict[str, str]] = []
        (home / "service-account").write_text("a-service-account")
        self.toml = (
            f'kind = "csm"\nhsm = "{self.web.url}/hsm/v2"\nsls = "{self.web.url}/sls/v1"\nnames = "alias"\n'
            'river = { kind = "tcp", address = "127.0.0.1:{alias}" }\n'
        )
        self.vault = (
            f'[vault]\naddress = "{self.web.url}"\nversion = 1\n'
            'kubernetes = { role = "services", token = "service-account" }\n'
        )
        pages = self.web.pages
        pages["/hsm/v2/State/Components?type=Node"] = lambda _: {"Components": [*map(self._component, self.nodes)]}
        pages["/hsm/v2/Inventory/RedfishEndpoints"] = lambda _: {
            "RedfishEndpoints": [self._endpoint(bmc) for bmc in sorted({bmc_of(xname) for xname in self.nodes})]
        }
        pages["/hsm/v2/Inventory/Hardware?Manufacturer=Foxconn&Type=Node"] = lambda _: [
            {"ID": xname, "Type": "Node", "PopulatedFRU": {"NodeFRUInfo": {"Model": "1A62WCB00-600-G"}}}
            for xname in self.paradise
        ]
        pages["/sls/v1/hardware"] = lambda _: [*map(self._piece, self.nodes)]
        pages["/v1/auth/kubernetes/login"] = self._log_in
        pages["/v1/transit/export/signing-key/mountain-bmc-console"] = lambda request: self._secret(
            request, {"name": "mountain-bmc-console", "type": "rsa-2048", "keys": self.keys}
        )

    def has(self, *names: str) -> None:
        """River's nodes of these names, by aliases that are the ports of their lines."""
        self.web.status = 200
        self.nodes = {f"x3000c0s{name.removeprefix('n')}b0n0": "River" for name in names}

    def fail(self) -> None:
        self.web.status = 500

    def name(self, xname: str) -> str:
        """The alias, which says where the node's line is."""
        assert self._ports is not None
        number = xname.removeprefix("x3000c0s").partition("b")[0]
        return self._ports.addresses[f"n{number}"].partition(":")[2]

    def give(self, bmc: str, user: str, password: str) -> None:
        """Credentials of a BMC."""
        self.credentials[bmc] = {"Xname": bmc, "URL": f"{bmc}/redfish/v1", "Username": user, "Password": password}
        self.web.pages[f"/v1/secret/hms-creds/{bmc}"] = lambda request: self._secret(request, self.credentials[bmc])

    async def close(self) -> None:
        await self.web.close()

    def _component(self, xname: str) -> dict[str, Any]:
        found = {"ID": xname, "Type": "Node", "State": "Ready", "Flag": "OK", "Enabled": True, "Role": "Compute",
                 "NID": 1, "Arch": "X86", "Locked": False}  # fmt: skip
        node_class = self.nodes[xname]
        return found if node_class is None else found | {"Class": node_class}

    def _endpoint(self, bmc: str) -> dict[str, Any]:
        return {"ID": bmc, "Type": "NodeBMC", "Hostname": bmc, "Domain": "hmn", "FQDN": f"{bmc}.hmn", "Enabled": True,
                "User": "not-this-one", "Password": "", "IPAddress": "10.254.1.3"}  # fmt: skip

    def _piece(self, xname: str) -> dict[str, Any]:
        extra = {"Aliases": [self.name(xname)], "NID": 1, "Role": "Compute"} if self._ports else {}
        return {"Parent": bmc_of(xname), "Xname": xname, "Type": "comptype_node", "Class": self.nodes[xname],
                "TypeString": "Node", "ExtraProperties": extra}  # fmt: skip

    def _log_in(self, request: Any) -> Any:
        self.logins.append(json.loads(request.content.read()))
        self.tokens.append(f"a-token-of-vault-{len(self.tokens)}")
        return {"auth": {"client_token": self.tokens[-1]}}

    def _secret(self, request: Any, data: dict[str, Any]) -> Any:
        if self.tokens and request.getHeader("x-vault-token") == self.tokens[-1]:
            return {"data": data}
        return 403


def bmc_of(xname: str) -> str:
    return xname.rpartition("n")[0]


def entries(ports: Ports, names: tuple[str, ...]) -> list[dict[str, str]]:
    """The list that a program prints or a server has."""
    return [{"name": name, "kind": "tcp", "address": ports.addresses[name]} for name in names]


SOURCES: dict[str, Callable[[Path, Ports], Any]] = {"command": Command, "http": Http, "https": https, "csm": Csm}
