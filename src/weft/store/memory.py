"""Shared memory as a store keeps it, and the one rule by which a commit is let in: whatever store holds it.

A namespace has a clock that counts its commits. An operation's reads name the version that they saw; a commit is
decided and applied under the lock of its namespace, so that between the check and the write nobody else writes. An
operation is remembered by its id: a commit that is made again, because its answer got lost, is answered as before.

Whoever checks only at the end may lose again and again to quicker ones. So an operation that was refused before may
*hold* the cells that it needs: while it does, others' writes to them wait, and those that hold stand in line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from weft.core.errors import BadInput
from weft.core.memory import TOOLS, Level
from weft.core.record import Blob, Value, from_column, to_column

State = Literal["live", "tainted", "retracted"]
"""`tainted`: not retracted itself, but it builds on what was."""


class Object(msgspec.Struct, kw_only=True):
    """One version of a cell."""

    cell: str
    """`namespace/name`"""
    version: int = 0
    """From 1; 0: there never was one."""
    at: int = 0
    """The namespace's clock when it was written."""
    operation: str = ""
    """Which operation wrote it; of a restored version: the value's."""
    value: Value | None = None
    """Codec bytes with their label (`weft.core.sealed.carry`), or the name of a payload; None: deleted."""
    links: tuple[str, ...] = ()
    """Cells that it refers to."""
    updated: float = 0.0
    """When, in seconds since the epoch."""
    by: str = ""
    """The process that wrote it."""


class Look(msgspec.Struct):
    """What a read saw: the newest version of each cell, in the order asked, at one moment of the namespace's clock."""

    at: int
    objects: list[Object]


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """A version that an operation read, and the operation that wrote it."""

    version: int
    operation: str = ""


class Written(msgspec.Struct, frozen=True):
    """What an operation writes to a cell. `expect`: the version that must be the newest, whatever the level."""

    value: Value | None = None
    links: tuple[str, ...] = ()
    expect: int | None = None


class Commit(msgspec.Struct, kw_only=True):
    operation: str
    """Its id (`weft.core.memory.operation_id`)."""
    namespace: str
    process: str
    level: Level = "L1"
    reads: dict[str, Seen] = {}
    """By cell: the whole read set, cells that are written too included."""
    listed: dict[str, list[str]] = {}
    """What began with this (`namespace/prefix`) -> the cells that there were, by name."""
    writes: dict[str, Written] = {}
    payloads: dict[bytes, bytes] = {}
    """Contents of large values, by hash."""
    now: float = 0.0


class Verdict(msgspec.Struct):
    """The answer to a commit. `at`: its time by the namespace's clock; 0: it was refused, and nothing was done."""

    at: int = 0
    versions: dict[str, int] = {}
    """Cell -> the version that it wrote."""
    stale: list[str] = []
    """Cells that others have written since they were read."""
    dead: list[str] = []
    """Operations that it builds on and that were retracted."""
    held: bool = False
    """Another operation holds a cell that it writes: ask again, soon."""


class Hold(msgspec.Struct, kw_only=True):
    """Until when (seconds since the epoch) an operation keeps others from writing these cells."""

    operation: str
    namespace: str
    cells: list[str]
    until: float
    seq: int = 0
    """Its place in the line, assigned by the store."""


class Operation(msgspec.Struct, kw_only=True):
    """A committed operation."""

    id: str
    namespace: str
    process: str
    level: Level
    at: int
    state: State = "live"
    tainted_at: int = 0
    """The namespace's clock when it was tainted; 0: it never was."""
    retracted_at: int = 0
    """The same of its retraction."""


class Retraction(msgspec.Struct):
    """What a retraction did: `operations` are retracted with it, itself first; `restored`: cell -> its new version."""

    at: int
    operations: list[str] = []
    restored: dict[str, int] = {}


class Past(msgspec.Struct, kw_only=True):
    """What happened in a namespace while its clock went from `after` to `at`: whoever has all before it can take it."""

    namespace: str
    after: int
    at: int
    operations: list[Operation] = []
    """Committed, tainted or retracted in that time, as they were at its end, in the order of their commits."""
    dependencies: list[tuple[str, str]] = []
    """(operation, one that wrote what it read), of those that were committed in it."""
    objects: list[Object] = []
    """Written in it, by cell and version; without those that were pruned."""


class Space(msgspec.Struct, frozen=True):
    """A namespace. `cells`: how many there are that are not deleted."""

    namespace: str
    at: int
    cells: int


