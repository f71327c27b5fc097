"""The two programs that speak Serial-over-LAN for us, as data: how to start each, and what its words mean.

`ipmi` chooses one and dials with it, `ipmi_line` talks to it.  The texts are those of FreeIPMI 1.6 and ipmitool 1.8;
`docs/ipmi.md` says how the two differ.

Neither program gets a secret as an argument or by its environment: both are told to prompt, and the answer goes through
their terminal, which nobody else can read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from consoled.backends.address import Address
from consoled.backends.ipmi_escape import AfterNewline, Anywhere, Escape
from consoled.backends.ipmi_words import ANYTHING, Words
from consoled.core.seams import HeldElsewhere, Refused


class LoginRefused(Refused):
    """The BMC does not accept the user, the password, the K_g or the privilege."""


class NoSuite(ConnectionError):
    """The BMC, or the program, does not do this cipher suite."""


@dataclass(frozen=True, slots=True)
class Session:
    """What a program has to know, the secrets excepted."""

    address: Address
    user: str
    suite: int
    privilege: str
    workarounds: tuple[str, ...]
    steal: bool
    with_k_g: bool
    silence: float
    """Seconds without a sign of life after which the BMC is to be given up; 0 leaves it to the program."""


@dataclass(frozen=True, slots=True)
class Program:
    """One of the two."""

    name: str
    package: str
    """Debian's."""
    highest_port: int
    """The highest UDP port that it can be told."""
    banner: bytes
    """What it says when the session is up."""
    password_prompt: bytes
    k_g_prompt: bytes
    k_g_answer: Callable[[bytes], bytes]
    """What to answer to that, given the configured K_g.  Raises `ConnectionError`."""
    escape: Callable[[], Escape]
    words: Words
    verdicts: Sequence[tuple[str, type[Exception], str]]
    """Patterns in what it says when it does not get that far, what each means, and words for operators."""
    activate: Callable[[Session], list[str]]
    """Its arguments for a session."""
    deactivate: Callable[[Session], list[str]] | None
    """Its arguments for ending somebody else's session, where `activate` does not do so."""

    def verdict(self, said: str, epitaph: str) -> Exception:
        """Why there is no session, given all that it said and how it ended."""
        for pattern, kind, words in self.verdicts:
            if found := re.search(pattern, said):
                return kind(found.expand(words))
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        return ConnectionError(f"{self.name}: {lines[-1][:200] if lines else epitaph}")


def _k_g_as_it_is(k_g: bytes) -> bytes:
    return k_g


def _k_g_raw(k_g: bytes) -> bytes:
    """ipmitool's prompt knows no hexadecimal notation."""
    if k_g[:2].lower() != b"0x":
        return k_g
    try:
        raw = bytes.fromhex(k_g[2:].decode("ascii"))
    except ValueError:
        raise ConnectionError("the K_g begins with 0x and is no hexadecimal number") from None
    if b"\0" in raw or b"\n" in raw:
        raise ConnectionError('this K_g cannot be given to ipmitool (it has a byte 00 or 0a): program = "ipmiconsole"')
    return raw


# ------------------------------------------------------------------------------------------------------- FreeIPMI

_KEEPALIVE = 20
"""Seconds between ipmiconsole's keepalives, which no option of it changes."""


def _ipmiconsole(session: Session) -> list[str]:
    arguments = [
        "--config-file=/dev/null",  # the machine's own defaults are not ours
        f"--hostname={session.address}",
        f"--username={session.user}",
        "--password-prompt",
        *(["--k-g-prompt"] if session.with_k_g else []),
        f"--cipher-suite-id={session.suite}",
        f"--privilege-level={session.privilege}",
        "--escape-char=&",
    ]
    if session.workarounds:
        arguments.append(f"--workaround-flags={','.join(session.workarounds)}")
    if session.silence:
        arguments.append(f"--session-timeout={max(session.silence, _KEEPALIVE + 1) * 1000:.0f}")
    if not session.steal:
        arguments.append("--dont-steal")
    return arguments


IPMICONSOLE = Program(
    name="ipmiconsole",
    package="freeipmi-tools",
    highest_port=32767,  # above, it calls the host name invalid
    banner=b"[SOL established]\r\n",
    password_prompt=b"Password: ",
    k_g_prompt=b"K_g: ",
    k_g_answer=_k_g_as_it_is,
    escape=Anywhere,
    words=Words(
        last=[
            [b"\r\n[error received]: ", ANYTHING, b"\r\n"],
            [b"\r\n[SOL session stolen]\r\n"],
            [b"\r\n[closing the connection]\r\n"],
        ],
        remarks=[],
        echo=b"[generate break]\r\n",
        least=1,  # it writes the first CR LF by itself
    ),
    verdicts=[
        (r"SOL in use", HeldElsewhere, "held by another session"),
        (r"cipher suite id unavailable", NoSuite, "the BMC does not do this cipher suite"),
        # It says no more than this where the BMC does not know one of the suite's algorithms.
        (r"BMC Error", NoSuite, "BMC Error (cipher suite, privilege or SOL settings that do not fit)"),
        (r"username invalid", LoginRefused, "the BMC does not accept the user name"),
        (r"password invalid", LoginRefused, "the BMC does not accept the password"),
        (r"password verification timeout", LoginRefused, "the BMC does not answer to the password"),
        (r"k_g invalid", LoginRefused, "the BMC does not accept the K_g"),
        (r"privilege level (?:insufficient|cannot be obtained)", LoginRefused, "the user does not have this privilege"),
        (r"authentication type unavailable", LoginRefused, "the BMC does not authenticate at this privilege"),
        (r"(password|k_g) (?:too long|input formatted incorrectly)", LoginRefused, r"the \1 is not of IPMI's form"),
        (r"SOL unavailable", Refused, "Serial-over-LAN is off, or not allowed for this user"),
        (r"SOL requires (no encryption|encryption)", Refused, r"the BMC wants a cipher suite with \1"),
        (r"\[error received\]: ([^\r\n]+)", ConnectionError, r"\1"),
    ],
    activate=_ipmiconsole,
    deactivate=None,
)


