"""Recorded histories: what the runtime did to shared memory, event by event, in the order in which it happened.

As a file it is JSON lines, one history a line:

    {"name": "run 7", "events": [
      {"event": "registry", "tool": "mail", "signature": "s1"},
      {"event": "begin", "op": "a", "agent": "writer", "level": "L3"},
      {"event": "read", "op": "a", "cell": "plan", "version": 0},
      {"event": "issue", "op": "a", "call": 1, "tool": "mail", "signature": "s1"},
      {"event": "release", "op": "a", "call": 1},
      {"event": "commit", "op": "a", "writes": {"plan": 1}},
      {"event": "retract", "op": "a", "fell": ["a"], "restored": {"plan": {"version": 2, "copy_of": 0}}}]}

The versions of a cell count 1, 2, ..; 0 means that nothing was there. A merge instead of a retry is a conflict, a new
beginning, reads of all that it rests on, and a commit. A conditional update is an operation of its own.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal["L0", "L1", "L2", "L3", "L4"]


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="event", tag=str.lower):
    """One thing that happened."""


class Begin(Event, frozen=True):
    """`op` begins, or begins anew after a conflict or abort; a retry keeps its name."""

    op: str
    agent: str
    level: Level


class Read(Event, frozen=True):
    """`op` reads `cell` from the store and gets `version`. A cell is read once per attempt; what is read again in the
    operation, or read back of its own writes, doesn't come from the store and is no event."""

    op: str
    cell: str
    version: int


class Issue(Event, frozen=True):
    """`op` makes its `call`-th call (1, 2, ..) of this attempt: to `tool`, resolved to `signature`, None if not there.

    `effect`: what the tool declares; the same wherever the history calls it. `commutes` and `none` need no order.
    """

    op: str
    call: int
    tool: str
    signature: str | None
    effect: Literal["ordered", "commutes", "none"] = "ordered"


class Release(Event, frozen=True):
    """The effect of a call lands."""

    op: str
    call: int


class Commit(Event, frozen=True):
    """`op` commits: cell -> the version that it made. Also if it wrote nothing."""

    op: str
    writes: dict[str, int] = {}


class Conflict(Event, frozen=True):
    """The commit of `op` is refused."""

    op: str


class Abort(Event, frozen=True):
    """`op` gives up without a try to commit."""

    op: str


class Restored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new version of a cell, whose value is that of version `copy_of` (0: there is nothing any more)."""

    version: int
    copy_of: int


class Retract(Event, frozen=True):
    """`op` is retracted; `fell`: it and the dependants that fell with it; `restored`: the cells that changed back."""

    op: str
    fell: list[str]
    restored: dict[str, Restored] = {}


class Registry(Event, frozen=True):
    """A tool is added, changed or (None) removed. At the beginning of a history there are none."""

    tool: str
    signature: str | None


Happened = Begin | Read | Issue | Release | Commit | Conflict | Abort | Retract | Registry


class History(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The events of one store, in the order in which they took effect."""

    name: str
    events: list[Happened]


def read(lines: bytes) -> list[History]:
    """Histories out of JSON lines. Raises `msgspec.ValidationError` on anything else."""
    return msgspec.json.Decoder(History).decode_lines(lines)
