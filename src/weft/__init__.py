"""Weft: durable, deterministic, parallel agent programs in plain async Python."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weft import model as model
    from weft.core import errors as errors
    from weft.core.approvals import Approvals as Approvals
    from weft.core.budget import Budget as Budget
    from weft.core.errors import WeftError as WeftError
    from weft.core.label import Label as Label
    from weft.core.queue import Queue as Queue
    from weft.core.retry import Retry as Retry
    from weft.core.sealed import Labelled as Labelled
    from weft.core.sealed import label as label
    from weft.core.secret import Secret as Secret
    from weft.core.secret import secret as secret
    from weft.core.step import Step as Step
    from weft.core.step import step as step
    from weft.core.workflow import Workflow as Workflow
    from weft.core.workflow import workflow as workflow
    from weft.runtime.effects import Child as Child
    from weft.runtime.effects import Mailbox as Mailbox
    from weft.runtime.effects import ask as ask
    from weft.runtime.effects import charge as charge
    from weft.runtime.effects import checkpoint as checkpoint
    from weft.runtime.effects import current as current
    from weft.runtime.effects import detach as detach
    from weft.runtime.effects import exec as exec
    from weft.runtime.effects import exit as exit
    from weft.runtime.effects import hold_back as hold_back
    from weft.runtime.effects import now as now
    from weft.runtime.effects import patched as patched
    from weft.runtime.effects import publish as publish
    from weft.runtime.effects import random as random
    from weft.runtime.effects import sleep as sleep
    from weft.runtime.effects import spawn as spawn
    from weft.runtime.effects import spend as spend
    from weft.runtime.effects import uuid as uuid
    from weft.runtime.effects import wait_for as wait_for
    from weft.runtime.handle import Run as Run
    from weft.runtime.map import Results as Results
    from weft.runtime.map import map as map
    from weft.runtime.memory import Memory as Memory
    from weft.runtime.narrow import grant as grant
    from weft.runtime.operation import Operation as Operation
    from weft.runtime.policy import Policy as Policy
    from weft.runtime.runtime import Runtime as Runtime
    from weft.runtime.script import run as run
    from weft.runtime.turns import turn as turn

__version__ = "0.1.0"

_HOMES = {
    "Approvals": "core.approvals", "Budget": "core.budget", "Child": "runtime.effects", "Label": "core.label",
    "Labelled": "core.sealed", "Mailbox": "runtime.effects", "Memory": "runtime.memory",
    "Operation": "runtime.operation", "Policy": "runtime.policy", "Queue": "core.queue",
    "Results": "runtime.map", "Retry": "core.retry", "Run": "runtime.handle",
    "Runtime": "runtime.runtime", "Secret": "core.secret", "Step": "core.step",
    "WeftError": "core.errors", "Workflow": "core.workflow", "ask": "runtime.effects", "charge": "runtime.effects",
    "checkpoint": "runtime.effects", "current": "runtime.effects", "detach": "runtime.effects",
    "exec": "runtime.effects", "exit": "runtime.effects", "grant": "runtime.narrow", "hold_back": "runtime.effects",
    "label": "core.sealed", "map": "runtime.map", "now": "runtime.effects", "patched": "runtime.effects",
    "publish": "runtime.effects", "random": "runtime.effects", "run": "runtime.script", "secret": "core.secret",
    "sleep": "runtime.effects", "spawn": "runtime.effects", "spend": "runtime.effects", "step": "core.step",
    "turn": "runtime.turns", "uuid": "runtime.effects", "wait_for": "runtime.effects", "workflow": "core.workflow",
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
