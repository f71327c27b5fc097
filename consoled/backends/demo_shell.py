"""The shell of a simulated node: a prompt, and a handful of commands.

`demo_node.Node` runs it after the login.  A command is a generator of steps, as every script is; ^C throws
`Interrupted` into it, which the prompt's loop catches.  `help` prints each command's docstring.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from consoled.backends.demo_machine import Ask, Instead, Interrupted, Script

if TYPE_CHECKING:
    from consoled.backends.demo_node import Node

RELEASE = "6.1.0-18-amd64"
BUILD = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1"
COMMAND_LINE = f"BOOT_IMAGE=/boot/vmlinuz-{RELEASE} root=/dev/nvme0n1p2 ro console=ttyS0,115200n8"
LONGEST_SLEEP = 1e6
_AT_ONCE = 64
"""Lines that `seq` and `yes` say in one step."""


def shell(node: Node, user: str) -> Script:
    """One session, until `exit` or ^D."""
    yield "\nThis is a simulation; `help` lists what it can do.\n"
    prompt = f"{user}@{node.name}:~{'#' if user == 'root' else '$'} "
    while True:
        try:
            yield prompt
            line: bytes = yield Ask()
            yield from _run(node, user, line.decode(errors="replace"))
        except Interrupted:
            pass
        except EOFError:
            yield "logout\n"
            return


def _run(node: Node, user: str, line: str) -> Script:
    try:
        name, *words = shlex.split(line, comments=True) or [""]
    except ValueError as error:
        yield f"sh: syntax error: {error}\n"
        return
    if name in _COMMANDS:
        yield from _COMMANDS[name](node, user, words)
    elif name:
        yield f"sh: {name}: command not found\n"


def _help(node: Node, user: str, words: list[str]) -> Script:
    """what there is"""
    for name, command in sorted(_COMMANDS.items()):
        yield f"  {name:<9} {command.__doc__}\n"
    yield "A break, then c, crashes the node; h instead of c shows what else.\n"


def _uname(node: Node, user: str, words: list[str]) -> Script:
    """the kernel (-a: and more)"""
    more = f" {node.name} {RELEASE} {BUILD} x86_64 GNU/Linux"
    yield f"Linux{more if words == ['-a'] else ''}\n"


def _uptime(node: Node, user: str, words: list[str]) -> Script:
    """how long the kernel has been running"""
    minutes = int(node.now - (node.kernel_since or 0.0)) // 60
    up = f"{minutes // 1440} days, " if minutes >= 1440 else ""
    clock = time.strftime("%H:%M:%S", time.gmtime(node.now))
    yield f" {clock} up {up}{minutes // 60 % 24:2}:{minutes % 60:02},  1 user,  load average: 0.08, 0.03, 0.01\n"


def _hostname(node: Node, user: str, words: list[str]) -> Script:
    """the node's name"""
    yield f"{node.name}\n"


def _date(node: Node, user: str, words: list[str]) -> Script:
    """the time, in UTC"""
    yield time.strftime("%a %b %e %H:%M:%S UTC %Y\n", time.gmtime(node.now))


def _whoami(node: Node, user: str, words: list[str]) -> Script:
    """who you said you are"""
    yield f"{user}\n"


def _dmesg(node: Node, user: str, words: list[str]) -> Script:
    """the kernel's messages since it started"""
    for at, text in list(node.log):
        yield f"[{at:12.6f}] {text}\n"


def _ps(node: Node, user: str, words: list[str]) -> Script:
    """the processes"""
    yield "    PID TTY          TIME CMD\n"
    for pid, tty, cpu, name in _PROCESSES:
        yield f"{pid:7} {tty:<8} {cpu} {name}\n"


def _df(node: Node, user: str, words: list[str]) -> Script:
    """the file systems"""
    yield (
        "Filesystem      1K-blocks       Used  Available Use% Mounted on\n"
        "/dev/nvme0n1p2  921802464   48233096  826670536   6% /\n"
        "tmpfs            65941840       1084   65940756   1% /run\n"
        "mgs:/scratch   9126805504 3741990257 5384815247  42% /scratch\n"
    )