class Held(msgspec.Struct):
    """All of a store that some commits have to do with, read under the locks; `decide` brings it up to date."""

    clocks: dict[str, int]
    newest: dict[str, Object]
    """By cell; cells that were never written are not there."""
    operations: dict[str, Operation]
    """Those of the commits themselves that are known already, and the producers of what was read."""
    versions: dict[str, dict[str, int]] = {}
    """Of the commits that are known already: cell -> version."""
    holds: list[Hold] = []
    """On these namespaces, those that are not over, first come first."""
    listed: dict[str, set[str]] = {}
    """What began with each prefix that was listed -> the cells that there are."""


class Applied(msgspec.Struct):
    """What `decide` wants written."""

    objects: list[Object] = []
    operations: list[Operation] = []
    dependencies: list[tuple[str, str]] = []
    """(operation, one that wrote what it read)"""
    payloads: dict[bytes, bytes] = {}


def is_listed(cell: str) -> bool:
    """Whether a listing names it: tools are listed apart."""
    return not cell.partition("/")[2].startswith(TOOLS)


def namespace_of(cell: str) -> str:
    return cell.partition("/")[0]


def private_to(namespace: str) -> str | None:
    """The process that alone has this namespace; None if it is shared."""
    return namespace.partition("@")[2] or None


def decide(commits: Sequence[Commit], held: Held) -> tuple[list[Verdict], Applied]:
    """The answer to each commit, in order, and what is to be written."""
    found, applied = [], Applied()
    for commit in commits:
        known = held.operations.get(commit.operation)
        if known is not None:
            found.append(Verdict(known.at, held.versions.get(commit.operation, {})))
            continue
        stale = sorted(set(_stale(commit, held)))
        dead = sorted(_dead(commit, held)) if commit.level >= "L2" else []
        if stale or dead:
            found.append(Verdict(stale=stale, dead=dead))
        elif _waits(commit, held):
            found.append(Verdict(held=True))
        else:
            found.append(_apply(commit, held, applied))
    return found, applied


def _waits(commit: Commit, held: Held) -> bool:
    """Whether one that came before, or holds while this one does not, keeps it from writing."""
    for hold in held.holds:
        if hold.operation == commit.operation:
            return False
        if not commit.writes.keys().isdisjoint(hold.cells):
            return True
    return False


def first(hold: Hold, line: Iterable[Hold]) -> bool:
    """Whether nobody before it in the line holds one of its cells."""
    return not any(one.seq < hold.seq and not set(one.cells).isdisjoint(hold.cells) for one in line)


def _stale(commit: Commit, held: Held) -> Iterable[str]:
    if commit.level >= "L1":
        yield from (cell for cell, seen in commit.reads.items() if not _is_newest(held, cell, seen))
        yield from (f"{prefix}*" for prefix, cells in commit.listed.items() if held.listed[prefix] != {*cells})
    for cell, write in commit.writes.items():
        if write.expect is not None and write.expect != _version(held, cell):
            yield cell


def _is_newest(held: Held, cell: str, seen: Seen) -> bool:
    """Who wrote it counts too: a run that moved to another store may meet another version of the same number there."""
    newest = held.newest.get(cell)
    if newest is None or newest.version != seen.version:
        return newest is None and seen.version == 0
    return not seen.operation or newest.operation == seen.operation


def _dead(commit: Commit, held: Held) -> set[str]:
    producers = {seen.operation for seen in commit.reads.values() if seen.operation}
    states = {id: held.operations[id].state for id in producers if id in held.operations}
    return {id for id, state in states.items() if state != "live"}


def _apply(commit: Commit, held: Held, applied: Applied) -> Verdict:
    at = held.clocks[commit.namespace] = held.clocks.get(commit.namespace, 0) + 1
    versions: dict[str, int] = {}
    for cell, write in commit.writes.items():
        made = Object(
            cell=cell, version=_version(held, cell) + 1, at=at, operation=commit.operation, value=write.value,
            links=write.links, updated=commit.now, by=commit.process,
        )  # fmt: skip
        held.newest[cell] = made
        for prefix, cells in held.listed.items():
            if cell.startswith(prefix) and is_listed(cell):
                (cells.discard if write.value is None else cells.add)(cell)
        versions[cell] = made.version
        applied.objects.append(made)
    producers = sorted({seen.operation for seen in commit.reads.values()} - {"", commit.operation})
    clean = all(held.operations[id].state == "live" for id in producers if id in held.operations)
    operation = Operation(
        id=commit.operation, namespace=commit.namespace, process=commit.process, level=commit.level, at=at,
        state="live" if clean else "tainted", tainted_at=0 if clean else at,
    )  # fmt: skip
    held.operations[operation.id] = operation
    held.versions[operation.id] = versions
    applied.operations.append(operation)
    applied.dependencies += [(operation.id, id) for id in producers]
    applied.payloads |= commit.payloads
    return Verdict(at, versions)


