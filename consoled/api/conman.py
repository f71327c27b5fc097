"""The in-session language of ConMan, which CSM's users know: banners, notes and what the escapes do.

One `Interact` or `Tail` for each session; made by `csm`, driven by the session on one side and by its attachment
on the other.  The sentences are ConMan's own (conmand 0.2.7), framed by CR LF, the tag, and `.` CR LF.
"""

from __future__ import annotations

from collections.abc import Callable
from time import gmtime, strftime
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from consoled.api.escapes import HELP, Command, Escapes
from consoled.api.frames import Text, quiet_text, text_frame
from consoled.api.session import Session
from consoled.core.access import Verb
from consoled.core.attachment import Attachment, Client
from consoled.core.console import Console
from consoled.core.faults import Fault
from consoled.core.status import Closing, Dialing, Up, Waiting, word

REPLAY = 4096
"""Bytes of the log that `&L` shows again."""


class Tail:
    """A read-only session: the stream from one offset on, and not a word of the client's to the node."""

    interactive = False

    def __init__(
        self,
        console: Console,
        client: Client,
        *,
        at: int | None = None,
        follow: bool = True,
        left: Callable[[Attachment], None] = lambda _: None,
    ) -> None:
        """From the offset `at` (default: the head).  Without `follow` it ends where the stream ends at opening.

        `left` is told when it is over.
        """
        self._console = console
        self._client = client
        self._at = at
        self._follow = follow
        self._left = left
        self._session: Session
        self._attachment: Attachment
        self.send: Callable[[bytes], None]
        """The session's own method: a frame goes straight to the wire."""

    # The session calls these.

    def opened(self, session: Session) -> None:
        self._session = session
        self.send = session.send
        self._attachment = self._console.attach(
            self,
            Text,
            self._client,
            at=self._at,
            until=None if self._follow else self._console.head,
            interactive=self.interactive,
        )
        self._greet()
        self._attachment.pump()

    def said(self, payload: bytes, is_binary: bool) -> None:
        if b"&." in payload:
            self._session.end(1000, "closed")

    def paused(self) -> None:
        self._attachment.pause()

    def resumed(self) -> None:
        self._attachment.resume()

    def closed(self) -> None:
        self._attachment.leave()
        self._left(self._attachment)

    # The attachment and the console call these.

    def missed(self, count: int) -> None:
        self._say(f"{count} bytes of the log are missing here")

    def notice(self, text: str) -> None:
        """A tail is a log: who comes and goes is not in it."""

    def finished(self) -> None:
        self._session.end(1000, "end of the log")

    def ended(self, why: str, code: int) -> None:
        self._session.end(code, why)

    # For both sorts of session.

    def _greet(self) -> None:
        """A tail begins with its first line."""

    def _say(self, text: str) -> None:
        self.send(text_frame(f"\r\n{self._console.tag} {text}.\r\n"))


