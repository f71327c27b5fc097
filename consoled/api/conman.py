"""The in-session language of ConMan, which CSM's users know: banners, notes and what the escapes do.

One `Interact` for each interactive session; made by `csm`, driven by the session on one side and by its attachment
on the other.  The sentences are ConMan's own (conmand 0.2.7).
"""

from __future__ import annotations

from collections.abc import Callable
from time import gmtime, strftime

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from consoled.api.escapes import HELP, Command, Escapes
from consoled.api.frames import Text, quiet_text, text_frame
from consoled.api.seat import Recorder
from consoled.api.tail import Tail
from consoled.api.vigil import Visit
from consoled.core.access import Verb
from consoled.core.attachment import Client
from consoled.core.console import Console
from consoled.core.faults import Fault
from consoled.core.status import Closing, Dialing, Parked, Up, Waiting, word

REPLAY = 4096
"""Bytes of the log that `&L` shows again."""
COMMANDS = 16
"""Commands that are obeyed in one message: nobody types more, and each may concern every client of the console."""
LINE_ENDS = (b"\n", b"\r", b"\r\n")


class Interact(Tail):
    """An interactive session, as `conman -j` gives it."""

    interactive = True

    def __init__(self, console: Console, client: Client, record: Recorder, visit: Visit) -> None:
        super().__init__(console, client, record, visit)
        self._escapes = Escapes()
        self._echo = False
        self._quiet = False
        self._suspended = False
        self._complaint: str | None = None
        """What was last said of input that did not get through; said again only after some did."""

    def _greet(self) -> None:
        self._say(f"Connection to console [{self._console.name}] opened")
        if self.is_recorded:
            self._say(f"Input to console [{self._console.name}] is recorded")
        self._console.keyboard.arrived(self._attachment)
        if self._console.down is not None:
            self._say(f"Console [{self._console.name}] is currently disconnected from {self._console.link.address}")

    def said(self, payload: bytes, is_binary: bool) -> None:
        """A text message is a line whose end the stock clients strip; a binary message is keystrokes as they are."""
        self._visit.heard()
        if self._suspended:
            self._resume()
            if payload in (b"", *LINE_ENDS):
                return  # it was meant for us
        if not is_binary and not payload.endswith((b"\n", b"\r")):
            payload += b"\n"
        commands, typed = 0, False
        for item in self._escapes.feed(payload):
            if isinstance(item, Command):
                commands += 1
                if commands > COMMANDS:
                    self._remark(f"More than {COMMANDS} escapes in one message; what followed was discarded")
                    return
                self._obey(item.sign)
                if item.sign == ".":
                    return
            elif commands and not typed and not is_binary and item in LINE_ENDS:
                pass  # nothing but commands: the node gets no stray line feed
            else:
                typed = True
                self._type(item)

    def notice(self, text: str) -> None:
        if not self._quiet:
            self._remark(text)

    def ended(self, why: str, code: int) -> None:
        self._say(f"Connection to console [{self._console.name}] terminated by server ({why})")
        super().ended(why, code)

    def resumed(self) -> None:
        if not self._suspended:
            super().resumed()

    def _type(self, keys: bytes) -> None:
        try:
            self._attachment.write(keys)
        except Fault as fault:
            self._complain(fault)
            return
        self._complaint = None
        if self._echo:
            self._offer(text_frame(keys.decode(errors="replace")))

    def _try(self, verb: Verb, action: Callable[[], None]) -> None:
        try:
            self._visit.require(verb)
            action()
        except Fault as fault:
            self._complain(fault)

    def _complain(self, fault: Fault) -> None:
        if str(fault) != self._complaint:
            self._complaint = str(fault)
            self._remark(self._complaint)

    def _remark(self, text: str) -> None:
        self._offer(self._sentence(text))

    def _offer(self, frame: bytes) -> None:
        """Send what is no part of the stream, but not to a client that does not read: it would pile up."""
        if not self._session.full:
            self._session.send(frame)

    # ------------------------------------------------------------------------------------------- the commands

    def _obey(self, sign: str) -> None:
        self._complaint = None
        self._COMMANDS[sign](self)

    def _help(self) -> None:
        rows = "".join(f"  {keys} -  {what}.\r\n" for keys, what in HELP)
        self._offer(text_frame(f"\r\nSupported ConMan Escape Sequences:\r\n{rows}"))

    def _close(self) -> None:
        self._session.send(text_frame("&."))
        self._say(f"Connection to console [{self._console.name}] closed")
        self._session.end(1000, "closed")

    def _break(self) -> None:
        self._try("break", self._attachment.send_break)

    def _delete(self) -> None:
        self._type(b"\x7f")

    def _toggle_echo(self) -> None:
        self._echo = not self._echo
        self._remark(f"Echoing of your input {'enabled' if self._echo else 'disabled'}")

    def _take(self) -> None:
        self._try("take", lambda: self._console.keyboard.take(self._attachment))

    def _join(self) -> None:
        self._try("interact", lambda: self._console.keyboard.join(self._attachment))
        if self._attachment.typing:
            self._remark(f"Connected R/W to console [{self._console.name}]")

    def _watch(self) -> None:
        self._console.keyboard.watch(self._attachment)
        self._remark(f"Connected R/O to console [{self._console.name}]")

    def _toggle_quiet(self) -> None:
        self._quiet = not self._quiet
        self._attachment.change_flavour(quiet_text if self._quiet else Text)
        if self._quiet:
            self._remark("Quiet-mode enabled -- info msgs will be suppressed")
        else:
            self._remark("Quiet-mode disabled -- info msgs will be displayed")

    def _suspend(self) -> None:
        self._suspended = True
        self._remark(f"Connection to console [{self._console.name}] suspended -- type anything to resume")
        self._attachment.pause()

    def _resume(self) -> None:
        self._suspended = False
        self._remark(f"Connection to console [{self._console.name}] resumed")
        if not self._session.full:
            self._attachment.resume()

    def _replay(self) -> None:
        Deferred.fromCoroutine(self._replayed()).addErrback(self._not_replayed)

    async def _replayed(self) -> None:
        replay = Text()
        newest = await self._newest()
        frames = [replay.encode(newest, self._console.head - len(newest)), replay.flush()]
        self._remark(f"Begin log replay of console [{self._console.name}]")
        for frame in frames:
            if frame is not None:
                self._offer(frame)
        self._remark(f"End log replay of console [{self._console.name}]")

    async def _newest(self) -> bytes:
        """The end of the log, from memory as far as that reaches back."""
        ring, transcript, head = self._console.ring, self._console.transcript, self._console.head
        at = max(transcript.start, head - REPLAY)
        newest = b""
        while at < head:
            if at >= ring.start:
                return newest + ring.read(at, head - at)
            found, data = await transcript.read(at, head - at)
            newest += data
            at = found + len(data) if data else ring.start
        return newest

    def _not_replayed(self, failure: Failure) -> None:
        self._remark(f"The log of console [{self._console.name}] cannot be read now")

    def _reset(self) -> None:
        self._try("reset", lambda: self._console.reset(self._attachment))

    def _info(self) -> None:
        console, mode = self._console, "R/W" if self._attachment.typing else "R/O"
        status = console.link.status
        match status:
            case Up(since=since) | Dialing(since=since) | Closing(since=since):
                state = f"{word(status)} since {_utc(since)}"
            case Parked(since=since, by=by):
                state = f"parked by {by} since {_utc(since)}"
            case Waiting(until=until, why=why, since=since):
                when = f" since {_utc(since)}" if since is not None else ""
                state = f"down{when} ({why}), next attempt at {_utc(until)}"
            case _:
                state = "off"
        note = f" ({console.link.note})" if console.link.note else ""
        last = "nothing yet" if console.last_output is None else _utc(console.last_output)
        self._remark(
            f"Connected {mode} to console [{console.name}] on {console.link.address}: {state}{note}; "
            f"last output: {last}; log: {console.head} bytes"
        )

    def _who(self) -> None:
        console = self._console
        rows = [f"Console [{console.name}] has {len(console.attachments)} clients:\r\n"]
        for one in console.attachments:
            mode = "R/W" if one.typing else "R/O"
            alone = ", holds the keyboard" if console.keyboard.holder is one else ""
            you = " (you)" if one is self._attachment else ""
            behind = f", {console.head - one.cursor} bytes behind" if one.cursor < console.head else ""
            rows.append(f"  {mode} <{one.client}> by {one.client.face} since {_utc(one.since)}{behind}{alone}{you}\r\n")
        self._offer(text_frame(f"\r\n{console.tag} {''.join(rows)}"))

    _COMMANDS: dict[str, Callable[[Interact], None]] = {
        "?": _help,
        ".": _close,
        "B": _break,
        "D": _delete,
        "E": _toggle_echo,
        "F": _take,
        "I": _info,
        "J": _join,
        "L": _replay,
        "M": _watch,
        "Q": _toggle_quiet,
        "R": _reset,
        "W": _who,
        "Z": _suspend,
    }


def _utc(when: float) -> str:
    return strftime("%Y-%m-%d %H:%M:%S UTC", gmtime(when))
