"""The refusals that the core can utter.

A fault is an answer, not an accident: its text is fit for a client's eyes, so it names no address, no secret
and nothing of another tenant's.  The faces catch `Fault` and say it in their own words: an HTTP status before
the upgrade, a line in the session after it.
"""


class Fault(Exception):
    """A request that was understood and is refused; `str(fault)` says why."""


class UnknownConsole(Fault):
    """No console has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not a valid node.")
        self.name = name


class NotMonitored(Fault):
    """The console is known, but the configuration says not to hold it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Node {name} is not currently being monitored")
        self.name = name


class ReadOnly(Fault):
    """The attachment may watch and not type."""

    def __init__(self) -> None:
        super().__init__("This session may only watch")


class KeyboardHeld(Fault):
    """Somebody else holds the keyboard alone."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"The keyboard is held by {holder}")
        self.holder = holder


class LinkDown(Fault):
    """There is no connection to the node, so what was typed was thrown away."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Console [{name}] is currently disconnected; the input was discarded")


class LinkParked(Fault):
    """An operator has parked the connection."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Console [{name}] is parked; release it first")


class NodeNotReading(Fault):
    """The node's side takes no input and the bounded queue towards it is full."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Console [{name}] is not taking input; it was discarded")


class NotRecorded(Fault):
    """Input to the console is to be recorded, and cannot be."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Input to console [{name}] cannot be recorded at present; it was discarded")


class NoBreak(Fault):
    """The console's kind has no way to send a break."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Console [{name}] cannot send a break")


class NoReset(Fault):
    """The console has no reset command, or it is still running."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"Console [{name}] cannot be reset: {why}")


class TooManyClients(Fault):
    """A limit on attachments is reached."""

    def __init__(self) -> None:
        super().__init__("Too many clients are attached; try again later")


class NotReloaded(Fault):
    """There is something wrong with the new configuration, so nothing has changed.

    The text is for operators: it names files and keys.
    """


class NotOpen(Fault):
    """The daemon is starting, or on its way out."""

    def __init__(self) -> None:
        super().__init__("The console service is starting or stopping; try again later")
