"""Caveats: what a configuration may say, and somebody should know all the same.

`daemon` logs the warnings at its start, and the new ones at a reload; `tap` asks what is missing for `--check`.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator

from consoled.backends.process import ProcessSettings
from consoled.config import Config
from consoled.fetch import is_private
from consoled.listening.descriptions import is_loopback


def missing(config: Config) -> Iterator[str]:
    """What consoles name and this machine has not, each with its key: users and files.

    For `--check`.  The daemon starts without them: they may come later, and are looked for at each dial.
    """
    for console in config.consoles:
        files = {f"key_files[{index}]": file for index, file in enumerate(getattr(console, "key_files", ()))}
        if (tls := getattr(console, "tls", None)) is not None:
            files |= {f"tls.{key}": getattr(tls, key) for key in ("ca", "certificate", "key")}
        for key, file in files.items():
            if file and not os.path.exists(file):  # noqa: PTH110  # it is a `str`, and there may be thousands
                yield f"console {console.name}: {key}: there is no file {file}"
        if isinstance(console, ProcessSettings) and console.user:
            try:
                pwd.getpwnam(console.user)
            except KeyError:
                yield f"console {console.name}: user: there is no user {console.user!r}"


def warnings(config: Config) -> Iterator[str]:
    """What is allowed and unsafe, each with its key.  Said at every start."""
    if config.auth is None:
        yield f"no [auth] is configured: whoever reaches {', '.join(config.http.listen)} may do everything"
    if config.tapms is not None and not config.tapms.is_private:
        yield (
            f"tapms.unsafe_plaintext: whoever sits between here and {config.tapms.url} may give any node to any tenant"
        )
    if config.vault is not None and config.vault.unsafe_plaintext:
        yield f"vault.unsafe_plaintext: whoever sits between here and {config.vault.address} sees the passwords of BMCs"
    for source in config.source:
        if getattr(source, "unsafe_plaintext", False):
            yield (
                f"source {source.name}: unsafe_plaintext: whoever sits between may send the daemon, and its passwords, "
                "anywhere"
            )
    clear = [listen for listen in config.http.listen if not is_loopback(listen)]
    if config.auth is not None and clear:
        yield f"http.listen: whoever sits between clients and {', '.join(clear)} sees their tokens; [tls] is safe"
    for key in ("mahi", "vmapi", "cnapi") if config.cloudapi is not None else ():
        if (url := getattr(config.cloudapi, key)) and not is_private(url):
            lies = "whose key is whose" if key == "mahi" else "which machine is whose, and where"
            yield f"cloudapi.{key}: whoever sits between here and there may say {lies}"
    anybody = [one.name for one in config.consoles if getattr(getattr(one, "tls", None), "unsafe_any_certificate", 0)]
    if anybody:
        more = f" and {len(anybody) - 5} more" if len(anybody) > 5 else ""
        yield (
            f"tls.unsafe_any_certificate: whoever sits between here and {', '.join(anybody[:5])}{more} "
            "may read and type there"
        )
