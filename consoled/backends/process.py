"""Kind `process`: the console is a program of this machine, on a pty.

A `ProcessLine` has two ends to watch: the `Terminal` on the pty's master side, which bytes pass through, and the
`Child`, which lives and dies.  It is lost when both are gone.  Dialled by the link.
"""

from __future__ import annotations

import os
import termios
import tty
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from consoled.backends.child import LADDER, Child
from consoled.backends.line import TransportLine
from consoled.backends.settings import ConsoleSettings, Surroundings
from consoled.backends.terminal import Terminal
from consoled.core.seams import Clock, Line, LineOwner, Timer

LAST_WORDS = 1.0
"""Seconds for a dead child's output to arrive: a daemon that it left behind may hold the terminal for ever."""
GRACE = 0.5
"""Seconds for a child that closed its terminal to exit by itself."""
UNKILLABLE = 1.0
"""Seconds after SIGKILL when we stop waiting for a child that the kernel will not let die."""

Cells = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class ProcessSettings(ConsoleSettings, frozen=True, kw_only=True, tag="process"):
    """A program, run without a shell, and run again by the link's patience when it ends."""

    command: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """The program, a path or a name on the PATH, and its arguments."""
    environment: dict[str, str] = {}
    """Beside PATH, HOME and LANG, which are the daemon's, and TERM, which is `vt100`.  Its values are never shown."""
    directory: str = ""
    """Where it runs; the daemon's directory if empty."""
    user: str = ""
    """As whom it runs; needs a daemon that is root."""
    rows: Cells = 24
    """The terminal's height."""
    columns: Cells = 80
    """The terminal's width."""
    raw: bool = True
    """Bytes pass as they are.  False: the terminal echoes, edits lines and turns ^C into a signal."""
    break_sequence: str = ""
    r"""What to send for a break, a character for each byte: TOML's "\r", "\u001b", "\u00ff"."""

    def __post_init__(self) -> None:
        if not self.command[0]:
            raise ValueError("command: the program's name is empty")
        for key, texts in ("command", self.command), ("directory", [self.directory]), ("user", [self.user]):
            if any("\0" in text for text in texts):
                raise ValueError(f"{key}: there is a NUL character in it")
        for name, value in self.environment.items():
            if not name or "=" in name or "\0" in name + value:
                raise ValueError(f"environment: {name!r} is no name for a variable, or its value has a NUL character")
        if any(character > "\xff" for character in self.break_sequence):
            raise ValueError("break_sequence: a character above \\u00ff is not a byte")

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        shown = msgspec.structs.asdict(self) | {"environment": sorted(self.environment)}
        return list(shown.items())

    def __repr__(self) -> str:
        return f"ProcessSettings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def backend(self, around: Surroundings) -> ProcessBackend:
        return ProcessBackend(self, around.reactor, around.reactor)


class ProcessBackend:
    """How to start one console's program."""

    host = ""

    def __init__(self, settings: ProcessSettings, reactor: Any, clock: Clock) -> None:
        self.address = f'"{settings.command[0]}"'
        self._settings = settings
        self._reactor = reactor
        self._clock = clock

    def dial(self, owner: LineOwner) -> Deferred[Line]:
        settings = self._settings
        child = Child(self._clock)
        try:
            master, slave = os.openpty()
        except OSError as error:
            return fail(ConnectionError(f"no pty for {self.address}: {error.strerror}"))
        try:
            os.set_blocking(master, False)
            termios.tcsetwinsize(slave, (settings.rows, settings.columns))
            if settings.raw:
                tty.setraw(slave)
            child.spawn(self._reactor, settings.command, self._environment(), slave, settings.user, settings.directory)
        except (OSError, termios.error) as error:
            os.close(master)
            return fail(ConnectionError(f"cannot start {self.address}: {error.args[-1]}"))
        finally:
            os.close(slave)

        def close() -> None:
            os.close(master)

        def running(_: None) -> Line:
            line = ProcessLine(owner, child, settings.break_sequence.encode("latin-1"), self._clock)
            Terminal(self._reactor, master, close).attach(line)
            return line

        def failed(failure: Failure) -> Failure:
            close()
            return failure

        return child.launched.addCallbacks(running, failed)

    def _environment(self) -> dict[str, str]:
        kept = ["PATH", "LANG"] if self._settings.user else ["PATH", "LANG", "HOME"]  # a user brings a HOME
        inherited = {name: os.environ[name] for name in kept if name in os.environ}
        return {"PATH": os.defpath, "TERM": "vt100"} | inherited | self._settings.environment


class ProcessLine(TransportLine):
    """A running program and the master side of its pty."""

    transport: Terminal | None

    def __init__(self, owner: LineOwner, child: Child, break_sequence: bytes, clock: Clock) -> None:
        super().__init__(owner)
        self._child = child
        self._break_sequence = break_sequence
        self._clock = clock
        self._timer: Timer | None = None
        self._closing = False
        self._why: str | None = None
        self._lost = False

    # Twisted and the child call these.

    def connectionMade(self) -> None:
        super().connectionMade()
        self._child.on_exit = self._exited
        if self._child.epitaph is not None:
            self._exited()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.let_go()
        if self._child.epitaph is not None:
            self._end()
        elif not self._closing:
            self._wait(GRACE, self._outlived)

    def _exited(self) -> None:
        if self.transport is not None:
            self._wait(LAST_WORDS, self.transport.abortConnection)
        else:
            self._end()

    def _outlived(self) -> None:
        self._why = "the program closed its terminal"
        self._child.hang_up()
        self._wait(LADDER[-1][0] + UNKILLABLE, self._end)

    # The link calls these.

    def write(self, data: bytes) -> bool:
        return not self._closing and super().write(data)

    def send_break(self) -> bool:
        return bool(self._break_sequence) and self.write(self._break_sequence)

    def close(self) -> None:
        self._closing = True
        self._child.hang_up()

    def abort(self) -> None:
        self._closing = True
        self._child.kill()
        super().abort()
        self._wait(UNKILLABLE, self._end)

    # Ours.

    def _wait(self, delay: float, call: Callable[[], None]) -> None:
        self._stop_waiting()
        self._timer = self._clock.callLater(delay, call)

    def _stop_waiting(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _end(self) -> None:
        self._stop_waiting()
        if not self._lost:
            self._lost = True
            self.owner.lost(self._why or self._child.epitaph or f"process {self._child.pid} does not die")
