"""Shared memory in the file: what the rule of `weft.store.memory` decides, in transactions of the caller."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from msgspec.structs import astuple

from weft.core.memory import Level
from weft.store.memory import (
    FIELDS,
    OPERATION,
    Applied,
    Built,
    Commit,
    Held,
    Hold,
    Look,
    Object,
    Operation,
    Past,
    Retraction,
    Space,
    Verdict,
    as_row,
    as_was,
    blobs,
    cascade,
    decide,
    first,
    is_listed,
    look,
    made,
    operation,
    restored,
    span,
)
from weft.store.sqlite.rights import Rights
from weft.store.sqlite.statements import IDS

NAMESPACE = "substr(cell, 1, instr(cell, '/') - 1)"
"""SQL: of an object."""
_O = ", ".join(f"o.{name}" for name in FIELDS.split(", "))
_CLOCK = "coalesce((SELECT at FROM memories WHERE namespace = ?), 0)"
LOOK = f"""SELECT {_CLOCK}, c.value, {_O} FROM json_each(?) AS c LEFT JOIN objects AS o ON o.cell = c.value
    AND o.version = (SELECT max(version) FROM objects WHERE cell = c.value) ORDER BY c.key"""
UNDER = f"""SELECT {_CLOCK}, {FIELDS} FROM (
        SELECT {FIELDS.replace("version", "max(version) AS version")} FROM objects
        WHERE cell >= ? AND cell > ? AND cell < ? GROUP BY cell) WHERE value IS NOT NULL ORDER BY cell LIMIT ?"""
ALL = 2**31
VERSIONS = f"SELECT {FIELDS} FROM objects WHERE cell = ? ORDER BY version DESC LIMIT ?"
OPERATIONS = f"SELECT {OPERATION} FROM operations WHERE id IN {IDS}"
WRITTEN = "SELECT DISTINCT cell FROM objects WHERE operation = ? ORDER BY cell"
CLOCK = f"SELECT {_CLOCK}"
_BUILT = f"""WITH RECURSIVE built (id) AS (
        SELECT operation FROM dependencies WHERE predecessor = ?
        UNION SELECT d.operation FROM built JOIN dependencies d ON d.predecessor = built.id)
    SELECT {", ".join(f"o.{name}" for name in OPERATION.split(", "))}, d.predecessor FROM built
        JOIN operations o ON o.id = built.id JOIN dependencies d ON d.operation = o.id ORDER BY o.at"""
_SPOILT = f"""SELECT {_O} FROM objects AS o WHERE o.cell IN (SELECT cell FROM objects WHERE operation IN {IDS})
    AND o.version = (SELECT max(version) FROM objects WHERE cell = o.cell) AND o.operation IN {IDS}"""
_LIVE = f"""SELECT {_O} FROM objects AS o WHERE o.cell = ? AND (o.operation = ''
        OR NOT EXISTS (SELECT 1 FROM operations WHERE id = o.operation AND state = 'retracted'))
    ORDER BY o.version DESC LIMIT 1"""


CLOCKS = f"""SELECT namespace, at FROM memories WHERE instr(namespace, '@') = 0
    UNION ALL SELECT namespace, at FROM memories WHERE instr(namespace, '@') > 0
        AND substr(namespace, instr(namespace, '@') + 1) IN {IDS} ORDER BY namespace"""
SPACES = f"""SELECT namespace, at, (SELECT count(*) FROM (
        SELECT value, max(version) FROM objects WHERE {NAMESPACE} = namespace GROUP BY cell) WHERE value IS NOT NULL)
    FROM memories ORDER BY namespace"""
CHANGED = " UNION ".join(
    f"SELECT id FROM operations WHERE namespace = ? AND {clock} > ? AND {clock} <= ?"
    for clock in ("at", "tainted_at", "retracted_at")
)
BUILT_ON = f"SELECT operation, predecessor FROM dependencies WHERE operation IN {IDS} ORDER BY operation, predecessor"
OBJECTS = f"SELECT {FIELDS} FROM objects WHERE {NAMESPACE} = ? AND at > ? AND at <= ? ORDER BY cell, version"


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

    async def clocks(self, processes: Sequence[str] | None = None) -> dict[str, int]:
        if processes is None:
            return dict(self._read("SELECT namespace, at FROM memories ORDER BY namespace"))
        return dict(self._read(CLOCKS, json.dumps(list(processes))))

    async def spaces(self) -> list[Space]:
        return [Space(*values) for values in self._read(SPACES)]

    async def recent(self, namespace: str, limit: int = 1000) -> list[Operation]:
        query = f"SELECT {OPERATION} FROM operations WHERE namespace = ? ORDER BY at DESC LIMIT ?"
        return [operation(values) for values in self._read(query, namespace, limit)]

    async def past(self, namespace: str, after: int, at: int) -> Past:
        given = namespace, after, at
        ids = [id for (id,) in self._read(CHANGED, *given * 3)]
        every = [as_was(one, at) for one in await self.operations(ids)]
        return Past(
            namespace=namespace, after=after, at=at, operations=sorted(every, key=lambda one: one.at),
            dependencies=self._read(BUILT_ON, json.dumps([one.id for one in every if one.at > after])),
            objects=[made(values) for values in self._read(OBJECTS, *given)],
        )  # fmt: skip


def operate(connection: sqlite3.Connection, commits: Sequence[Commit], now: float) -> list[Verdict]:
    """Decide these commits in their order, and apply those that are let in."""
    held = _held(connection, commits, now)
    verdicts, applied = decide(commits, held)
    if applied.operations:
        write(connection, applied)
        set_clocks(connection, held.clocks)
    if held.holds:  # that was let in before and asked for a hold again since it does not know that
        let_go(connection, [one.operation for one, verdict in zip(commits, verdicts, strict=True) if verdict.at])
    return verdicts


def hold(connection: sqlite3.Connection, hold: Hold, now: float) -> bool:
    if hold.until <= now:
        return True
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
    holds = _holds(connection, namespaces, now)
    listed = {prefix: _listed(connection, prefix) for commit in commits for prefix in commit.listed}
    return Held(clocks, newest, {one.id: one for one in found}, versions, holds, listed)


def _listed(connection: sqlite3.Connection, prefix: str) -> set[str]:
    namespace, _, rest = prefix.partition("/")
    rows = connection.execute(UNDER, (namespace, *span(namespace, rest, ""), ALL))
    return {row[1] for row in rows if is_listed(row[1])}


def _versions(connection: sqlite3.Connection, known: Operation) -> dict[str, int]:
    query = "SELECT cell, version FROM objects WHERE operation = ? AND at = ?"
    return dict(connection.execute(query, (known.id, known.at)))


def write(connection: sqlite3.Connection, applied: Applied) -> None:
    connection.executemany("INSERT INTO payloads VALUES (?, ?) ON CONFLICT DO NOTHING", applied.payloads.items())
    connection.executemany(
        "INSERT INTO payload_references VALUES (?, ?) ON CONFLICT DO NOTHING", blobs(applied.objects)
    )
    connection.executemany(
        f"INSERT INTO objects ({FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [as_row(one) for one in applied.objects]
    )
    connection.executemany(
        f"""INSERT INTO operations ({OPERATION}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE
            SET state = excluded.state, tainted_at = excluded.tainted_at, retracted_at = excluded.retracted_at""",
        [astuple(one) for one in applied.operations],
    )
    connection.executemany(
        "INSERT INTO dependencies (operation, predecessor) VALUES (?, ?) ON CONFLICT DO NOTHING", applied.dependencies
    )


def set_clocks(connection: sqlite3.Connection, clocks: dict[str, int]) -> None:
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
        f"UPDATE operations SET state = 'tainted', tainted_at = ? WHERE id IN {IDS} AND state = 'live'",
        (at, json.dumps(tainted)),
    )
    spoilt = [made(row) for row in connection.execute(_SPOILT, (json.dumps(gone), json.dumps(gone)))]
    back = [restored(one.cell, one, _live(connection, one.cell), at, now) for one in spoilt]
    write(connection, Applied(objects=back))
    set_clocks(connection, {one.namespace: at})
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
    query = f"SELECT cell, version FROM objects WHERE {NAMESPACE} = ? AND at = ?"
    return Retraction(one.retracted_at, gone, dict(connection.execute(query, (one.namespace, one.retracted_at))))
