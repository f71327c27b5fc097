"""conserver's `conserver.cf`(5), 8.2 and 8.3.

Blocks are read in their order, as conserver does: a `default` is a set of keys that later blocks include, the one
called `*` goes before every console below it, and a name that comes again begins anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath

from consoled.importing.conserver_syntax import Block, Pair, blocks
from consoled.importing.conserver_values import lay, listed, options_of, port_of, said, substituted, unescaped
from consoled.importing.draft import Draft, Values, fold

FLOW = {"ixon": True, "ixoff": True, "crtscts": False}
"""The flow control of a serial port, unless a console says otherwise."""
SERIAL_BREAK = r"\z"
WORKAROUNDS = {
    "activation-status": "solstatus",
    "auth-capabilites": "authcap",
    "channel-payload": "solchannelsupport",
    "checksum": "nochecksumcheck",
    "ignore-payload-size": "solpayloadsize",
    "ignore-port": "solport",
    "integrity": "integritycheckvalue",
    "intel-session": "intel20",
    "packet-sequence": "solpacketseq",
    "privilege": "opensesspriv",
    "serial-alerts": "serialalertsdeferred",
    "sun-session": "sun20",
    "supermicro-session": "supermicro20",
}
"""What ipmiconsole(8) calls them."""
_WORDS = """
    baud break breaklist device devicesubst exec execrunas execsubst host initspinmax initspintimer ipmiciphersuite
    ipmikg ipmiprivlevel ipmiworkaround logfile logfilemax master options parity password port portbase portinc
    protocol replstring ro rw tasklist timestamp type uds udssubst username
