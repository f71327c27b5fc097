"""The reception: everything between the ports and the consoles that outlives a reload.

Doors, site, gate, sessions and vigil are made once; what they go by are the `Terms`, which a reload replaces in one
moment.  `daemon` makes it, and opens its listeners before anything else.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from consoled.api.admission import Admission
from consoled.api.census import Census
from consoled.api.cloudapi import CloudApi
from consoled.api.csm import Csm
from consoled.api.doors import Door, Doors
from consoled.api.meters import Meters
from consoled.api.metrics import Metrics
from consoled.api.native import Native
from consoled.api.pace import Bucket
from consoled.api.patience import Patience
from consoled.api.session import Sessions
from consoled.api.site import Face, make_site
from consoled.api.upgrade import Road
from consoled.api.vigil import Vigil
from consoled.auth.accounts import Logins
from consoled.auth.audit import Audit
from consoled.auth.gate import Gate
from consoled.auth.tickets import Tickets
from consoled.config import Config
from consoled.core.changes import Reload
from consoled.core.hub import Hub
from consoled.core.sources import SourceStates
from consoled.listening.descriptions import is_proxied
from consoled.listening.listeners import Listener, Listeners, secured
from consoled.machines import Machines
from consoled.terms import Terms

GOODBYE = 2.0
"""Seconds for the clients to answer their close frames when the daemon stops."""


class Reception:
    """Who lets clients in."""

    def __init__(
        self,
        terms: Terms,
        hub: Hub,
        machines: Machines,
        tickets: Tickets,
        audit: Audit,
        reactor: Any,
        trouble: Callable[[], str | None],
        unready: Callable[[], str | None],
        reload: Reload,
        sources: SourceStates,
        meters: Meters,
        census: Census,
    ) -> None:
        """`trouble` says what is wrong with the daemon, `unready` why nobody should come yet.

        Raises `ValueError` that names the key of a wrong listener."""
        self._reactor = reactor
        self._hub = hub
        self._machines = machines
        self._tickets = tickets
        self._audit = audit
        self._trouble = trouble
        self._reload = reload
        self._sources = sources
        self._terms = terms
        self._began = time.time()
        self._meters = meters
        self._census = census
        self._unready = unready
        self._sessions = Sessions()
        self._road = Road(self._sessions, reactor, meters)
        self._vigil = Vigil(reactor, random.random)
        limits = terms.config.limits
        self._doors = Doors(limits, terms.proxies)
        self._portal = Gate(terms.checkers, terms.roles, terms.tenants, audit, time.time)
        self._gate = Patience(self._portal, limits, reactor, os.urandom(32), meters)
        self._site = make_site((), reactor)
        self.listeners = Listeners(reactor)
        made = self.new_listeners(terms.config)
        self._take_up(terms)
        self.listeners.serve(made, self._factories())

    def new_listeners(self, config: Config) -> dict[str, Listener]:
        """Those that `config` has and we have not.  Raises `ValueError` that names the key."""
        return self.listeners.make(_places(config), config.limits.backlog)

    async def open(self, config: Config, made: dict[str, Listener]) -> None:
        """Listen at those that were `made`, where nobody is let in yet.  Raises `OSError` that names the key."""
        await self.listeners.open(made, {description for _, description in _places(config)})

    def renew(self, terms: Terms, made: dict[str, Listener]) -> Deferred[Any]:
        """Go by other terms, with the listeners that were `made` for them.

        Who is in and may be no longer is sent away.  Fires when the listeners that are given up have stopped.
        """
        before, limits = self._terms, terms.config.limits
        self._doors.renew(limits, terms.proxies)
        self._gate.renew(limits)
        self._portal.renew(terms.checkers, terms.roles, terms.tenants)
        if terms.jwt is None:
            before.stop()
        terms.start()
        self._take_up(terms)
        return self.listeners.serve(made, self._factories())

    def ask_everybody(self) -> None:
        """Have the right of every session decided anew."""
        self._vigil.ask_everybody()

    def start(self) -> None:
        """Begin to ask for what the terms need."""
        self._terms.start()

    def look(self) -> None:
        """See whether there are new certificates."""
        if self._terms.contexts is not None:
            self._terms.contexts.look()

    @property
    def trouble(self) -> str | None:
        """What is wrong with the way in, for people."""
        return self._terms.trouble

    async def close(self) -> None:
        """Let the clients read up to their close frame and answer it; drop whoever does not."""
        self._terms.stop()
        deadline = self._reactor.seconds() + GOODBYE
        while self._sessions.sessions and self._reactor.seconds() < deadline:
            await deferLater(self._reactor, 0.02)
        self._sessions.abort()

    # ------------------------------------------------------------------------------------------- our own

    def _take_up(self, terms: Terms) -> None:
        self._terms = terms
        messages = terms.config.limits.messages
        self._sessions.pace = partial(Bucket, messages, 5 * messages, self._reactor.seconds)
        self._site.serve(self._faces(terms), self._doors, terms.origins)

    def _faces(self, terms: Terms) -> list[Face]:
        config, hub, gate, road, vigil, meters = (
            *(terms.config, self._hub, self._gate, self._road, self._vigil, self._meters),
        )
        admission = Admission(hub, gate, config.csm.hide_forbidden)
        faces: list[Face] = [
            Csm(config.csm, hub, gate, self._audit, road, vigil, time.time, self._trouble, meters, self._unready),
            Native(
                *(hub, admission, self._audit, road, vigil, self._tickets, self._reactor, time.time, meters),
                trouble=self._trouble,
                unready=self._unready,
                began=self._began,
                reload=self._reload,
                sources=self._sources,
            ),
            Metrics(meters, admission, road, hub, self._census, config.metrics),
        ]
        if config.cloudapi is not None:
            parts = (hub, self._machines, Logins(terms.accounts), gate, self._audit, road, vigil)
            faces.append(CloudApi(config.cloudapi, *parts, self._reactor, time.time, meters))
        return faces

    def _factories(self) -> dict[str, Door]:
        """What each listener leads to: the site, in clear or with TLS."""
        config, contexts = self._terms.config, self._terms.contexts
        tls = None if contexts is None else secured(self._site, contexts, self._reactor)
        doors = {}
        for key, description in _places(config):
            is_tls = key.startswith("tls")
            factory = tls if is_tls else self._site
            doors[description] = Door(self._doors, factory, is_tls=is_tls, is_proxied=is_proxied(description))
        return doors


def _places(config: Config) -> Iterator[tuple[str, str]]:
    """The key and the description of each listener."""
    yield from (("http.listen", description) for description in config.http.listen)
    if config.tls is not None:
        yield from (("tls.listen", description) for description in config.tls.listen)
