"""Shared memory in the file: what the rule of `weft.store.memory` decides, in transactions of the caller."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from weft.core.memory import Level
from weft.core.record import from_column, to_column
from weft.store.memory import (
    Applied,
    Built,
    Commit,
    Held,
    Hold,
    Look,
    Object,
    Operation,
    Retraction,
    Verdict,
    blobs,
    cascade,
    decide,
    first,
    restored,
    span,
)
from weft.store.sqlite.rights import Rights
from weft.store.sqlite.statements import IDS

_FIELDS = 'cell, version, at, operation, value, links, updated, "by"'
_O = ", ".join(f"o.{name}" for name in _FIELDS.split(", "))
_OPERATION = "id, namespace, process, level, at, state, retracted_at"
_CLOCK = "coalesce((SELECT at FROM memories WHERE namespace = ?), 0)"
LOOK = f"""SELECT {_CLOCK}, c.value, {_O} FROM json_each(?) AS c LEFT JOIN objects AS o ON o.cell = c.value
    AND o.version = (SELECT max(version) FROM objects WHERE cell = c.value) ORDER BY c.key"""
UNDER = f"""SELECT {_CLOCK}, {_FIELDS} FROM (
        SELECT {_FIELDS.replace("version", "max(version) AS version")} FROM objects
        WHERE cell >= ? AND cell > ? AND cell < ? GROUP BY cell) WHERE value IS NOT NULL ORDER BY cell LIMIT ?"""
VERSIONS = f"SELECT {_FIELDS} FROM objects WHERE cell = ? ORDER BY version DESC LIMIT ?"
OPERATIONS = f"SELECT {_OPERATION} FROM operations WHERE id IN {IDS}"
WRITTEN = """SELECT cell FROM objects JOIN operations ON id = operation
    WHERE operation = ? AND objects.at = operations.at ORDER BY cell"""
NAMESPACES = "SELECT namespace FROM memories ORDER BY namespace"
CLOCK = f"SELECT {_CLOCK}"
_BUILT = f"""WITH RECURSIVE built (id) AS (
        SELECT operation FROM dependencies WHERE predecessor = ?
        UNION SELECT d.operation FROM built JOIN dependencies d ON d.predecessor = built.id)
    SELECT {", ".join(f"o.{name}" for name in _OPERATION.split(", "))}, d.predecessor FROM built
        JOIN operations o ON o.id = built.id JOIN dependencies d ON d.operation = o.id ORDER BY o.at"""
_SPOILT = f"""SELECT {_O} FROM objects AS o WHERE o.cell IN (SELECT cell FROM objects WHERE operation IN {IDS})
    AND o.version = (SELECT max(version) FROM objects WHERE cell = o.cell) AND o.operation IN {IDS}"""
_LIVE = f"""SELECT {_O} FROM objects AS o WHERE o.cell = ? AND (o.operation = ''
        OR NOT EXISTS (SELECT 1 FROM operations WHERE id = o.operation AND state = 'retracted'))
    ORDER BY o.version DESC LIMIT 1"""


def made(values: Sequence[Any]) -> Object:
    cell, version, at, operation, value, links, updated, by = values
    return Object(
        cell=cell, version=version, at=at, operation=operation, value=None if value is None else from_column(value),
        links=tuple(json.loads(links)), updated=updated, by=by,
    )  # fmt: skip


def operation(values: Sequence[Any]) -> Operation:
    return Operation(**dict(zip(Operation.__struct_fields__, values, strict=True)))


def look(rows: Sequence[Sequence[Any]]) -> Look:
    """What `LOOK` found."""
    found = [Object(cell=row[1]) if row[2] is None else made(row[2:]) for row in rows]
    return Look(rows[0][0] if rows else 0, found)


class Recall(Rights):
    """What the embedded store can be asked about shared memory."""

    async def look(self, namespace: str, cells: Sequence[str]) -> Look:
        if not cells:
            return Look(self._read(CLOCK, namespace)[0][0], [])
        return look(self._read(LOOK, namespace, json.dumps(list(cells))))

    async def under(self, namespace: str, prefix: str = "", after: str = "", limit: int = 1000) -> Look:
        found = self._read(UNDER, namespace, *span(namespace, prefix, after), limit)
        at = found[0][0] if found else self._read(CLOCK, namespace)[0][0]
        return Look(at, [made(row[1:]) for row in found])

    async def versions(self, cell: str, limit: int = 1000) -> list[Object]:
        return [made(row) for row in self._read(VERSIONS, cell, limit)]

    async def operations(self, ids: Sequence[str]) -> list[Operation]:
        return [operation(row) for row in self._read(OPERATIONS, json.dumps(list(ids)))]

    async def written(self, operation: str) -> list[str]:
        return [cell for (cell,) in self._read(WRITTEN, operation)]

    async def namespaces(self) -> list[str]:
        return [name for (name,) in self._read(NAMESPACES)]


def operate(connection: sqlite3.Connection, commits: Sequence[Commit], now: float) -> list[Verdict]:
    """Decide these commits in their order, and apply those that are let in."""
    held = _held(connection, commits, now)
    verdicts, applied = decide(commits, held)
    if applied.operations:
        _write(connection, applied)
        _set_clocks(connection, held.clocks)
        if held.holds:
            let_go(connection, [one.id for one in applied.operations])
    return verdicts


def hold(connection: sqlite3.Connection, hold: Hold, now: float) -> bool:
    connection.execute("DELETE FROM holds WHERE until <= ?", (now,))
    connection.execute(
        "INSERT INTO holds (operation, namespace, cells, until) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (hold.operation, hold.namespace, json.dumps(hold.cells), hold.until),
    )
    line = _holds(connection, [hold.namespace], now)
    return first(next(one for one in line if one.operation == hold.operation), line)


def let_go(connection: sqlite3.Connection, operations: Sequence[str]) -> None:
    connection.execute(f"DELETE FROM holds WHERE operation IN {IDS}", (json.dumps(list(operations)),))


def _holds(connection: sqlite3.Connection, namespaces: Sequence[str], now: float) -> list[Hold]:
    query = f"SELECT operation, namespace, cells, until, seq FROM holds WHERE namespace IN {IDS} AND until > ?"
    rows = connection.execute(f"{query} ORDER BY seq", (json.dumps(namespaces), now))
    return [
        Hold(operation=operation, namespace=namespace, cells=json.loads(cells), until=until, seq=seq)
        for operation, namespace, cells, until, seq in rows
    ]


def _held(connection: sqlite3.Connection, commits: Sequence[Commit], now: float) -> Held:
    namespaces = sorted({commit.namespace for commit in commits})
    query = f"SELECT namespace, at FROM memories WHERE namespace IN {IDS}"
    clocks = dict(connection.execute(query, (json.dumps(namespaces),)))
    cells = sorted({cell for commit in commits for cell in (*commit.reads, *commit.writes)})
    rows = connection.execute(LOOK, ("", json.dumps(cells))).fetchall()
    newest = {row[1]: made(row[2:]) for row in rows if row[2] is not None}
    wanted = {commit.operation for commit in commits}
    wanted |= {one.operation for commit in commits for one in commit.reads.values() if one.operation}
    found = [operation(row) for row in connection.execute(OPERATIONS, (json.dumps(sorted(wanted)),))]
    known = [one for one in found if one.id in {commit.operation for commit in commits}]
    versions = {one.id: _versions(connection, one) for one in known}
    return Held(clocks, newest, {one.id: one for one in found}, versions, _holds(connection, namespaces, now))


def _versions(connection: sqlite3.Connection, known: Operation) -> dict[str, int]:
    query = "SELECT cell, version FROM objects WHERE operation = ? AND at = ?"
    return dict(connection.execute(query, (known.id, known.at)))


def _write(connection: sqlite3.Connection, applied: Applied) -> None:
    connection.executemany("INSERT INTO payloads VALUES (?, ?) ON CONFLICT DO NOTHING", applied.payloads.items())
    connection.executemany(
        "INSERT INTO payload_references VALUES (?, ?) ON CONFLICT DO NOTHING", blobs(applied.objects)
    )
    connection.executemany(
        f"INSERT INTO objects ({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [_row(one) for one in applied.objects]
    )
    connection.executemany(
        f"INSERT INTO operations ({_OPERATION}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [(o.id, o.namespace, o.process, o.level, o.at, o.state, o.retracted_at) for o in applied.operations],
    )
    connection.executemany(
        "INSERT INTO dependencies (operation, predecessor) VALUES (?, ?) ON CONFLICT DO NOTHING", applied.dependencies
    )


def _row(one: Object) -> tuple[Any, ...]:
    value = None if one.value is None else to_column(one.value)
    return one.cell, one.version, one.at, one.operation, value, json.dumps(one.links), one.updated, one.by


def _set_clocks(connection: sqlite3.Connection, clocks: dict[str, int]) -> None:
    query = "INSERT INTO memories VALUES (?, ?) ON CONFLICT (namespace) DO UPDATE SET at = max(at, excluded.at)"
    connection.executemany(query, clocks.items())


def retract(connection: sqlite3.Connection, id: str, level: Level, now: float) -> Retraction | None:
    """None: there is no such operation."""
    rows = connection.execute(OPERATIONS, (json.dumps([id]),)).fetchall()
    if not rows:
        return None
    one = operation(rows[0])
    if one.state == "retracted":
        return _done_before(connection, one)
    at = int(connection.execute(CLOCK, (one.namespace,)).fetchone()[0]) + 1
    gone, tainted = cascade(id, level, _built(connection, id))
    connection.execute(
        f"UPDATE operations SET state = 'retracted', retracted_at = ? WHERE id IN {IDS} AND state <> 'retracted'",
        (at, json.dumps(gone)),
    )
    connection.execute(
        f"UPDATE operations SET state = 'tainted' WHERE id IN {IDS} AND state = 'live'", (json.dumps(tainted),)
    )
    spoilt = [made(row) for row in connection.execute(_SPOILT, (json.dumps(gone), json.dumps(gone)))]
    back = [restored(one.cell, one, _live(connection, one.cell), at, now) for one in spoilt]
    _write(connection, Applied(objects=back))
    _set_clocks(connection, {one.namespace: at})
    return Retraction(at, gone, {each.cell: each.version for each in back})


def _built(connection: sqlite3.Connection, id: str) -> dict[str, Built]:
    found: dict[str, Built] = {}
    for *values, predecessor in connection.execute(_BUILT, (id,)):
        found.setdefault(values[0], Built(operation(values), [])).on.append(predecessor)
    return found


def _live(connection: sqlite3.Connection, cell: str) -> Object | None:
    found = connection.execute(_LIVE, (cell,)).fetchone()
    return None if found is None else made(found)


def _done_before(connection: sqlite3.Connection, one: Operation) -> Retraction:
    query = "SELECT id FROM operations WHERE namespace = ? AND retracted_at = ? ORDER BY id = ? DESC, at"
    gone = [id for (id,) in connection.execute(query, (one.namespace, one.retracted_at, one.id))]
    first, last = one.namespace + "/", one.namespace + "0"  # the character after "/"
    query = "SELECT cell, version FROM objects WHERE cell > ? AND cell < ? AND at = ?"
    return Retraction(one.retracted_at, gone, dict(connection.execute(query, (first, last, one.retracted_at))))
