"""ConMan's `conman.conf`(5), 0.2 and 0.3.

A directive in a line: `server`, `global` or `console`, then `key = value` pairs.  What `global` says holds for the
consoles below it.  The kinds of devices are told apart as conmand does it, but for one thing: whether a path is a
program is seen from its looks, because the file may be converted on another machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from consoled.importing.draft import Draft, Unreadable, Values

EXECPATH = "/usr/lib/conman/exec"
"""Where its package has the scripts that a device may name without a path."""
CONSOLE = ("log", "logopts", "seropts", "ipmiopts", "testopts")
"""Keys of a console beside its name and its dev."""
SILENT = ("coredump", "coredumpdir", "logfile", "pidfile", "syslog", "nice")
"""Keys of `server` that systemd and its journal see to."""

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+|\\\n|\#[^\n]*) | (?P<end>\n) | (?P<equals>=)
      | "(?P<double>[^"\n]*)" | '(?P<single>[^'\n]*)' | (?P<word>[^\s='"\#\\]+)""",
    re.VERBOSE,
)
_PORT = re.compile(r"([^/\s:]+):(\d+)")
_SERIAL = re.compile(r"\s*(\d+)\s*(?:,\s*([5-8])\s*(?:([noeNOE])\s*([12])?)?)?\s*")
_PRIVILEGES = {"user": "user", "op": "operator", "operator": "operator", "admin": "admin"}
_IPMI_KEYS = {"U": "user", "P": "password", "K": "k_g", "C": "cipher_suites", "L": "privilege"}
_PARITIES = {"n": "none", "o": "odd", "e": "even"}


def read(text: str, file: str) -> Draft:
    """Raises `Unreadable`."""
    reader = _Reader(file)
    # Wherever they stand, they hold for all consoles.
    for line, words in sorted(_directives(text, file), key=lambda one: one[1][0].lower() != "server"):
        reader.directive(f"{file}:{line}", words)
    return reader.draft


def _directives(text: str, file: str) -> Iterator[tuple[int, list[str]]]:
    """The line and the words of each; a `=` is a word, a string is one that begins with a quote."""
    words: list[str] = []
    line = first = 1
    at = 0
    text += "\n"
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            # What stands there may be half a password.
            raise Unreadable(f"{file}:{line}: it is not understood from character {at - text.rfind(chr(10), 0, at)} on")
        if found["end"]:
            if words:
                yield first, words
            words, first = [], line + 1
        elif not found["space"]:
            words.append(found["word"] or found["equals"] or f'"{found["double"] or found["single"] or ""}')
        line += found[0].count("\n")
        at = found.end()