def _version(held: Held, cell: str) -> int:
    newest = held.newest.get(cell)
    return 0 if newest is None else newest.version


# --- retraction ---------------------------------------------------------------------------------------------------


class Built(msgspec.Struct):
    """One operation that builds, directly or not, on a retracted one. `on`: on which of these directly."""

    operation: Operation
    on: list[str]


def cascade(retracted: str, level: Level, built: Mapping[str, Built]) -> tuple[list[str], list[str]]:
    """Which operations go with a retracted one, itself first, and which stay and are tainted; without those that are
    retracted already.

    From L2 on all that builds on it goes. Below, only what was promised that: an operation at L2 or above, and what
    lies between.
    """
    there = {id: one for id, one in built.items() if one.operation.state != "retracted"}
    if level >= "L2":
        return [retracted, *there], []
    gone: set[str] = set()
    todo = [id for id, one in there.items() if one.operation.level >= "L2"]
    while todo:
        id = todo.pop()
        if id in there and id not in gone:
            gone.add(id)
            todo += there[id].on
    return [retracted, *(id for id in there if id in gone)], [id for id in there if id not in gone]


def restored(cell: str, newest: Object, live: Object | None, at: int, now: float) -> Object:
    """The version that takes the place of a retracted one: the newest that a live operation wrote, or none."""
    if live is None:
        return Object(cell=cell, version=newest.version + 1, at=at, updated=now)
    return Object(
        cell=cell, version=newest.version + 1, at=at, operation=live.operation, value=live.value, links=live.links,
        updated=now, by=live.by,
    )  # fmt: skip


def as_was(one: Operation, at: int) -> Operation:
    """The operation as it was when its namespace's clock was `at`."""
    tainted_at = one.tainted_at if one.tainted_at <= at else 0
    retracted_at = one.retracted_at if one.retracted_at <= at else 0
    state: State = "retracted" if retracted_at else "tainted" if tainted_at else "live"
    return replace(one, state=state, tainted_at=tainted_at, retracted_at=retracted_at)


def check_keep(keep: int) -> None:
    """Raises BadInput unless so many versions of each cell can be kept."""
    if not isinstance(keep, int) or keep < 1:
        raise BadInput(f"prune(keep={keep!r}): keep at least 1 version of each cell")


def unneeded(gone: Iterable[Object], left: Iterable[Object]) -> list[tuple[str, bytes]]:
    """(who needed it, content hash) of the large values that cells no longer hold in any version."""
    return sorted({*blobs(gone)} - {*blobs(left)})


def span(namespace: str, prefix: str, after: str) -> tuple[str, str, str]:
    """Of the cells of a namespace that begin with `prefix` and come after `after` (names in it): the least that there
    can be, the one before, and one that is larger than all."""
    start = f"{namespace}/{prefix}"
    return start, f"{namespace}/{after}" if after else "", start + chr(0x10FFFF)


def reference(cell: str) -> str:
    """Who needs a large value of this cell, beside the processes (`Batch.references`)."""
    return f"memory:{cell}"


def blobs(objects: Iterable[Object]) -> list[tuple[str, bytes]]:
    """(who needs it, content hash) of the large values."""
    return [(reference(one.cell), one.value.hash) for one in objects if isinstance(one.value, Blob)]


# --- as rows ----------------------------------------------------------------------------------------------------------

FIELDS = 'cell, version, at, operation, value, links, updated, "by"'
OPERATION = "id, namespace, process, level, at, state, tainted_at, retracted_at"


def made(values: Any) -> Object:
    """The version in a row of `FIELDS`."""
    cell, version, at, operation, value, links, updated, by = values
    return Object(
        cell=cell, version=version, at=at, operation=operation, value=None if value is None else from_column(value),
        links=tuple(json.loads(links)), updated=updated, by=by,
    )  # fmt: skip


def as_row(one: Object) -> tuple[Any, ...]:
    """The row of `FIELDS` that holds a version."""
    value = None if one.value is None else to_column(one.value)
    return one.cell, one.version, one.at, one.operation, value, json.dumps(one.links), one.updated, one.by


def operation(values: Any) -> Operation:
    """The operation in a row of `OPERATION`."""
    return Operation(**dict(zip(Operation.__struct_fields__, values, strict=True)))


def look(rows: Sequence[Any]) -> Look:
    """Of rows of the clock, the cell that was asked for, and `FIELDS`, which are null where nothing ever was."""
    found = [Object(cell=row[1]) if row[2] is None else made(tuple(row)[2:]) for row in rows]
    return Look(rows[0][0] if rows else 0, found)
