"""The budget of file descriptors: each console takes two, each client one.

`tap` asks once at start.  A daemon that runs out goes on (`accept` and the links fail and try again), but it is
better to know before fifty racks boot.
"""

from __future__ import annotations

import resource

from twisted.logger import Logger

RESERVE = 64
"""For the listeners, the log, the tokens file, readers of transcripts and children being started."""

_log = Logger()


def raise_limit(consoles: int, clients: int) -> None:
    """Raise the soft limit to the hard one, and warn if `consoles` and `clients` cannot all fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return
    must = 2 * consoles + RESERVE
    if must > hard:
        _log.error(
            "{consoles} consoles need {must} file descriptors, and the limit is {hard}: raise LimitNOFILE",
            consoles=consoles,
            must=must,
            hard=hard,
        )
    elif must + clients > hard:
        _log.warn(
            "{clients} clients beside {consoles} consoles need {all} file descriptors, and the limit is {hard}: "
            "raise LimitNOFILE or lower hub.max_clients",
            clients=clients,
            consoles=consoles,
            all=must + clients,
            hard=hard,
        )