class Interact(Tail):
    """An interactive session, as `conman -j` gives it."""

    interactive = True

    def __init__(
        self,
        console: Console,
        client: Client,
        *,
        left: Callable[[Attachment], None] = lambda _: None,
        permit: Callable[[Verb], None],
    ) -> None:
        """`permit` raises a fault for a verb that the user has not."""
        super().__init__(console, client, left=left)
        self._permit = permit
        self._escapes = Escapes()
        self._echo = False
        self._quiet = False
        self._suspended = False
        self._complaint: str | None = None
        """What was last said of input that did not get through; said again only after some did."""

    def _greet(self) -> None:
        self._say(f"Connection to console [{self._console.name}] opened")
        self._console.keyboard.arrived(self._attachment)
        if self._console.down is not None:
            self._say(f"Console [{self._console.name}] is currently disconnected from {self._console.link.address}")

    def said(self, payload: bytes, is_binary: bool) -> None:
        """A text message is a line whose end the stock clients strip; a binary message is keystrokes as they are."""
        if self._suspended:
            self._resume()
        line = not is_binary and not payload.endswith((b"\n", b"\r"))
        commanded = typed = False
        for item in self._escapes.feed(payload + b"\n" if line else payload):
            if isinstance(item, Command):
                commanded = True
                self._obey(item.sign)
                if item.sign == ".":
                    return
            elif line and commanded and not typed and item == b"\n":
                pass  # nothing but commands: the node gets no stray line feed
            else:
                typed = True
                self._type(item)

    def notice(self, text: str) -> None:
        if not self._quiet:
            self._say(text)

    def ended(self, why: str, code: int) -> None:
        self._say(f"Connection to console [{self._console.name}] terminated by server ({why})")
        super().ended(why, code)

    def resumed(self) -> None:
        if not self._suspended:
            super().resumed()

    def _type(self, keys: bytes) -> None:
        if self._echo:
            self.send(text_frame(keys.decode(errors="replace")))
        try:
            self._attachment.write(keys)
            self._complaint = None
        except Fault as fault:
            self._complain(fault)

    def _try(self, verb: Verb, action: Callable[[], None]) -> None:
        try:
            self._permit(verb)
            action()
        except Fault as fault:
            self._complain(fault)

    def _complain(self, fault: Fault) -> None:
        if str(fault) != self._complaint:
            self._complaint = str(fault)
            self._say(self._complaint)

    # ------------------------------------------------------------------------------------------- the commands

    def _obey(self, sign: str) -> None:
        self._complaint = None
        self._COMMANDS[sign](self)

    def _help(self) -> None:
        rows = "".join(f"  {keys} -  {what}.\r\n" for keys, what in HELP)
        self.send(text_frame(f"\r\nSupported ConMan Escape Sequences:\r\n{rows}"))

    def _close(self) -> None:
        self.send(text_frame("&."))
        self._say(f"Connection to console [{self._console.name}] closed")
        self._session.end(1000, "closed")

    def _break(self) -> None:
        self._try("break", self._attachment.send_break)

    def _delete(self) -> None:
        self._type(b"\x7f")

    def _toggle_echo(self) -> None:
        self._echo = not self._echo
        self._say(f"Echoing of your input {'enabled' if self._echo else 'disabled'}")

    def _take(self) -> None:
        self._try("take", lambda: self._console.keyboard.take(self._attachment))

    def _join(self) -> None:
        self._try("interact", lambda: self._console.keyboard.join(self._attachment))
        if self._attachment.typing:
            self._say(f"Connected R/W to console [{self._console.name}]")

    def _watch(self) -> None:
        self._console.keyboard.watch(self._attachment)
        self._say(f"Connected R/O to console [{self._console.name}]")

    def _toggle_quiet(self) -> None:
        self._quiet = not self._quiet
        self._attachment.change_flavour(quiet_text if self._quiet else Text)
        if self._quiet:
            self._say("Quiet-mode enabled -- info msgs will be suppressed")
        else:
            self._say("Quiet-mode disabled -- info msgs will be displayed")

    def _suspend(self) -> None:
        self._suspended = True
        self._say(f"Connection to console [{self._console.name}] suspended -- type anything to resume")
        self._attachment.pause()

    def _resume(self) -> None:
        self._suspended = False
        self._say(f"Connection to console [{self._console.name}] resumed")
        self._attachment.resume()

    def _replay(self) -> None:
        console = self._console
        start = max(console.transcript.start, console.head - REPLAY)
        reading: Deferred[Any] = console.transcript.read(start, console.head - start)
        reading.addCallbacks(self._replayed, self._not_replayed)

    def _replayed(self, result: tuple[int, bytes]) -> None:
        name, replay = self._console.name, Text()
        self._say(f"Begin log replay of console [{name}]")
        for frame in (replay.encode(result[1]), replay.flush()):
            if frame is not None:
                self.send(frame)
        self._say(f"End log replay of console [{name}]")

    def _not_replayed(self, failure: Failure) -> None:
        self._say(f"The log of console [{self._console.name}] cannot be read now")

    def _reset(self) -> None:
        self._try("interact", lambda: self._console.reset(self._attachment))

    def _info(self) -> None:
        console, mode = self._console, "R/W" if self._attachment.typing else "R/O"
        status = console.link.status
        match status:
            case Up(since=since) | Dialing(since=since) | Closing(since=since):
                state = f"{word(status)} since {_utc(since)}"
            case Waiting(until=until, why=why):
                state = f"down ({why}), next attempt at {_utc(until)}"
            case _:
                state = "off"
        last = "nothing yet" if console.last_output is None else _utc(console.last_output)
        self._say(
            f"Connected {mode} to console [{console.name}] on {console.link.address}: {state}; "
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
        self.send(text_frame(f"\r\n{console.tag} {''.join(rows)}"))

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
