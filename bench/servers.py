"""The servers under test, each configured as its makers mean it.

consoled and conserver reach a node as a raw TCP port, ConMan as telnet, which is the only way that it has over TCP (our
nodes negotiate nothing).  All write one log for each console; consoled cuts and keeps them as it does by default.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.machine import PATIENCE, Tools, Trouble, free_port
from bench.stand import Stand, address, console

LIMITS = """[limits]
waiting = 20000
waiting_each_address = 20000
connections_each_address = 20000
sessions_each_user = 20000"""
"""Its limits for strangers are by address and user, and all our clients are one."""


class Consoled(Stand):
    name = "consoled"
    kind = "ws"

    def command(self) -> list[str | Path]:
        lines = [
            f'[http]\nlisten = ["tcp:{self.port}:interface=127.0.0.1"]',
            LIMITS,
            f'[hub]\nstate = "{self.place}"',
            f'[transcript]\ndirectory = "{self.logs}"\n{self.options.get("transcript", "")}',
        ]
        if self.options.get("tls"):
            self.tls_port = free_port()
            key, chain = certificate(self.place)
            lines.append(f'[tls]\nlisten = ["tcp:{self.tls_port}:interface=127.0.0.1"]')
            lines.append(f'certificates = [{{ certificate = "{chain}", key = "{key}" }}]')
        for number in range(self.count):
            at = f"{address(number)}:{self.node_port}"
            lines.append(f'[[console]]\nname = "{console(number)}"\nkind = "tcp"\naddress = "{at}"')
        config = self.place / "consoled.toml"
        config.write_text("\n".join(lines) + "\n")
        twistd = Path(sys.executable).with_name("twistd")
        return [sys.executable, twistd, "--nodaemon", "--pidfile=", "consoled", "--config", config]

    def files(self, number: int) -> list[Path]:
        active = self.logs / f"console.{console(number)}"
        return [*sorted(self.logs.glob(f"{active.name}.{'[0-9]' * 20}")), active]

    def forget(self) -> None:
        """Its closed segments; the active files are small."""
        for path in self.logs.glob(f"console.*.{'[0-9]' * 20}"):
            path.unlink()

    def _door(self, tls: bool) -> tuple[int, str]:
        return (self.tls_port, "tls") if tls else (self.port, "plain")

    def _path(self, verb: str, headers: str) -> tuple[str, str]:
        return f"/console-operator/{verb}/", headers


class ConMan(Stand):
    name = kind = package = "conman"

    def command(self) -> list[str | Path]:
        lines = [
            f"SERVER port={self.port}\nSERVER loopback=on",
            f'SERVER logdir="{self.logs}"\nSERVER pidfile="{self.place}/pid"',
            'GLOBAL log="%N.log"',
        ]
        for number in range(self.count):
            lines.append(f'CONSOLE name="{console(number)}" dev="{address(number)}:{self.node_port}"')
        config = self.place / "conman.conf"
        config.write_text("\n".join(lines) + "\n")
        return [program("conmand", "conman"), "-F", "-c", config, "-p", str(self.port)]


class Conserver(Stand):
    name = kind = "conserver"
    package = "conserver-server"
    MEMBERS = 16
    """Consoles of one process: its default."""

    @property
    def patience(self) -> float:  # type: ignore[override]
        """It rests for 0.75 s after each fork."""
        return 2 * PATIENCE + self.count / self.MEMBERS

    def command(self) -> list[str | Path]:
        lines = [
            f"config * {{ primaryport {self.port}; sslrequired no; logfile {self.place}/conserver.log; }}",
            f'default * {{ rw *; master localhost; logfile {self.logs}/&.log; timestamp "";'
            f" type host; protocol raw; port {self.node_port}; }}",
            "access * { trusted 127.0.0.1; }",
        ]
        for number in range(self.count):
            lines.append(f"console {console(number)} {{ host {address(number)}; }}")
        config = self.place / "conserver.cf"
        config.write_text("\n".join(lines) + "\n")
        server = program("conserver", "conserver-server")
        return [server, "-E", "-C", config, "-M", "127.0.0.1", "-m", str(self.MEMBERS)]


class Relay(Stand):
    """The yardstick: no server, but what any could reach that reads so much at once, with a log or without."""

    kind = "plain"

    def __init__(self, tools: Tools, place: Path, *, size: int, log: bool = False) -> None:
        self.name = self.key(1, {"size": size, "log": log})[0]
        super().__init__(tools, place, 1, size=size, log=log)

    @classmethod
    def key(cls, count: int, options: Mapping[str, Any]) -> tuple[Any, ...]:
        return f"relay-{options['size'] >> 10}k{'+log' * options['log']}", count

    def command(self) -> list[str | Path]:
        size = str(self.options["size"])
        log = [self.logs / f"{console(0)}.log"] if self.options["log"] else []
        return [self.tools.place / "relay", address(0), str(self.node_port), str(self.port), size, *log]

    def forget(self) -> None:
        if self.options["log"]:
            super().forget()


SERVERS: dict[str, type[Stand]] = {kind.name: kind for kind in (Consoled, ConMan, Conserver)}


def program(name: str, package: str) -> str:
    path = shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if path is None:
        raise Trouble(f"{name} is missing: apt-get install {package}")
    return path


def certificate(place: Path) -> tuple[Path, Path]:
    """A key and a certificate of this run."""
    key, chain = place / "key.pem", place / "chain.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    argv += ["-keyout", str(key), "-out", str(chain), "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run(argv, check=True, capture_output=True, timeout=PATIENCE)
    return key, chain


def versions() -> Iterator[tuple[str, str]]:
    """What is being compared."""
    for name in ("consoled", "twisted", "autobahn", "pyopenssl"):
        yield name, version(name)
    for kind in SERVERS.values():
        if kind.package:
            argv = ["dpkg-query", "-W", "-f", "${Version}", kind.package]
            done = subprocess.run(argv, capture_output=True, text=True)
            yield kind.name, done.stdout or "not installed"
