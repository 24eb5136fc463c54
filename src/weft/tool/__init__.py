"""Tools: steps by Weft itself, each needing what it does: `weft.tool.files`, `.git`, `.http`, `.python`,
`.sandbox`, `.shell`."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

_TOOLS = ("files", "git", "http", "python", "sandbox", "shell")


def __getattr__(name: str) -> ModuleType:
    if name in _TOOLS:
        return import_module(f"weft.tool.{name}")
    raise AttributeError(f"module 'weft.tool' has no attribute {name!r}; it has {', '.join(_TOOLS)}")
