"""Where settings are written down: `weft.toml`, or a table of `pyproject.toml`.

Nothing of the contents is checked here; who uses a part of it checks that.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from weft.core.errors import BadInput


class SettingsFile(NamedTuple):
    name: str
    """As messages call it."""
    values: dict[str, Any]
    """As written; nothing of it is checked yet."""


def settings_file() -> SettingsFile | None:
    """The file that `$WEFT_CONFIG` names, else `weft.toml` in this folder, else `pyproject.toml` in this folder if it
    has a table `[tool.weft]`. Raises BadInput if it can't be read."""
    named = os.environ.get("WEFT_CONFIG")
    if named:
        path = Path(named).expanduser()
        if path.name != "pyproject.toml":
            return SettingsFile(named, _parsed(path, _bytes(path, "; name an existing one with WEFT_CONFIG")))
        table = _table(path)
        if table is None:
            raise BadInput(f"{named}, which WEFT_CONFIG names, has no table [tool.weft]; write one")
        return table
    path = Path("weft.toml")
    if path.exists():
        return SettingsFile(path.name, _parsed(path, _bytes(path)))
    path = Path("pyproject.toml")
    return _table(path) if path.exists() else None


def _table(path: Path) -> SettingsFile | None:
    """`[tool.weft]` of a pyproject.toml."""
    data = _bytes(path)
    if b"weft" not in data:
        return None
    table = _parsed(path, data).get("tool", {}).get("weft")
    if table is None:
        return None
    if not isinstance(table, dict):
        raise BadInput(f"{path}: tool.weft is {table!r}; make it a table: [tool.weft]")
    return SettingsFile(f"{path} [tool.weft]", table)


def _bytes(path: Path, fix: str = "") -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"the settings file {path} could not be read: {error.strerror}{fix}") from None


def _parsed(path: Path, data: bytes) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(data.decode())
    except ValueError as error:  # not UTF-8, or not TOML
        raise BadInput(f"the settings file {path} is not TOML: {error}; mend it there") from None
