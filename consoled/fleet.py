"""The fleet: every console that the settings name, with its backend, link, transcript and record of input.

`daemon` opens it at start, and at a reload has it `plan` a difference, which can fail and touches nothing, and then
`apply` it, which cannot: consoles whose settings are what they were keep their very transport and every client, those
whose connection is no other than before keep it too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from random import random
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import Logger

from consoled.backends.chronicle import Chronicle
from consoled.backends.link import Link
from consoled.backends.reset import ResetCommand
from consoled.backends.settings import ConsoleSettings, Surroundings
from consoled.backends.sluice import sluice
from consoled.backends.triton import Find, TritonBackend
from consoled.backends.turns import Turns
from consoled.config import HubSettings
from consoled.core.console import Console
from consoled.core.faults import NotOpen
from consoled.core.hub import Hub
from consoled.core.seams import Backend
from consoled.core.tally import Tally
from consoled.parking import Parking
from consoled.transcript.archive import Archive
from consoled.transcript.input_file import InputFile
from consoled.transcript.settings import TranscriptSettings

EACH_TURN = 50
"""Consoles that are planned or changed in one turn of the reactor."""
LOT = 100
"""Consoles that are opened together at the start, while those before are dialled.  What an opening takes of memory,
Python does not give back."""

_log = Logger()


@dataclass(frozen=True, slots=True)
class Plan:
    """A difference between the consoles that there are and those that there shall be."""

    settings: Mapping[str, ConsoleSettings]
    """Of all that there shall be, by their names."""
    backends: Mapping[str, Backend]
    """Of those whose connection is to be made, or made anew."""
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    reconnected: tuple[str, ...]


class Fleet:
    """All consoles of the configuration."""

    def __init__(
        self,
        hub: Hub,
        around: Surroundings,
        settings: HubSettings,
        transcript: TranscriptSettings,
        tally: Tally,
        parking: Parking,
        echoed: Callable[[float], None],
    ) -> None:
        """What links do is counted in `tally`; `echoed` is as for `Console`."""
        self._hub = hub
        self._around = around
        self._reactor: Any = around.reactor
        self._hub_settings = settings
        self._transcript = transcript
        self._settings: Mapping[str, ConsoleSettings] = {}
        self._links: dict[str, Link] = {}
        self._inputs: dict[str, InputFile] = {}
        self._leaving: set[Deferred[None]] = set()
        self._archive: Archive | None = None
        self._turns = Turns(self._reactor, settings.max_dials, settings.max_dials_each_host)
        self._chronicle = Chronicle(self._reactor)
        self._tally = tally
        self._parking = parking
        self._echoed = echoed

    # ------------------------------------------------------------------------------------------- its life

    async def open(self, plan: Plan) -> None:
        """Take possession of the transcripts, then begin to hold the consoles of `plan`, in lots."""
        self._archive = Archive.in_reactor(self._transcript, self._reactor, sluice.turn)
        await self._archive.start()
        self._parking.open()
        self._settings = plan.settings
        held = self._held()
        while lot := list(islice(held, LOT)):
            for console in await gatherResults([self._made(name, plan) for name in lot], consumeErrors=True):
                self._hub.begin(console)
        self._hub.open(self._off())

    async def close(self) -> None:
        """Hang up everywhere, and complete the transcripts.  The hub is closed."""
        await gatherResults(list(self._leaving))
        self._chronicle.close()
        if self._archive is not None:
            await self._archive.close()

    def write_up(self) -> list[Deferred[None]]:
        """Write what is to be recorded and remembered; if the disk hangs they do not fire."""
        return [self._parking.close(), *(record.close() for record in self._inputs.values())]

    def reopen(self) -> None:
        """logrotate has moved the files."""
        for part in (self._archive, *self._inputs.values()):
            if part is not None:
                part.reopen()

    @property
    def archive(self) -> Archive | None:
        """The transcripts, once there are any."""
        return self._archive

    @property
    def trouble(self) -> str | None:
        """What is wrong with what is to be kept, for people; None if nothing is."""
        parts = (self._archive, self._parking, *self._inputs.values())
        return "; ".join(part.trouble for part in parts if part is not None and part.trouble) or None

    # ------------------------------------------------------------------------------------------- by difference

    def plan(self, consoles: Iterable[ConsoleSettings], needed: Container[str] | None = None) -> Plan:
        """What is to be done so that there are just these.  Touches nothing.

        Raises `ValueError` that names the console of which no backend can be made, if it is `needed`, as all are unless
        something is said; another one is left out, and said.
        """
        return next(filter(None, self._planning(consoles, needed)))

    async def plan_in_turns(self, consoles: Iterable[ConsoleSettings], needed: Container[str] | None = None) -> Plan:
        """As `plan`, while others have their turns of the reactor.  Not while another plan is being applied."""
        planning = self._planning(consoles, needed)
        while (plan := next(planning)) is None:
            await deferLater(self._reactor, 0)
        return plan

    def _planning(self, consoles: Iterable[ConsoleSettings], needed: Container[str] | None) -> Iterator[Plan | None]:
        """None as often as others may have a turn, then the plan."""
        old, new = self._settings, {settings.name: settings for settings in consoles}
        backends = {}
        for count, (name, settings) in enumerate(list(new.items()), 1):
            if count % EACH_TURN == 0:
                yield None
            if settings.enabled and not (name in self._links and old[name].line == settings.line):
                try:
                    backends[name] = settings.backend(self._around)
                except (OSError, TypeError, ValueError) as error:
                    if needed is None or name in needed:
                        raise ValueError(f"console {name}: {error}") from None
                    _log.error("console {name}: left out: {why}", name=name, why=error)
                    del new[name]
        changed = tuple(name for name, settings in new.items() if old.get(name, settings) != settings)
        yield Plan(
            settings=new,
            backends=backends,
            added=tuple(name for name in new if name not in old),
            changed=changed,
            removed=tuple(name for name in old if name not in new),
            reconnected=tuple(name for name in changed if name in backends and name in self._links),
        )

    async def apply(self, plan: Plan, settings: HubSettings, transcript: TranscriptSettings) -> None:
        """Have it so.  Returns when all that are new are held; others have their turns of the reactor meanwhile."""
        self._settings = plan.settings
        self._renew(settings, transcript)
        making = []
        for count, name in enumerate((*plan.removed, *plan.changed, *plan.added), 1):
            if name not in self._links:
                if name in plan.backends:
                    making.append(Deferred.fromCoroutine(self._add(name, plan)))
            elif name not in plan.settings:
                self._let_go(name, "The console was taken out of the configuration")
            elif not plan.settings[name].enabled:
                self._let_go(name, "The console was switched off")
            else:
                self._links[name].renew(plan.settings[name], plan.backends.get(name))
                self._furnish(self._hub.find(name), plan.settings[name])
            if count % EACH_TURN == 0:
                await deferLater(self._reactor, 0)
        self._hub.not_monitored = self._off()
        await gatherResults(making, consumeErrors=True)

    def _renew(self, settings: HubSettings, transcript: TranscriptSettings) -> None:
        self._hub_settings, self._transcript = settings, transcript
        self._hub.max_clients = settings.max_clients
        self._turns.renew(settings.max_dials, settings.max_dials_each_host)
        if self._archive is not None:
            self._archive.renew(transcript)
        for console in self._hub:
            console.tag = settings.tag
            console.ring.resize(settings.ring)

    def _let_go(self, name: str, why: str) -> None:
        del self._links[name]
        record = self._inputs.pop(name, None)
        leaving = self._hub.remove(name, why)
        self._leaving.add(leaving)

        def left(_: object) -> None:
            self._leaving.discard(leaving)
            if record is not None:
                record.close()

        leaving.addCallback(left)

    async def _add(self, name: str, plan: Plan) -> None:
        console = await self._made(name, plan)
        try:
            self._hub.add(console)
        except NotOpen:  # the daemon stops
            await console.close()

    def _held(self) -> Iterator[str]:
        return (name for name, settings in self._settings.items() if settings.enabled)

    def _off(self) -> frozenset[str]:
        return frozenset(self._settings.keys() - set(self._held()))

    # ------------------------------------------------------------------------------------------- one console

    def found(self, settings: ConsoleSettings, find: Find) -> Deferred[tuple[Console, TritonBackend]]:
        """The console of a machine that is found at `find`; see `machines.Make`."""
        backend = TritonBackend(settings, find, self._reactor)
        making = Deferred.fromCoroutine(self._console(settings, backend))
        return making.addCallback(lambda made: (made[0], backend))

    def _made(self, name: str, plan: Plan) -> Deferred[Console]:
        def linked(made: tuple[Console, Link]) -> Console:
            console, self._links[name] = made
            return console

        return Deferred.fromCoroutine(self._console(plan.settings[name], plan.backends[name])).addCallback(linked)

    async def _console(self, settings: ConsoleSettings, backend: Backend) -> tuple[Console, Link]:
        """One console, complete with its transcript and its link."""
        if self._archive is None:
            raise NotOpen
        console: Console
        name = settings.name
        transcript = await self._archive.open(name, lambda count: console.lost(count), lambda: console.stream.written())
        console = Console(name, transcript, self._reactor, time.time, echoed=self._echoed)
        console.link = link = Link(
            *(settings, backend, console, self._reactor, time.time, random, self._turns, self._chronicle, self._tally),
            parked=self._parking.find(name),
            remember=self._parking.remember,
        )
        self._furnish(console, settings)
        return console, link

    def _furnish(self, console: Console, settings: ConsoleSettings) -> None:
        """Give `console` what of the settings is its own."""
        console.kind = str(settings.__struct_config__.tag)
        console.renew(
            tag=self._hub_settings.tag,
            on_demand=settings.on_demand,
            linger=settings.linger,
            ring=self._hub_settings.ring,
            reset=ResetCommand(settings.reset_command, self._reactor) if settings.reset_command else None,
            input_record=self._input_record(settings),
        )

    def _input_record(self, settings: ConsoleSettings) -> InputFile | None:
        if not settings.record_input:
            if (record := self._inputs.pop(settings.name, None)) is not None:
                record.close()
            return None
        if settings.name not in self._inputs:
            self._inputs[settings.name] = InputFile(
                settings.name, self._transcript.directory, time.time, self._reactor.callFromThread
            )
        return self._inputs[settings.name]
