"""The interpreter's search for cyclic garbage, out of the way while many things are made that stay.

`tap` imports the daemon and reads the configuration, and `daemon` opens the consoles, within `unhurried`.  The search
visits all objects again each time that a quarter more have come: with 10,000 consoles half of a start's time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unhurried() -> Iterator[None]:
    """No search while this lasts, and none of what is left then ever again.

    So no later search, which stops the daemon while it lasts, goes through the consoles.  Whatever is given up is freed
    as always, but for cycles among what there was at the end: where there may be many, search before that.
    """
    if not gc.isenabled():  # somebody's own choice, or within another one
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
    gc.freeze()
