"""One SOL session: a program on a terminal, from its first prompt to its last words.

It stands between a `ProcessLine`, whose owner it is, and the link.  Until the banner it holds the dialogue (prompts,
complaints), and `dial` waits for `up`; after that it passes bytes, escaped on their way in and freed of the program's
own words on their way out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from twisted.internet.defer import Deferred

from consoled.backends.ipmi_program import Program
from consoled.backends.ipmi_words import Strainer
from consoled.backends.line import TransportLine
from consoled.backends.process import ProcessLine
from consoled.core.seams import Clock, Line, LineOwner, Timer

PATIENCE = 0.05
"""Seconds that output waits for what would make it the program's own words."""
FAREWELL = 15.0
"""The same for words that are whole: a program goes on for up to ten seconds trying to sign off."""
GAP = 0.05
"""Seconds between what is typed and a break after it: the programs put what comes together into one SOL packet, and the
break in it comes before its characters."""
_MOST_WAITING = 65536
"""How much may be typed while a break waits for that: more is refused."""
_MOST_SAID = 16384
"""Bytes of talk before the banner of which the newest are kept."""


class IpmiLine:
    """A `Line` to the link, a `LineOwner` to the process."""

    note = ""

    def __init__(
        self, owner: LineOwner, program: Program, answers: Sequence[tuple[bytes, bytes]], clock: Clock
    ) -> None:
        """`answers` are the prompts in their order and what to say to each."""
        self.up: Deferred[Line] = Deferred(lambda _: self.close())
        """Fires with this line, or fails with the program's verdict."""
        self._owner = owner
        self._program = program
        self._answers = list(answers)
        self._clock = clock
        self._escape = program.escape()
        self._strainer = Strainer(program.words)
        self._said = b""
        self._secrets = [answer for _, answer in answers]
        self._process: ProcessLine | None = None
        self._typed_at = clock.seconds() - GAP
        self._waiting: deque[bytes | None] = deque()
        """A break (None) that waits for its moment, and what was typed and asked for after it."""
        self._room = _MOST_WAITING
        self._moment: Timer | None = None
        self._timer: Timer | None = None
        self._closing = False
        self._usable = False

    def begin(self, process: ProcessLine) -> None:
        """The program runs."""
        self._process = process

    # The process calls these.

    def received(self, data: bytes) -> bool:
        if self._usable:
            self._deliver(self._strainer.feed(data))
        elif not self._closing:
            self._converse(data)
        return True

    def lost(self, why: str) -> None:
        self._stop_timer()
        self._let_go()
        self._process = None
        epitaph = f"{self._program.name} {why}"
        if self._usable:
            rest, last_words = self._strainer.finish()
            if rest:
                self._owner.received(rest)
            self._owner.lost("closed" if self._closing else _reason(last_words) or epitaph)
        elif not self.up.called:
            self.up.errback(self._program.verdict(self._text(), epitaph))

    # The link calls these.

    def write(self, data: bytes) -> bool:
        if not self._waiting:
            return self._type(data)
        return self._put_off(data)

    def send_break(self) -> bool:
        if self._waiting:
            return self._put_off(None)
        if not self._send(b""):  # would it be taken?
            return False
        self._put_off(None)
        self._go_on()
        return True

    def close(self) -> None:
        """Take the terminal away: the program signs off from the BMC and ends, or is killed after some seconds."""
        self._closing = True
        self._let_go()
        if self._process is not None:
            TransportLine.close(self._process)

    def abort(self) -> None:
        """Kill it.  The BMC will believe for a minute or so that the session still stands."""
        self._closing = True
        self._let_go()
        if self._process is not None:
            self._process.abort()

    # Before the banner.

    def _converse(self, data: bytes) -> None:
        self._said = (self._said + data)[-_MOST_SAID:]
        if self._answers and self._answers[0][0] in self._said:
            prompt, answer = self._answers.pop(0)
            self._said = self._said.partition(prompt)[2]
            assert self._process is not None
            self._process.write(answer)
        _, banner, rest = self._said.partition(self._program.banner)
        if banner and not self._answers:
            self._said, self._secrets = b"", []
            self._usable = True
            self.up.callback(self)
            if rest and self._process is not None:
                self.received(rest)

    def _text(self) -> str:
        """What it said, for people: secrets that a terminal might have echoed taken out."""
        said = self._said
        for secret in self._secrets:
            if secret.strip():
                said = said.replace(secret.strip(), b"***")
        return said.decode(errors="replace")

    # After it.

    def _type(self, data: bytes) -> bool:
        if not self._send(self._escape.encode(data)):
            return False
        self._escape.sent()
        self._typed_at = self._clock.seconds()
        return True

    def _break(self) -> bool:
        if not self._send(self._escape.break_()):
            return False
        self._escape.sent()
        self._strainer.expect_break()
        return True

    def _send(self, wire: bytes) -> bool:
        return not self._closing and self._process is not None and self._process.write(wire)

    def _put_off(self, what: bytes | None) -> bool:
        size = 1 if what is None else len(what)
        if size > self._room:
            return False
        self._room -= size
        self._waiting.append(what)
        return True

    def _go_on(self) -> None:
        """Send what waits, as far as its moment has come and the terminal takes it."""
        while self._waiting:
            first = self._waiting[0]
            if first is None and not self._escape.listens:
                self._waiting.appendleft(b"\r")  # there is no other way to have the program's ear in mid-line
                continue
            early = self._typed_at + GAP - self._clock.seconds() if first is None else 0.0
            if early > 0 or not (self._break() if first is None else self._type(first)):
                self._moment = self._clock.callLater(early if early > 0 else GAP, self._go_on)
                return
            self._waiting.popleft()
        self._room = _MOST_WAITING

    def _let_go(self) -> None:
        """Nothing is sent any more."""
        self._waiting.clear()
        if self._moment is not None and self._moment.active():
            self._moment.cancel()

    def _deliver(self, output: bytes) -> None:
        self._stop_timer()
        if self._strainer.held:
            self._timer = self._clock.callLater(FAREWELL if self._strainer.farewell else PATIENCE, self._release)
        if output:
            self._owner.received(output)

    def _release(self) -> None:
        self._owner.received(self._strainer.release())

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


def _reason(last_words: str) -> str:
    """`[error received]: session timeout` is about the session, `[closing the connection]` says nothing."""
    if last_words == "[closing the connection]":
        return ""
    return last_words.removeprefix("[error received]: ").strip("[]")