"""
KNOWN = frozenset(_WORDS.split())
"""Keys of a console that are understood, or mean nothing by themselves."""
UNLIKE = {
    "aliases": "a console has one name",
    "idlestring": "nothing is typed by itself",
    "idletimeout": "nothing is typed by itself; quiet_timeout reports a silent node",
    "motd": "nothing is shown to those who attach",
    "initcmd": "there is no login dialogue: kind ssh logs in, kind process runs a script of yours instead of the line",
    "initrunas": "see initcmd",
    "initsubst": "see initcmd",
}
"""Keys that have no counterpart, and why."""
OPTIONS = {
    "!autoreinit": "a link is always tried again",
    "!login": "have a role without it in [auth]",
    "ixany": "only XON lets output go on",
    "striphigh": "bytes pass as they are",
    "unloved": "the daemon's log has no console output",
}
"""Options that have no counterpart, and why."""


def read(text: str, file: str, include: Callable[[str], str]) -> Draft:
    """`include` gives the text of a file that another one includes.  Raises `Unreadable`, and what `include` raises."""
    reader = _Reader(file)
    for block in blocks(text, file, include):
        reader.block(block)
    reader.finish()
    return reader.draft


class _Reader:
    def __init__(self, file: str) -> None:
        self.draft = Draft(f"conserver's {PurePosixPath(file).name}")
        self.draft.tables["transcript"] = {"directory": "/var/log/consoled"}
        self._defaults: dict[str, dict[str, Pair]] = {}
        self._breaks = {"1": SERIAL_BREAK}
        self._groups: dict[str, list[str]] = {}
        self._access: dict[tuple[str, str], tuple[str, list[str]]] = {}
        self._sizes: dict[str, str] = {}
        self._masters: dict[str, str] = {}

    def block(self, block: Block) -> None:
        match block.kind:
            case "default":
                self._defaults[block.name] = self._settled(block, {})
            case "console":
                self._console(block)
            case "break":
                self._breaks[block.name] = next((pair.value for pair in block.pairs if pair.key == "string"), "")
                self.draft.left_out(
                    block.where, f"break {block.name}: of use only as a program's own; else it is typed"
                )
            case "group":
                users = (pair.value for pair in block.pairs if pair.key == "users")
                self._groups[block.name] = [user for value in users for user in listed(value)]
            case "access":
                for pair in block.pairs:
                    self._left_out_access(pair)
            case "config":
                for pair in block.pairs:
                    self._config(pair)
            case "task":
                self.draft.left_out(
                    block.where, f"task {block.name}: there are no tasks; reset_command runs one command"
                )
            case _:
                self.draft.left_out(block.where, f"{block.kind!r} is no kind of block")

    def finish(self) -> None:
        """What can be said only when all consoles are known."""
        for (rw, ro), (where, names) in self._access.items():
            may = "; ".join(f"{what} {users}" for what, users in (("rw", rw), ("ro", ro)) if users)
            self.draft.left_out(where, f"{may}: on {fold(names)}: have tokens, and a [[role]] with these consoles")
        if len(self._masters) > 1:
            where = next(iter(self._masters.values()))
            self.draft.left_out(
                where, f"master: all consoles of {', '.join(self._masters)} are here; there is no redirection"
            )
        sizes = set(self._sizes.values())
        if len(sizes) == 1 and (found := re.fullmatch(r"(\d+)([km]?)", sizes.pop().lower())):
            size = int(found[1]) * {"": 1, "k": 1024, "m": 1 << 20}[found[2]]
            self.draft.tables["transcript"]["max_size"] = max(size, 4096)
        elif self._sizes:
            self.draft.left_out(next(iter(self._sizes)), "logfilemax: transcript.max_size is the same for all consoles")

    # ------------------------------------------------------------------------------------------- blocks

    def _settled(self, block: Block, settings: dict[str, Pair]) -> dict[str, Pair]:
        """The keys of `block` and of what it includes, upon `settings`; options and users add up."""
        for pair in block.pairs:
            if pair.key == "include":
                if pair.value not in self._defaults:
                    self.draft.left_out(pair.where, f"include {pair.value}: there is no such default")
                for inherited in self._defaults.get(pair.value, {}).values():
                    lay(settings, inherited)
            else:
                lay(settings, pair)
        return settings

    def _config(self, pair: Pair) -> None:
        key, draft = pair.key, self.draft
        if key in ("primaryport", "secondaryport", "defaultaccess", "redirect", "sslrequired"):
            draft.note(pair.where, f"{key}: clients come by WebSocket, to 127.0.0.1:8080; see [http], [tls] and [auth]")
        elif key in ("sslcredentials", "sslcacertificatefile", "sslreqclientcert"):
            to = {"sslcredentials": "certificates", "sslcacertificatefile": "client_ca"}.get(key, "client_certificates")
            draft.left_out(pair.where, f"{key} {pair.value}: tls.{to}, once [auth] says who may come in")
        elif key == "passwdfile":
            draft.left_out(pair.where, f"passwdfile {pair.value}: people log in with tokens; see [auth]")
        elif key == "unifiedlog":
            draft.left_out(pair.where, "unifiedlog: a file for each console is all that there is")
        elif key not in ("daemonmode", "logfile", "setproctitle", "autocomplete", "initdelay", "reinitcheck"):
            draft.left_out(pair.where, f"config {key}: there is no such key")

    def _left_out_access(self, pair: Pair) -> None:
        advice = {
            "admin": "give their tokens the role admin",
            "limited": "give their tokens a [[role]] of their own",
            "rejected": "have a packet filter",
            "trusted": "nobody is trusted for their address; see [auth]",
            "allowed": "have a packet filter; everybody logs in",
        }
        self.draft.left_out(
            pair.where, f"access {pair.key} {pair.value}: {advice.get(pair.key, 'there is no such list')}"
        )

    # ------------------------------------------------------------------------------------------- consoles

    def _console(self, block: Block) -> None:
        name = block.name
        settings = self._settled(block, dict(self._defaults.get("*", {})))
        lost = [f"{key}: {why}" for key, why in UNLIKE.items() if said(settings, key)]
        lost += [f"{key}: there is no such key" for key in settings if key not in KNOWN and key not in UNLIKE]
        try:
            values = self._reached(name, settings, lost)
        except ValueError as error:
            self.draft.left_out(block.where, f"console {name!r}: {error}")
            return
        options = options_of(settings)
        lost += [
            f"options {option}: {why}"
            for option, why in OPTIONS.items()
            if options.get(option.lstrip("!")) is (option[0] != "!")
        ]
        if options.get("ondemand"):
            values["on_demand"] = True
        if settings.get("logfile") and settings["logfile"].value in ("", "/dev/null") and values["kind"] != "demo":
            lost.append("logfile: every console has a transcript")
        if said(settings, "timestamp"):
            lost.append("timestamp: no such lines are written into transcripts")
        if self.draft.console(block.where, name, values, lost):
            self._collect(block.where, name, settings)

    def _collect(self, where: str, name: str, settings: dict[str, Pair]) -> None:
        """What is said once for many consoles."""
        lists = [self._users(said(settings, key)) for key in ("rw", "ro")]
        if any(lists):
            self._access.setdefault((lists[0], lists[1]), (where, []))[1].append(name)
        if master := said(settings, "master"):
            self._masters.setdefault(master, where)
        if size := said(settings, "logfilemax"):
            self._sizes[where] = size

    def _users(self, text: str) -> str:
        """A list of users, with the groups' members in their place."""
        return ", ".join(
            prefix + member
            for user in listed(text)
            for prefix, name in [("!", user[1:]) if user.startswith("!") else ("", user)]
            for member in self._groups.get(name, [name])
        )

    def _reached(self, name: str, settings: dict[str, Pair], lost: list[str]) -> Values:
        """The settings of the kind.  Raises `ValueError` if there is none."""
        kind = said(settings, "type")
        host = said(settings, "host")
        match kind:
            case "host":
                if not host or not said(settings, "port"):
                    raise ValueError("host and port are needed")
                address = f"[{host}]" if ":" in host else host
                raw = said(settings, "protocol") == "raw"
                values: Values = {"kind": "tcp" if raw else "telnet", "address": f"{address}:{port_of(settings)}"}
            case "device":
                values = {"kind": "serial", **self._serial(name, settings, lost)}
            case "exec":
                command = substituted("exec", name, settings)
                argv = ["/bin/sh", "-ce", command] if command else ["/bin/sh", "-i"]
                # conserver's terminals echo and edit lines.
                values = {"kind": "process", "command": argv, "raw": False}
                user, _, group = said(settings, "execrunas").partition(":")
                if user:
                    values["user"] = user
                if group:
                    lost.append(f"execrunas: the group is that of the user, and not {group}")
            case "ipmi":
                values = {"kind": "ipmi", "address": host, **self._ipmi(settings)}
            case "uds":
                values = {"kind": "unix", "path": substituted("uds", name, settings)}
            case "noop":
                values = {"kind": "demo", "role": "quiet", "enabled": False}
            case _:
                raise ValueError(f"there is no type {kind!r}" if kind else "it has no type")
        return values | self._break(settings, kind, lost)

    def _break(self, settings: dict[str, Pair], kind: str, lost: list[str]) -> Values:
        """The console's own break sequence, where it can have one."""
        number = said(settings, "break") or "1"
        sequence = self._breaks.get(number, "")
        if sequence in ("", SERIAL_BREAK) or kind == "noop":
            return {}
        if kind == "exec" and not re.search(r"\\[dz]", sequence):
            return {"break_sequence": unescaped(sequence)}
        lost.append(f"break {number}: a break is the line's own, without sequence or delay")
        return {}

    def _serial(self, name: str, settings: dict[str, Pair], lost: list[str]) -> Values:
        options = FLOW | options_of(settings)
        parity = said(settings, "parity") or "none"
        values: Values = {
            "device": substituted("device", name, settings),
            "speed": int(said(settings, "baud") or 9600),
        }
        if parity != "none":
            values |= {"bits": 7, "parity": parity}
        if options.get("cstopb"):
            values["stop_bits"] = 2
        if options["crtscts"]:
            values["flow"] = "rtscts"
            if options["ixon"] or options["ixoff"]:
                lost.append("options ixon, ixoff: beside crtscts there is no other flow control")
        elif options["ixon"] or options["ixoff"]:
            values["flow"] = "xonxoff"
        if options.get("hupcl"):
            values["hang_up"] = True
        return values

    @staticmethod
    def _ipmi(settings: dict[str, Pair]) -> Values:
        user, password = said(settings, "username"), said(settings, "password")
        if not user or not password or not said(settings, "host"):
            raise ValueError("host, username and password are needed: the BMC's anonymous user is not supported")
        values: Values = {"user": user, "password": password}
        if k_g := said(settings, "ipmikg"):
            values["k_g"] = unescaped(k_g, control=False)
        suite = int(said(settings, "ipmiciphersuite") or -1)
        if suite >= 0:
            values["cipher_suites"] = [suite]
        if privilege := said(settings, "ipmiprivlevel"):
            values["privilege"] = privilege
        wanted = listed(said(settings, "ipmiworkaround"))
        if flags := [WORKAROUNDS[one] for one in wanted if one in WORKAROUNDS and f"!{one}" not in wanted]:
            values["workarounds"] = flags
        return values
