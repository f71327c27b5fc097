"""Become the program of a `process` console.  Not imported: run by `child` as `python -I -S launch.py`.

The daemon has threads and a large heap, so it must not run Python between fork and exec.  It spawns this instead
(`posix_spawn`, no copy of the heap), and here, in a young process with one thread, the rest is plain code: session,
terminal, signals, user, directory.  Name look-ups and slow file systems hold up this process, not the reactor.

Descriptors 0 to 2 are the terminal.  3 is the way to say what went wrong: exec closes it, so its end without a
word is success.
"""

import errno
import fcntl
import os
import pwd
import resource
import signal
import sys
import termios
import warnings  # noqa: F401 - os.execvpe imports it, and another user may not be let into our library

REPORT = 3


class Failed(Exception):
    """It cannot be done; the text is for operators."""


def become(user: str) -> None:
    """Take on a user's rights, all of them for good, and the environment that goes with them."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise Failed(f"user {user!r}: no such user") from None
    if os.geteuid() == 0:
        os.fchown(0, entry.pw_uid, -1)
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    elif entry.pw_uid != os.geteuid():
        raise Failed(f"user {user!r}: only root can run a program as another user")
    for name, value in ("HOME", entry.pw_dir), ("USER", user), ("LOGNAME", user):
        os.environ.setdefault(name, value)


def launch(user: str, directory: str, command: list[str]) -> None:
    """Returns only by raising `Failed` or `OSError`."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # The daemon raised its soft limit; programs that use select(), or close every number up to it, want the old one.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft > 1024:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    if user:
        become(user)
    if directory:
        try:
            os.chdir(directory)
        except OSError as error:
            raise Failed(f"directory {directory}: {error.strerror}") from None
    try:
        os.execvpe(command[0], command, os.environ)  # noqa: S606 - that is the point
    except OSError as error:
        raise Failed(_cannot_execute(command[0], error)) from None


def _cannot_execute(program: str, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        if "/" not in program:
            return f"{program}: not found on the PATH"
        if os.path.exists(program):  # noqa: PTH110 - pathlib is slow to import
            return f"{program}: its interpreter does not exist"
    return f"{os.fsdecode(error.filename or program)}: {error.strerror}"


def main(user: str, directory: str, *command: str) -> None:
    os.set_inheritable(REPORT, False)
    try:
        launch(user, directory, list(command))
    except Exception as error:
        os.write(REPORT, (str(error) or type(error).__name__).encode(errors="replace"))
    os._exit(127)


if __name__ == "__main__":
    main(*sys.argv[1:])