def _free(node: Node, user: str, words: list[str]) -> Script:
    """the memory"""
    yield (
        "               total        used        free      shared  buff/cache   available\n"
        "Mem:       131883684     2419872   128614320        1084      849492   128403244\n"
        "Swap:              0           0           0\n"
    )


def _cat(node: Node, user: str, words: list[str]) -> Script:
    """a file: /etc/os-release, /etc/hostname, /proc/cmdline"""
    files = {
        "/etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n',
        "/etc/hostname": f"{node.name}\n",
        "/proc/cmdline": f"{COMMAND_LINE}\n",
    }
    for path in words or ["/proc/cmdline"]:
        yield files.get(path, f"cat: {path}: No such file or directory\n")


def _echo(node: Node, user: str, words: list[str]) -> Script:
    """its words"""
    yield " ".join(words) + "\n"


def _seq(node: Node, user: str, words: list[str]) -> Script:
    """N: the numbers from 1 to N"""
    try:
        last = int(words[0])
    except (IndexError, ValueError):
        yield "seq: give a whole number\n"
        return
    for first in range(1, last + 1, _AT_ONCE):
        yield "".join(f"{number}\n" for number in range(first, min(first + _AT_ONCE, last + 1)))


def _yes(node: Node, user: str, words: list[str]) -> Script:
    """y, or its words, until ^C"""
    while True:
        yield f"{' '.join(words) or 'y'}\n" * _AT_ONCE


def _sleep(node: Node, user: str, words: list[str]) -> Script:
    """N: nothing for N seconds"""
    try:
        seconds = float(words[0])
        if not 0 <= seconds <= LONGEST_SLEEP:
            raise ValueError
    except (IndexError, ValueError):
        yield "sleep: give a number of seconds\n"
        return
    yield seconds


def _colours(node: Node, user: str, words: list[str]) -> Script:
    """the terminal's colours"""
    for row in (range(30, 38), range(90, 98)):
        yield "".join(f"\x1b[{colour}m {colour} \x1b[{colour + 10};30m   \x1b[0m" for colour in row) + "\n"
    for start in range(16, 232, 36):
        yield "".join(f"\x1b[48;5;{colour}m  " for colour in range(start, start + 36)) + "\x1b[0m\n"


def _hello(node: Node, user: str, words: list[str]) -> Script:
    """a greeting in many scripts (UTF-8)"""
    yield "Hello · Grüß Gott · Γειά σου · Привет · שלום · مرحبا · नमस्ते · 你好 · こんにちは · 안녕하세요 · 🖥️ 🐧\n"  # noqa: RUF001


def _panic(node: Node, user: str, words: list[str]) -> Script:
    """crash the kernel; the node starts again after 10 s"""
    yield Instead(node.panic("sh"))


def _reboot(node: Node, user: str, words: list[str]) -> Script:
    """stop everything and start again"""
    yield Instead(node.reboot())


def _poweroff(node: Node, user: str, words: list[str]) -> Script:
    """stop everything; a break or Enter switches the node on again"""
    yield Instead(node.power_off())


def _exit(node: Node, user: str, words: list[str]) -> Script:
    """log out, as ^D does"""
    yield from ()
    raise EOFError


_COMMANDS: dict[str, Callable[[Node, str, list[str]], Script]] = {
    command.__name__.removeprefix("_"): command
    for command in (
        *(_help, _uname, _uptime, _hostname, _date, _whoami, _dmesg, _ps, _df, _free, _cat, _echo, _seq, _yes, _sleep),
        *(_colours, _hello, _panic, _reboot, _poweroff, _exit),
    )
}

_PROCESSES = (
    (1, "?", "00:00:02", "systemd"),
    (2, "?", "00:00:00", "kthreadd"),
    (412, "?", "00:00:00", "systemd-journal"),
    (455, "?", "00:00:00", "systemd-udevd"),
    (803, "?", "00:00:00", "chronyd"),
    (811, "?", "00:00:00", "munged"),
    (874, "?", "00:00:01", "slurmd"),
    (890, "?", "00:00:00", "sshd"),
    (1022, "ttyS0", "00:00:00", "sh"),
    (1107, "ttyS0", "00:00:00", "ps"),
)