# ------------------------------------------------------------------------------------------------------- ipmitool


def _tries(silence: float) -> int:
    """How often it is to send each request, so that it gives up within `silence` seconds if it can: in 40, 64 or 96.

    It asks for a sign of life after 16 s and gives up when seven requests have failed, then tries to sign off.  The
    first copy of a request has a second to be answered, each further one a second more.  With a single copy one lost
    packet would end the session.
    """
    for tries in (4, 3):
        if not silence or 16 + 8 * tries * (tries + 1) / 2 <= silence:
            return tries
    return 2


def _ipmitool(session: Session, *command: str) -> list[str]:
    if len(session.workarounds) > 1:
        raise ConnectionError(f"workarounds: ipmitool takes one, not {', '.join(session.workarounds)}")
    privilege = {"admin": "ADMINISTRATOR"}.get(session.privilege, session.privilege.upper())
    arguments = ["-v", "-I", "lanplus", "-H", session.address.host, "-p", str(session.address.port)]
    arguments += ["-U", session.user, "-a", *(["-Y"] if session.with_k_g else [])]
    arguments += ["-C", str(session.suite), "-L", privilege, "-e", "~", "-N", "1", "-R", str(_tries(session.silence))]
    if session.workarounds:
        arguments += ["-o", *session.workarounds]
    return [*arguments, "sol", *command]


IPMITOOL = Program(
    name="ipmitool",
    package="ipmitool",
    highest_port=65535,
    banner=b"[SOL Session operational.  Use ~? for help]\n",
    password_prompt=b"Password: ",
    k_g_prompt=b"Key: ",
    k_g_answer=_k_g_raw,
    escape=AfterNewline,
    words=Words(
        last=[
            [b"SOL session closed by BMC\n"],
            [b"Error sending SOL data: FAIL\n"],
            [b"Error: No response to keepalive - Terminating session\n"],
            [b"Error: No response de-activating SOL payload\n"],
            [b"Error: Select returned with nothing to read\n"],
            [b"Error in SOL session\n"],
            [b"Error de-activating SOL payload: ", ANYTHING, b"\n"],
            [b"Info: SOL payload already de-activated\n"],
            [b"Info: SOL payload type disabled\n"],
            [b"IPMI LAN send command failed\n"],
            [b"Close Session command failed", ANYTHING, b"\n"],
        ],
        remarks=[
            [b"IPMI Request Match NOT FOUND\n"],
            [b"packet session id 0x", ANYTHING, b" does not match active session 0x", ANYTHING, b"\n"],
            [b"Error: Received an Unexpected ", ANYTHING, b"\n"],
            [b"ERROR: Received an Unexpected ", ANYTHING, b"\n"],
        ],
        echo=b"~B [send break]\n",
        least=7,
    ),
    verdicts=[
        (r"already active on another session|activation limit reached", HeldElsewhere, "held by another session"),
        (
            r"open session response message : (?:no matching|invalid \w+ algorithm)|Unsupported cipher suite",
            NoSuite,
            "the BMC does not do this cipher suite",
        ),
        (
            r"RAKP 2 message indicates an error : unauthorized name",
            LoginRefused,
            "the BMC does not accept the user name",
        ),
        (r"RAKP 2 HMAC is invalid", LoginRefused, "the BMC does not accept the password"),
        (r"no response from RAKP 3", LoginRefused, "the BMC does not answer to the password"),
        (r"RAKP 4 message has invalid integrity", LoginRefused, "the BMC does not accept the K_g"),
        (r"(?:indicates an error|response message) : ([^\r\n]*role[^\r\n]*)", LoginRefused, r"privilege: \1"),
        (r"RAKP \d message indicates an error : (insufficient[^\r\n]+)", ConnectionError, r"\1"),
        (r"RAKP \d message indicates an error : ([^\r\n]+)", LoginRefused, r"login refused: \1"),
        (r"Set Session Privilege Level to \w+ failed", LoginRefused, "the user does not have this privilege"),
        (r"(password) is longer", LoginRefused, r"the \1 is not of IPMI's form"),
        (r"SOL payload disabled", Refused, "Serial-over-LAN is off, or not allowed for this user"),
        (r"cannot activate SOL payload (with(?:out)?) encryption", Refused, r"the BMC gives no console \1 encryption"),
        (r"Error activating SOL payload: (Insufficient[^\r\n]+)", LoginRefused, r"\1"),
        (r"Address lookup for \S+ failed", ConnectionError, "its name cannot be resolved"),
        (r"Error: (No response[^\r\n]*|BMC requests[^\r\n]*)", ConnectionError, r"\1"),
        (r"does not support IPMI v2", ConnectionError, "the BMC has no IPMI 2.0"),
        (r"Unable to establish IPMI", ConnectionError, "no answer"),
    ],
    activate=lambda session: _ipmitool(session, "activate"),
    deactivate=lambda session: _ipmitool(session, "deactivate"),
)

PROGRAMS = {program.name: program for program in (IPMICONSOLE, IPMITOOL)}
"""The first that is there is taken."""
