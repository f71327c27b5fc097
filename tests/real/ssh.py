"""What the tests against SSH servers share: somebody to talk to them, and an account to log in to.

A password needs an account, and none is made on the machine: the server runs in a mount namespace of its own, in which
`/etc/passwd` and `/etc/shadow` are files of the test's.  They vanish with the server.  That takes root.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.task import deferLater

from consoled.backends.settings import Surroundings
from consoled.backends.ssh import SshSettings
from consoled.core.secret import Secret
from tests.real import lack, need
from tests.real.talk import LIMIT

USER = "bmcadmin"
PASSWORD = Secret(literal="correct horse")


@inlineCallbacks
def soon(call: Callable[[], bool]) -> Any:
    """Fires once `call` says yes; fails if it does not within the limit."""
    deadline = reactor.seconds() + LIMIT
    while not call():
        if reactor.seconds() > deadline:
            pytest.fail("it did not come to that")
        yield deferLater(reactor, 0.05)


class Plain:
    """The `Secrets` seam, for secrets that stand in the configuration."""

    def fetch(self, secret: Secret, fresh: bool = False) -> Deferred[Any]:
        return succeed(secret.literal)


def backend(state: Path, port: int, **more: Any) -> Any:
    """A backend that dials `port`; unless something else is said, with trust on first use, kept in `state`."""
    if not {"fingerprint", "known_hosts"} & more.keys():
        more["trust_on_first_use"] = True
    settings = SshSettings(name="x1", address=f"127.0.0.1:{port}", **more)
    return settings.backend(Surroundings(reactor, Plain(), state))


def new_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    """A fresh private key at `path`, its public half beside it."""
    keygen = need("ssh-keygen", "openssh-client")
    argv = [keygen, "-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    return path


def with_account(directory: Path, argv: Sequence[str]) -> list[str]:
    """`argv`, to be run where nobody exists but root, sshd and `USER`; its home is `directory`/home."""
    if os.geteuid() != 0:
        pytest.skip("an account for this test alone takes root")
    unshare, openssl = need("unshare", "util-linux"), need("openssl", "openssl")
    made = subprocess.run(
        [openssl, "passwd", "-6", "-stdin"], input=PASSWORD.literal, capture_output=True, text=True, check=True
    )
    home = directory / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    home.chmod(0o700)
    (directory / "passwd").write_text(
        f"root:x:0:0::/root:/bin/sh\nsshd:x:65534:65534::/run/sshd:/bin/false\n{USER}:x:0:0::{home}:/bin/sh\n"
    )
    (directory / "shadow").write_text(f"root:*:20000::::::\n{USER}:{made.stdout.strip()}:20000::::::\n")
    (directory / "pam").write_text(
        "auth required pam_unix.so\naccount required pam_permit.so\nsession required pam_permit.so\n"
    )
    mounts = f'mount --bind {directory}/passwd /etc/passwd && mount --bind {directory}/shadow /etc/shadow && exec "$@"'
    if Path("/etc/pam.d/sshd").exists():
        mounts = f"mount --bind {directory}/pam /etc/pam.d/sshd && {mounts}"
    if subprocess.run([unshare, "-m", "true"], check=False, capture_output=True).returncode:
        lack("the right to make a mount namespace", "util-linux, and run the tests where root may use it")
    return [unshare, "--mount", "--propagation", "private", "sh", "-c", mounts, "sh", *argv]
