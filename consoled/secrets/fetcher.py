"""The fetcher: gives the value of a `Secret` to whoever dials.

Backends ask at each dial, so what a secret's place says now is what counts.  Only what is dear to ask (a program,
Vault) is remembered for a while, and a thousand consoles that want the same one at once share one question.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.python.failure import Failure

from consoled.command import Outcome, run
from consoled.core.secret import Secret, SecretUnavailable

LIMIT = 8.0
"""Seconds for a helper program, or for Vault."""
REMEMBERED = 300.0
"""Seconds for which the answer of a program or of Vault is believed."""
MOST = 65536
"""Bytes of a secret: room for a private key."""


class Vault(Protocol):
    """A KV store; see `vault`."""

    def read(self, path: str, field: str) -> Deferred[str]:
        """One field of one secret.  Fails with `SecretUnavailable`."""


class Fetcher:
    """Fetches secrets of all sorts."""

    def __init__(
        self,
        reactor: Any,
        in_thread: Callable[..., Deferred[Any]],
        environment: Mapping[str, str],
        vault: Vault | None = None,
    ) -> None:
        """`in_thread(function, *arguments)` runs what may block."""
        self._reactor = reactor
        self._in_thread = in_thread
        self._environment = environment
        self._vault = vault
        self._known: dict[Secret, tuple[float, str]] = {}
        self._asking: dict[Secret, list[Deferred[str]]] = {}

    def renew(self, vault: Vault | None) -> None:
        """Ask another Vault; what the one before said is forgotten."""
        if vault is not self._vault:
            self._vault = vault
            self._known.clear()

    def fetch(self, secret: Secret, fresh: bool = False) -> Deferred[str]:
        """See the seam."""
        if secret.literal:
            return succeed(secret.literal)
        if secret.env:
            value = self._environment.get(secret.env)
            return succeed(value) if value else fail(SecretUnavailable(f"{secret}: no such variable"))
        if secret.file or secret.credential:
            return self._in_thread(self._read, secret)
        return self._ask(secret, fresh)

    def _read(self, secret: Secret) -> str:
        """In a thread."""
        path = secret.file
        if secret.credential:
            directory = self._environment.get("CREDENTIALS_DIRECTORY", "")
            if not directory:
                raise SecretUnavailable(f"{secret}: systemd has passed no credentials")
            path = f"{directory}/{secret.credential}"
        try:
            with open(path, "rb") as file:  # noqa: PTH123
                if os.fstat(file.fileno()).st_mode & stat.S_IROTH:
                    raise SecretUnavailable(f"{secret}: others can read it; take that right away (chmod o-r)")
                return _text(secret, file.read(MOST + 1))
        except OSError as error:
            raise SecretUnavailable(f"{secret}: {error.strerror}") from None

    # ------------------------------------------------------------------------------------------- what is dear to ask

    def _ask(self, secret: Secret, fresh: bool) -> Deferred[str]:
        now = self._reactor.seconds()
        known = self._known.get(secret)
        if known is not None and not fresh and 0 <= now - known[0] < REMEMBERED:
            return succeed(known[1])
        waiting = self._asking.get(secret)
        answer: Deferred[str] = Deferred(lambda cancelled: self._asking.get(secret, [cancelled]).remove(cancelled))
        if waiting is not None:
            waiting.append(answer)
            return answer
        self._asking[secret] = [answer]
        question = self._run(secret) if secret.command else self._look_up(secret)
        question.addBoth(self._answered, secret)
        return answer

    def _answered(self, result: str | Failure, secret: Secret) -> None:
        if isinstance(result, Failure):
            self._known.pop(secret, None)
        else:
            self._known[secret] = (self._reactor.seconds(), result)
        for answer in self._asking.pop(secret):
            if isinstance(result, Failure):
                answer.errback(result)
            else:
                answer.callback(result)

    def _run(self, secret: Secret) -> Deferred[str]:
        def ended(outcome: Outcome) -> str:
            if not outcome.succeeded:
                raise SecretUnavailable(f"{secret}: it {outcome.how}")
            return _text(secret, outcome.output)

        return run(self._reactor, secret.command, LIMIT, MOST).addCallback(ended)

    def _look_up(self, secret: Secret) -> Deferred[str]:
        if self._vault is None:
            return fail(SecretUnavailable(f"{secret}: no [vault] is configured"))
        return maybeDeferred(self._vault.read, secret.vault, secret.field)


def _text(secret: Secret, value: bytes) -> str:
    """A secret as text, without the one line end that editors and `echo` leave."""
    if len(value) > MOST:
        raise SecretUnavailable(f"{secret}: it has more than {MOST} bytes")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise SecretUnavailable(f"{secret}: it is not UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise SecretUnavailable(f"{secret}: it is empty")
    return text
