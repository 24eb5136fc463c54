"""Weft: durable, deterministic, parallel agent programs in plain async Python."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weft import model as model
    from weft.core.declare import Queue, Retry, Step, Workflow, step, workflow
    from weft.core.errors import WeftError
    from weft.core.secret import Secret, secret
    from weft.runtime.effects import (
        Child,
        Mailbox,
        current,
        detach,
        now,
        patched,
        publish,
        random,
        sleep,
        spawn,
        uuid,
        wait_for,
    )
    from weft.runtime.handle import Run
    from weft.runtime.runtime import Runtime
    from weft.runtime.script import run

__version__ = "0.1.0"

_HOMES = {
    "Queue": "core.declare", "Retry": "core.declare", "Step": "core.declare", "Workflow": "core.declare",
    "step": "core.declare", "workflow": "core.declare", "WeftError": "core.errors", "Secret": "core.secret",
    "secret": "core.secret", "Child": "runtime.effects", "Mailbox": "runtime.effects", "current": "runtime.effects",
    "detach": "runtime.effects", "now": "runtime.effects", "patched": "runtime.effects",
    "publish": "runtime.effects", "random": "runtime.effects", "sleep": "runtime.effects",
    "spawn": "runtime.effects", "uuid": "runtime.effects", "wait_for": "runtime.effects", "Run": "runtime.handle",
    "Runtime": "runtime.runtime", "run": "runtime.script",
}  # fmt: skip
_ROOMS = ("core", "errors", "model", "runtime", "store", "tool")

__all__ = [*sorted(_HOMES), "errors", "model"]


def __getattr__(name: str) -> Any:
    """Names are imported when first used, so that `import weft` stays light."""
    home = _HOMES.get(name)
    if home is not None:
        value = getattr(import_module(f"weft.{home}"), name)
    elif name == "errors":
        value = import_module("weft.core.errors")
    elif name in _ROOMS:
        value = import_module(f"weft.{name}")
    else:
        raise AttributeError(f"module 'weft' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