class _Reader:
    def __init__(self, file: str) -> None:
        self.draft = Draft(f"ConMan's {PurePosixPath(file).name}")
        self.draft.tables["transcript"] = {"directory": "/var/log/consoled"}
        self._global: dict[str, str] = {}
        self._execpath = EXECPATH
        self._reset = ""
        self._has_logs = False

    def directive(self, where: str, words: list[str]) -> None:
        kind, pairs = words[0].lower(), dict(self._pairs(where, words[1:]))
        if kind == "server":
            for key, value in pairs.items():
                self._server(where, key, value)
        elif kind == "global":
            for key, value in pairs.items():
                self._globally(where, key, value)
        elif kind == "console":
            self._console(where, pairs)
        else:
            self.draft.left_out(where, f"{_shown(words[0])} is no directive")

    def _pairs(self, where: str, words: list[str]) -> Iterator[tuple[str, str]]:
        """Keys in small letters, values without their quotes."""
        while words:
            key, equals, value, *rest = [*words, "", ""]
            if equals != "=" or not value or value == "=":
                self.draft.left_out(where, f"{_shown(key)} is not followed by = and a value")
                return
            words = rest[:-2]
            # `timestamp = 4 h` is one value of two words.
            if key.lower() == "timestamp" and words and words[0].lower() in ("m", "h", "d"):
                value += words.pop(0)
            yield key.lower(), value.removeprefix('"')

    # ------------------------------------------------------------------------------------------- server, global

    def _server(self, where: str, key: str, value: str) -> None:
        draft = self.draft
        if key in SILENT:
            draft.note(where, f"server {key}: systemd and its journal see to it")
        elif key == "execpath":
            self._execpath = next(filter(None, value.split(":")), EXECPATH)
            if ":" in value:
                draft.note(where, f"server execpath: scripts are looked for in {self._execpath} only")
        elif key == "keepalive":
            if value.lower() == "off":
                draft.tables.setdefault("defaults", {})["keepalive"] = 0
        elif key == "resetcmd":
            self._reset = value
        elif key == "logdir":
            self._log(where)
        elif key == "timestamp":
            if value.strip("mMhHdD0"):
                draft.left_out(where, "server timestamp: no such lines are written into transcripts")
        elif key in ("loopback", "port"):
            if key == "port" or value.lower() == "off":
                draft.note(where, f"server {key}: clients come by WebSocket, to 127.0.0.1:8080; see [http] and [tls]")
        elif key == "tcpwrappers":
            if value.lower() == "on":
                draft.left_out(where, "server tcpwrappers: have [auth], and a packet filter for the ports")
        else:
            draft.left_out(where, f"server {key}: there is no such key")

    def _globally(self, where: str, key: str, value: str) -> None:
        if key == "log":
            self._log(where)
        elif key == "logopts":
            for lost in self._logopts(value):
                self.draft.left_out(where, f"global logopts: {lost}")
        elif key in ("seropts", "ipmiopts", "testopts"):
            # A later one adds to it, or changes it.
            self._global[key] = f"{self._global[key]},{value}" if key == "ipmiopts" and key in self._global else value
        else:
            self.draft.left_out(where, f"global {key}: there is no such key")

    def _log(self, where: str) -> None:
        """Say where the logs are now, the first time that one is named."""
        if not self._has_logs:
            self._has_logs = True
            self.draft.note(where, "log: transcripts are /var/log/consoled/console.NAME; old logs stay where they are")

    @staticmethod
    def _logopts(value: str) -> Iterator[str]:
        for option in value.lower().replace(" ", "").split(","):
            if option in ("sanitize", "timestamp"):
                yield f"{option}: transcripts have the very bytes that the node says"

    # ------------------------------------------------------------------------------------------- consoles

    def _console(self, where: str, pairs: dict[str, str]) -> None:
        name, device = pairs.pop("name", ""), pairs.pop("dev", "")
        if not name or not device:
            self.draft.left_out(where, "a console without a name or a dev")
            return
        lost: list[str] = []
        try:
            values = self._device(name, device.replace("%N", name).strip(), pairs, lost)
        except ValueError as error:
            self.draft.left_out(where, f"console {name!r}: {error}")
            return
        if "log" in pairs:
            if pairs["log"]:
                self._log(where)
            else:
                lost.append('log = "": every console has a transcript')
        lost += [f"logopts: {one}" for one in self._logopts(pairs.get("logopts", ""))]
        lost += [f"{key}: there is no such key" for key in pairs if key not in CONSOLE]
        if self._reset:
            command = self._reset.replace("%N", name).replace("%D", PurePosixPath(device).name).replace("%%", "%")
            values["reset_command"] = ["/bin/sh", "-c", command]
        self.draft.console(where, name, values, lost)

    def _device(self, name: str, device: str, pairs: dict[str, str], lost: list[str]) -> Values:
        """The settings that reach `device`.  Raises `ValueError` if nothing does."""
        scheme, _, rest = device.partition(":")
        if scheme == "ipmi" and rest:
            return self._ipmi(rest, ",".join(filter(None, (self._global.get("ipmiopts"), pairs.get("ipmiopts")))), lost)
        if scheme == "unix" and rest:
            return {"kind": "unix", "path": rest}
        if scheme == "test":
            lost.append("a test device: a simulated node that says a line now and then takes its place")
            return {"kind": "demo", "role": "chatter"}
        if _PORT.fullmatch(device):
            return {"kind": "telnet", "address": device}
        if not device.startswith("/dev/"):
            return self._process(device)
        options = pairs.get("seropts") or self._global.get("seropts", "9600,8n1")
        return {"kind": "serial", "device": device} | self._serial(options)

    @staticmethod
    def _serial(options: str) -> Values:
        found = _SERIAL.fullmatch(options)
        if found is None:
            raise ValueError(f"seropts: {options!r} is not understood")
        values: Values = {"speed": int(found[1])}
        if found[2] and found[2] != "8":
            values["bits"] = int(found[2])
        if found[3] and found[3].lower() != "n":
            values["parity"] = _PARITIES[found[3].lower()]
        if found[4] == "2":
            values["stop_bits"] = 2
        return values

    def _process(self, device: str) -> Values:
        script, *arguments = device.split()
        if "/" not in script:
            script = f"{self._execpath}/{script}"
        match PurePosixPath(script).name, arguments:
            case "ssh.exp", [host, port, user, password]:
                # Like the script, which asks ssh not to check the host's key; unlike it, a changed one is refused.
                address = host if port == "22" else f"{host}:{port}"
                values: Values = {"kind": "ssh", "address": address, "user": user, "password": password}
                return values | {"trust_on_first_use": True}
            case "ipmiconsole.exp" | "ipmitool.exp" as program, [host, user, password, *k_g] if len(k_g) < 2:
                values = {"kind": "ipmi", "address": host, "user": user, "password": password}
                values |= {"k_g": k_g[0]} if k_g else {}
                return values | {"program": program.removesuffix(".exp")}
        return {"kind": "process", "command": [script, *arguments]}

    @staticmethod
    def _ipmi(host: str, options: str, lost: list[str]) -> Values:
        values: Values = {"kind": "ipmi", "address": host}
        workarounds: list[str] = []
        for option in filter(None, map(str.strip, options.split(","))):
            key, _, value = option.partition(":")
            match key.upper(), value:
                case "U" | "P" | "K" | "C" | "L", "":
                    values.pop(_IPMI_KEYS[key.upper()], None)
                case "U", _:
                    values["user"] = value
                case "P", _:
                    values["password"] = _in_letters(value)
                case "K", _:
                    values["k_g"] = value
                case "C", _ if value.isdecimal():
                    values["cipher_suites"] = [int(value)]
                case "L", _ if value.lower() in _PRIVILEGES:
                    values["privilege"] = _PRIVILEGES[value.lower()]
                case "W", _ if re.fullmatch(r"[a-z][a-z0-9]*", value):
                    workarounds.append(value)
                case _:
                    lost.append(f"ipmiopts: {key}:{'...' if key.upper() in 'PK' else value}")
        if "user" not in values or "password" not in values:
            raise ValueError("ipmiopts: without U and P the BMC's anonymous user was meant, which is not supported")
        return values | ({"workarounds": list(dict.fromkeys(workarounds))} if workarounds else {})


def _shown(word: str) -> str:
    """A word for a remark; not a string, which may be a password."""
    return "a string" if word.startswith('"') else repr(word)


def _in_letters(password: str) -> str:
    """A password that may be in hexadecimal.  Raises `ValueError`, which does not quote it."""
    if not password.lower().startswith("0x"):
        return password
    try:
        text = bytes.fromhex(password[2:]).split(b"\0", 1)[0].decode("ascii")
    except ValueError:
        raise ValueError("ipmiopts: the password in hexadecimal is no text") from None
    return text
