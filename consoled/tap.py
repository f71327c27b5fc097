"""What twistd asks for: `twistd consoled`, its options, and the daemon that they describe.

The only place that knows the reactor.  `twisted.plugins.consoled_plugin` names it to twistd; `daemon` is the rest.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.logger import FileLogObserver, textFileLogObserver
from twisted.python import usage

from consoled import __version__
from consoled.garbage import unhurried

with unhurried():
    from consoled.caveats import missing
    from consoled.config import ConfigError, load
    from consoled.daemon import Daemon as Daemon
    from consoled.logbook import goes_to_journal
    from consoled.printable import PlainStream


class Options(usage.Options):
    """`twistd consoled`'s own command line."""

    optParameters = [["config", "c", "/etc/consoled/consoled.toml", "The configuration file."]]
    optFlags = [
        ["check", None, "Check the configuration, say what is wrong with it, and exit."],
        ["list", None, "With --check: list the consoles that it makes."],
    ]

    daemon: Daemon

    def opt_version(self) -> None:
        """Print the version and exit."""
        print(f"consoled {__version__}")  # noqa: T201
        sys.exit(0)

    @unhurried()
    def postOptions(self) -> None:
        from twisted.internet import reactor

        path = Path(self["config"]).absolute()
        try:
            config = load(path)
        except ConfigError as error:
            raise usage.UsageError(str(error)) from None
        if self["check"]:
            for complaint in missing(config):
                raise usage.UsageError(f"{path}: {complaint}")
        go_steady(reactor)
        try:
            self.daemon = Daemon(config, reactor, partial(load, path))
        except ValueError as error:
            raise usage.UsageError(f"{path}: {error}") from None
        if self["check"]:
            rows = list(self.daemon.consoles())
            for row in rows if self["list"] else ():
                print("\t".join(row))  # noqa: T201
            print(f"{self['config']}: {len(rows)} consoles, and nothing wrong")  # noqa: T201
            sys.exit(0)
        self._arrange_log(goes_to_journal(config.log, os.environ))

    def _arrange_log(self, to_journal: bool) -> None:
        """Have records in journald's log, or else nothing in it that a terminal would obey.

        Unless twistd's own options send it to some other place than standard output.
        """
        twistd: Any = self.parent or {}
        to_stdout = twistd.get("logfile") == "-" or (twistd.get("nodaemon") and not twistd.get("logfile"))
        if to_stdout and not (twistd.get("logger") or twistd.get("syslog")):
            twistd["logger"] = "consoled.logbook.in_journal" if to_journal else f"{__name__}.plain_log"


def go_steady(reactor: Any) -> None:
    """Have its timers count the seconds that pass.

    Twisted's go by the clock on the wall: set back by an hour, it stops every timeout for an hour, and with them the
    end of sessions whose right has ended; set forward, all of them are over at once.
    """
    if not (reactor.running or reactor.getDelayedCalls()):  # else we are a guest in it
        reactor.seconds = time.monotonic


def plain_log() -> FileLogObserver:
    """What twistd makes itself, with `PlainStream` in between."""
    stream: Any = PlainStream(sys.stdout)
    return textFileLogObserver(stream)


def makeService(options: Options) -> MultiService:
    """The service that `options` describe."""
    return options.daemon
