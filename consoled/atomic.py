"""Files that are there wholly, old or new, whenever the daemon or the machine dies.

For what the daemon remembers in its state directory.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import mkstemp


def replace(path: Path, data: bytes) -> None:
    """Have `path` hold `data`, for its owner alone.  Makes the directory.  Raises `OSError`; then it is as it was.

    May block: call it in a thread.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file, name = mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with open(file, "wb") as new:  # noqa: PTH123  # it is a descriptor
            new.write(data)
            new.flush()
            os.fsync(file)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise
