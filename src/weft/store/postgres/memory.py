"""Shared memory on the server: what the rule of `weft.store.memory` decides, under locks on the namespaces' clocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

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
from weft.store.postgres.part import columns
from weft.store.postgres.rights import Rights

if TYPE_CHECKING:
    import asyncpg

NAMESPACE = "split_part(cell, '/', 1)"
"""SQL: of an object."""
_O = ", ".join(f"o.{name}" for name in FIELDS.split(", "))
_NEWEST = f"""unnest({{}}::text[]) WITH ORDINALITY AS c (asked, place) LEFT JOIN LATERAL (
    SELECT {FIELDS} FROM weft.objects WHERE cell = c.asked ORDER BY version DESC LIMIT 1) AS o ON true"""
CLOCK = "SELECT coalesce((SELECT at FROM weft.memories WHERE namespace = $1), 0)"
LOOK = f"SELECT ({CLOCK}) AS clock, asked, {_O} FROM {_NEWEST.format('$2')} ORDER BY place"
UNDER = f"""SELECT ({CLOCK}) AS clock, {FIELDS} FROM (
        SELECT DISTINCT ON (cell) {FIELDS} FROM weft.objects WHERE cell >= $2 AND cell > $3 AND cell < $4
        ORDER BY cell, version DESC) AS o WHERE value IS NOT NULL ORDER BY cell LIMIT $5"""
ALL = 2**31
VERSIONS = f"SELECT {FIELDS} FROM weft.objects WHERE cell = $1 ORDER BY version DESC LIMIT $2"
OPERATIONS = f"SELECT {OPERATION} FROM weft.operations WHERE id = ANY($1::text[])"
WRITTEN = "SELECT DISTINCT cell FROM weft.objects WHERE operation = $1 ORDER BY cell"
_LOCK = """INSERT INTO weft.memories (namespace, at) SELECT n, 0 FROM unnest($1::text[]) AS n ORDER BY n
    ON CONFLICT (namespace) DO UPDATE SET at = memories.at RETURNING namespace, at"""
_KNOWN = """SELECT operation, cell, version FROM weft.objects JOIN weft.operations ON id = operation
    WHERE operation = ANY($1::text[]) AND objects.at = operations.at"""
_WRITE = f"""WITH
    kept AS (INSERT INTO weft.payloads (hash, data) SELECT * FROM unnest($1::bytea[], $2::bytea[])
        ON CONFLICT DO NOTHING),
    needed AS (INSERT INTO weft.payload_references (process, hash) SELECT * FROM unnest($3::text[], $4::bytea[])
        ON CONFLICT DO NOTHING),
    objects AS (INSERT INTO weft.objects ({FIELDS}) SELECT * FROM unnest($5::text[], $6::bigint[], $7::bigint[],
        $8::text[], $9::bytea[], $10::text[], $11::float8[], $12::text[])),
    built AS (INSERT INTO weft.dependencies (operation, predecessor) SELECT * FROM unnest($13::text[], $14::text[])
        ON CONFLICT DO NOTHING),
    clocks AS (UPDATE weft.memories m SET at = c.at FROM unnest($15::text[], $16::bigint[]) AS c (namespace, at)
        WHERE m.namespace = c.namespace)
    INSERT INTO weft.operations ({OPERATION}) SELECT * FROM unnest($17::text[], $18::text[], $19::text[],
        $20::text[], $21::bigint[], $22::text[], $23::bigint[], $24::bigint[]) ON CONFLICT (id) DO UPDATE
        SET state = excluded.state, tainted_at = excluded.tainted_at, retracted_at = excluded.retracted_at"""
_BUILT = f"""WITH RECURSIVE built (id) AS (
        SELECT operation FROM weft.dependencies WHERE predecessor = $1
        UNION SELECT d.operation FROM built JOIN weft.dependencies d ON d.predecessor = built.id)
    SELECT {", ".join(f"o.{name}" for name in OPERATION.split(", "))}, d.predecessor FROM built
        JOIN weft.operations o ON o.id = built.id JOIN weft.dependencies d ON d.operation = o.id ORDER BY o.at"""
_SPOILT = f"""SELECT {_O} FROM (SELECT DISTINCT cell AS asked FROM weft.objects WHERE operation = ANY($1::text[])) AS c
    CROSS JOIN LATERAL (SELECT {FIELDS} FROM weft.objects WHERE cell = c.asked ORDER BY version DESC LIMIT 1) AS o
    WHERE o.operation = ANY($1::text[])"""
_LIVE = f"""SELECT {_O} FROM weft.objects AS o WHERE o.cell = $1 AND (o.operation = ''
        OR NOT EXISTS (SELECT FROM weft.operations WHERE id = o.operation AND state = 'retracted'))
    ORDER BY o.version DESC LIMIT 1"""


CLOCKS = """SELECT namespace, at FROM weft.memories
    WHERE at > 0 AND ($1::text[] IS NULL OR strpos(namespace, '@') = 0 OR split_part(namespace, '@', 2) = ANY($1))
    ORDER BY namespace"""
SPACES = f"""SELECT namespace, at, (SELECT count(*) FROM (
        SELECT DISTINCT ON (cell) value FROM weft.objects WHERE {NAMESPACE} = namespace
        ORDER BY cell, version DESC) AS newest WHERE value IS NOT NULL)
    FROM weft.memories WHERE at > 0 ORDER BY namespace"""
CHANGED = " UNION ".join(
    f"SELECT {OPERATION} FROM weft.operations WHERE namespace = $1 AND {clock} > $2 AND {clock} <= $3"
    for clock in ("at", "tainted_at", "retracted_at")
)
BUILT_ON = """SELECT operation, predecessor FROM weft.dependencies WHERE operation = ANY($1::text[])
    ORDER BY operation COLLATE "C", predecessor COLLATE "C\""""
OBJECTS = f"""SELECT {FIELDS} FROM weft.objects WHERE {NAMESPACE} = $1 AND at > $2 AND at <= $3
    ORDER BY cell, version"""


class Recall(Rights):
    """What the shared store can be asked about shared memory."""

    async def look(self, namespace: str, cells: Sequence[str]) -> Look:
        if not cells:
            return Look((await self._fetch(CLOCK, namespace))[0][0], [])
        return look(await self._fetch(LOOK, namespace, list(cells)))

    async def under(self, namespace: str, prefix: str = "", after: str = "", limit: int = 1000) -> Look:
        found = await self._fetch(UNDER, namespace, *span(namespace, prefix, after), limit)
        at = found[0][0] if found else (await self._fetch(CLOCK, namespace))[0][0]
        return Look(at, [made(tuple(row)[1:]) for row in found])

    async def versions(self, cell: str, limit: int = 1000) -> list[Object]:
        return [made(row) for row in await self._fetch(VERSIONS, cell, limit)]

    async def operations(self, ids: Sequence[str]) -> list[Operation]:
        return [operation(row) for row in await self._fetch(OPERATIONS, list(ids))]

    async def written(self, operation: str) -> list[str]:
        return [row[0] for row in await self._fetch(WRITTEN, operation)]

    async def clocks(self, processes: Sequence[str] | None = None) -> dict[str, int]:
        return dict(await self._fetch(CLOCKS, None if processes is None else list(processes)))

    async def spaces(self) -> list[Space]:
        return [Space(*row) for row in await self._fetch(SPACES)]

    async def recent(self, namespace: str, limit: int = 1000) -> list[Operation]:
        query = f"SELECT {OPERATION} FROM weft.operations WHERE namespace = $1 ORDER BY at DESC LIMIT $2"
        return [operation(row) for row in await self._fetch(query, namespace, limit)]

    async def past(self, namespace: str, after: int, at: int) -> Past:
        given = namespace, after, at
        every = [as_was(operation(row), at) for row in await self._fetch(CHANGED, *given)]
        new = [one.id for one in every if one.at > after]
        return Past(
            namespace=namespace, after=after, at=at, operations=sorted(every, key=lambda one: one.at),
            dependencies=[(row[0], row[1]) for row in await self._fetch(BUILT_ON, new)],
            objects=[made(row) for row in await self._fetch(OBJECTS, *given)],
        )  # fmt: skip


async def operate(connection: asyncpg.Connection, commits: Sequence[Commit], now: float) -> list[Verdict]:
    """Decide these commits in their order, and apply those that are let in. In a transaction of the caller."""
    held = await _held(connection, commits, now)
    verdicts, applied = decide(commits, held)
    if applied.operations:
        await write(connection, applied, held.clocks)
    if held.holds:  # that was let in before and asked for a hold again since it does not know that
        await let_go(connection, [one.operation for one, verdict in zip(commits, verdicts, strict=True) if verdict.at])
    return verdicts


async def hold(connection: asyncpg.Connection, hold: Hold, now: float) -> bool:
    """In a transaction of the caller."""
    if hold.until <= now:
        return True
    await lock(connection, [hold.namespace])
    await connection.execute("DELETE FROM weft.holds WHERE namespace = $1 AND until <= $2", hold.namespace, now)
    query = "INSERT INTO weft.holds (operation, namespace, cells, until) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
    await connection.execute(query, hold.operation, hold.namespace, hold.cells, hold.until)
    line = await _holds(connection, [hold.namespace], now)
    return first(next(one for one in line if one.operation == hold.operation), line)


async def lock(connection: asyncpg.Connection, namespaces: Sequence[str]) -> dict[str, int]:
    """The clocks of these namespaces, which nobody else moves until the end of the transaction. Take this lock before
    that of the payloads."""
    return {row[0]: row[1] for row in await connection.fetch(_LOCK, sorted(namespaces))}


async def let_go(connection: asyncpg.Connection, operations: Sequence[str]) -> None:
    await connection.execute("DELETE FROM weft.holds WHERE operation = ANY($1::text[])", list(operations))


async def _holds(connection: asyncpg.Connection, namespaces: Sequence[str], now: float) -> list[Hold]:
    query = """SELECT operation, namespace, cells, until, seq FROM weft.holds
        WHERE namespace = ANY($1::text[]) AND until > $2 ORDER BY seq"""
    return [Hold(**dict(row)) for row in await connection.fetch(query, list(namespaces), now)]


async def _held(connection: asyncpg.Connection, commits: Sequence[Commit], now: float) -> Held:
    namespaces = sorted({commit.namespace for commit in commits})
    clocks = await lock(connection, namespaces)
    cells = sorted({cell for commit in commits for cell in (*commit.reads, *commit.writes)})
    rows = await connection.fetch(f"SELECT {_O} FROM {_NEWEST.format('$1')} WHERE o.cell IS NOT NULL", cells)
    wanted = {commit.operation for commit in commits}
    wanted |= {one.operation for commit in commits for one in commit.reads.values() if one.operation}
    found = [operation(row) for row in await connection.fetch(OPERATIONS, sorted(wanted))]
    known = [one.id for one in found if one.id in {commit.operation for commit in commits}]
    versions: dict[str, dict[str, int]] = {}
    for id, cell, version in await connection.fetch(_KNOWN, known) if known else ():
        versions.setdefault(id, {})[cell] = version
    newest = {row[0]: made(row) for row in rows}
    holds = await _holds(connection, namespaces, now)
    listed = {prefix: await _listed(connection, prefix) for commit in commits for prefix in commit.listed}
    return Held(clocks, newest, {one.id: one for one in found}, versions, holds, listed)


async def _listed(connection: asyncpg.Connection, prefix: str) -> set[str]:
    namespace, _, rest = prefix.partition("/")
    rows = await connection.fetch(UNDER, namespace, *span(namespace, rest, ""), ALL)
    return {row[1] for row in rows if is_listed(row[1])}


async def write(connection: asyncpg.Connection, applied: Applied, clocks: dict[str, int]) -> None:
    await connection.execute(
        _WRITE,
        *columns(list(applied.payloads.items()), 2),
        *columns(blobs(applied.objects), 2),
        *columns([as_row(one) for one in applied.objects], 8),
        *columns(applied.dependencies, 2),
        *columns(list(clocks.items()), 2),
        *columns([astuple(one) for one in applied.operations], 8),
    )


async def retract(connection: asyncpg.Connection, id: str, level: Level, now: float) -> Retraction | None:
    """None: there is no such operation. In a transaction of the caller."""
    found = await connection.fetchrow(OPERATIONS, [id])
    if found is None:
        return None
    namespace = operation(found).namespace
    clock = (await lock(connection, [namespace]))[namespace]
    one = operation(await connection.fetchrow(OPERATIONS, [id]))  # as it is now that nobody else can change it
    if one.state == "retracted":
        return await _done_before(connection, one)
    at = clock + 1
    gone, tainted = cascade(id, level, await _built(connection, id))
    query = "UPDATE weft.operations SET state = $1, {} = $2 WHERE id = ANY($3::text[]) AND state = ANY($4)"
    await connection.execute(query.format("retracted_at"), "retracted", at, gone, ["live", "tainted"])
    await connection.execute(query.format("tainted_at"), "tainted", at, tainted, ["live"])
    back = []
    for row in await connection.fetch(_SPOILT, gone):
        live = await connection.fetchrow(_LIVE, row[0])
        back.append(restored(row[0], made(row), None if live is None else made(live), at, now))
    await write(connection, Applied(objects=back), {namespace: at})
    return Retraction(at, gone, {each.cell: each.version for each in back})


async def _built(connection: asyncpg.Connection, id: str) -> dict[str, Built]:
    found: dict[str, Built] = {}
    for row in await connection.fetch(_BUILT, id):
        *values, predecessor = row
        found.setdefault(values[0], Built(operation(values), [])).on.append(predecessor)
    return found


async def _done_before(connection: asyncpg.Connection, one: Operation) -> Retraction:
    query = "SELECT id FROM weft.operations WHERE namespace = $1 AND retracted_at = $2 ORDER BY id <> $3, at"
    gone = [row[0] for row in await connection.fetch(query, one.namespace, one.retracted_at, one.id)]
    query = f"SELECT cell, version FROM weft.objects WHERE {NAMESPACE} = $1 AND at = $2"
    cells = await connection.fetch(query, one.namespace, one.retracted_at)
    return Retraction(one.retracted_at, gone, {row[0]: row[1] for row in cells})
