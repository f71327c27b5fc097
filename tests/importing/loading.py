"""A converted configuration, read as the daemon would read it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from consoled.config import Config, load
from consoled.importing.draft import Draft


def loaded(draft: Draft, directory: Path) -> Config:
    path = directory / "consoled.toml"
    path.write_text(draft.text(), encoding="utf-8")
    path.chmod(0o600)
    return load(path)


def tables(draft: Draft) -> list[dict[str, Any]]:
    """The `[[console]]` tables."""
    return tomllib.loads(draft.text()).get("console", [])


def lost(draft: Draft) -> str:
    return "\n".join(str(remark) for remark in draft.remarks if remark.lost)
