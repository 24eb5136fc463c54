"""The journal's tables on a PostgreSQL server, how they come to be, and what the server's errors mean.

All lies in the schema `weft`. Migrations are only ever added to the list; each is a step from one number to the
next, made under a lock by whoever comes first. `weft.schema` says the number, and the oldest Weft that can work
with it: workers of several versions go on beside each other while that is not above their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from weft.core.errors import StoreCorrupt, StoreError, StoreFull, StoreReadOnly, StoreTooNew, StoreUnreachable

if TYPE_CHECKING:
    import asyncpg

VERSION = 5
LOCK = 0x57454654  # "WEFT": the advisory lock of migrations; queues' locks have two keys and so never meet it

IS_CLAIMABLE = "state IN ('running', 'waiting', 'queued')"

MIGRATIONS = (
    f"""
    CREATE TABLE weft.owners (
        owner text PRIMARY KEY, expires timestamptz NOT NULL, commits bigint NOT NULL, programs text[] NOT NULL,
        pid integer NOT NULL, host text NOT NULL, seen timestamptz NOT NULL);

    CREATE TABLE weft.processes (
        id text PRIMARY KEY, workflow text NOT NULL, source text NOT NULL, version text NOT NULL, state text NOT NULL,
        parent text, forked text, key text UNIQUE, queue text, priority integer NOT NULL, tenant text NOT NULL,
        created double precision NOT NULL, started double precision NOT NULL, updated double precision NOT NULL,
        wake_at double precision, owner text, strikes integer NOT NULL, length bigint NOT NULL,
        input bytea NOT NULL, result bytea, error bytea, seq bigint GENERATED ALWAYS AS IDENTITY)
        WITH (fillfactor = 80);
    CREATE INDEX processes_seq ON weft.processes (seq);
    CREATE INDEX processes_unfinished ON weft.processes (owner) WHERE {IS_CLAIMABLE};
    CREATE INDEX processes_waiting ON weft.processes (owner, wake_at) WHERE state = 'waiting' AND wake_at IS NOT NULL;
    CREATE INDEX processes_queued ON weft.processes (queue, tenant, priority DESC, seq) WHERE state = 'queued';
    CREATE INDEX processes_admitted ON weft.processes (queue, tenant)
        WHERE state IN ('running', 'waiting') AND queue IS NOT NULL;
    CREATE INDEX processes_parent ON weft.processes (parent) WHERE parent IS NOT NULL;

    CREATE TABLE weft.segments (
        process text NOT NULL, first bigint NOT NULL, records bytea NOT NULL, PRIMARY KEY (process, first));
    ALTER TABLE weft.segments ALTER COLUMN records SET STORAGE EXTERNAL;

    CREATE TABLE weft.payloads (hash bytea PRIMARY KEY, data bytea NOT NULL);
    CREATE TABLE weft.payload_references (
        process text NOT NULL, hash bytea NOT NULL, PRIMARY KEY (process, hash));
    CREATE INDEX payload_references_hash ON weft.payload_references (hash);

    CREATE TABLE weft.inbox (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        process text NOT NULL, box text NOT NULL, payload bytea NOT NULL);
    CREATE INDEX inbox_process ON weft.inbox (process);

    CREATE TABLE weft.events (key text PRIMARY KEY, value bytea NOT NULL, process text NOT NULL);
    CREATE INDEX events_process ON weft.events (process);
    CREATE TABLE weft.waits (key text NOT NULL, process text NOT NULL, PRIMARY KEY (key, process));
    CREATE INDEX waits_process ON weft.waits (process);

    CREATE TABLE weft.tickets (
        ticket text PRIMARY KEY, queue text NOT NULL, tenant text NOT NULL, priority integer NOT NULL,
        owner text NOT NULL, since double precision NOT NULL, admitted boolean NOT NULL DEFAULT false,
        seq bigint GENERATED ALWAYS AS IDENTITY);
    CREATE INDEX tickets_queue ON weft.tickets (queue, admitted);
    CREATE TABLE weft.starts (queue text NOT NULL, at double precision NOT NULL);
    CREATE INDEX starts_queue ON weft.starts (queue, at);
    CREATE TABLE weft.served (
        queue text NOT NULL, tenant text NOT NULL, at double precision NOT NULL, PRIMARY KEY (queue, tenant));
    """,
    """
    ALTER TABLE weft.processes ADD COLUMN image bytea NOT NULL DEFAULT '';
    CREATE INDEX processes_image ON weft.processes (image) WHERE image <> '';
    CREATE INDEX processes_paused ON weft.processes (id) WHERE state = 'paused';
    CREATE TABLE weft.images (hash bytea PRIMARY KEY, data bytea NOT NULL);
    ALTER TABLE weft.segments ADD COLUMN chain bytea NOT NULL DEFAULT '';

    CREATE TABLE weft.questions (
        id text PRIMARY KEY, process text NOT NULL, queue text NOT NULL, kind text NOT NULL,
        asked double precision NOT NULL, expires double precision, body bytea NOT NULL,
        seq bigint GENERATED ALWAYS AS IDENTITY);
    CREATE INDEX questions_process ON weft.questions (process);
    CREATE INDEX questions_queue ON weft.questions (queue, asked);
    CREATE TABLE weft.revocations (
        seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, process text NOT NULL, number integer NOT NULL,
        at double precision NOT NULL, "by" text NOT NULL, UNIQUE (process, number));
    CREATE TABLE weft.graves (process text PRIMARY KEY, parent text);
    CREATE INDEX graves_parent ON weft.graves (parent);

    CREATE TABLE weft.accounts (process text PRIMARY KEY, parent text);
    CREATE TABLE weft.balances (
        account text NOT NULL, kind text NOT NULL, "limit" double precision, spent double precision NOT NULL,
        reserved double precision NOT NULL, seq bigint GENERATED ALWAYS AS IDENTITY, PRIMARY KEY (account, kind))
        WITH (fillfactor = 50);
    CREATE TABLE weft.charges (
        key text PRIMARY KEY, process text NOT NULL, account text NOT NULL, amounts jsonb NOT NULL,
        settled boolean NOT NULL);
    CREATE INDEX charges_process ON weft.charges (process);
    """,
    """
    CREATE TABLE weft.checkpoints (
        id text PRIMARY KEY, process text NOT NULL, name text NOT NULL, note text NOT NULL,
        at double precision NOT NULL, effect bigint NOT NULL, heir text NOT NULL, heirs bytea NOT NULL,
        body bytea NOT NULL,
        seq bigint GENERATED ALWAYS AS IDENTITY);
    ALTER TABLE weft.checkpoints ALTER COLUMN body SET STORAGE EXTERNAL;
    CREATE INDEX checkpoints_process ON weft.checkpoints (process);
    CREATE INDEX accounts_parent ON weft.accounts (parent) WHERE parent IS NOT NULL;
    """,
    """
    CREATE TABLE weft.memories (namespace text COLLATE "C" PRIMARY KEY, at bigint NOT NULL) WITH (fillfactor = 50);
    CREATE INDEX memories_private ON weft.memories (split_part(namespace, '@', 2)) WHERE strpos(namespace, '@') > 0;
    CREATE TABLE weft.objects (
        cell text COLLATE "C", version bigint, at bigint NOT NULL, operation text NOT NULL, value bytea,
        links text NOT NULL, updated double precision NOT NULL, "by" text NOT NULL, PRIMARY KEY (cell, version));
    CREATE INDEX objects_operation ON weft.objects (operation);
    CREATE INDEX objects_clock ON weft.objects (split_part(cell, '/', 1), at);
    CREATE TABLE weft.operations (
        id text PRIMARY KEY, namespace text NOT NULL, process text NOT NULL, level text NOT NULL, at bigint NOT NULL,
        state text NOT NULL, tainted_at bigint NOT NULL, retracted_at bigint NOT NULL);
    CREATE INDEX operations_clock ON weft.operations (namespace, at);
    CREATE INDEX operations_tainted ON weft.operations (namespace, tainted_at) WHERE tainted_at > 0;
    CREATE INDEX operations_retracted ON weft.operations (namespace, retracted_at) WHERE retracted_at > 0;
    CREATE TABLE weft.dependencies (operation text, predecessor text, PRIMARY KEY (predecessor, operation));
    CREATE INDEX dependencies_operation ON weft.dependencies (operation);
    CREATE TABLE weft.holds (
        seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, operation text NOT NULL UNIQUE, namespace text NOT NULL,
        cells text[] NOT NULL, until double precision NOT NULL);
    """,
    """
    CREATE TABLE weft.portions (
        ticket text NOT NULL, queue text NOT NULL, kind text NOT NULL, amount double precision NOT NULL,
        at double precision);
    CREATE INDEX portions_ticket ON weft.portions (ticket);
    CREATE INDEX portions_queue ON weft.portions (queue, at);
    CREATE TABLE weft.pauses (queue text PRIMARY KEY, until double precision NOT NULL);
    """,
)


async def migrate(connection: asyncpg.Connection, where: str) -> None:
    """Bring the tables up to this Weft's, creating them where nothing is. Raises `StoreTooNew`."""
    if await _version(connection, where) >= VERSION:
        return
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        await connection.execute("CREATE SCHEMA IF NOT EXISTS weft")
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS weft.schema (version integer NOT NULL, oldest integer NOT NULL)"
        )
        version = await _version(connection, where)  # another may have been quicker
        for step in MIGRATIONS[version:]:
            await connection.execute(step)
        if version < VERSION:
            await connection.execute("DELETE FROM weft.schema")
            await connection.execute("INSERT INTO weft.schema VALUES ($1, $2)", VERSION, OLDEST)


OLDEST = 2
"""The oldest schema number whose Weft can work with these tables: before 2 nobody checked what a process may do."""


async def _version(connection: asyncpg.Connection, where: str) -> int:
    """Number of the schema; 0 where nothing is. Raises `StoreTooNew`."""
    if await connection.fetchval("SELECT to_regclass('weft.schema')") is None:
        return 0
    found = await connection.fetchrow("SELECT version, oldest FROM weft.schema")
    version, oldest = found or (0, 0)
    check(oldest, where)
    return int(version)


def check(oldest: int, where: str) -> None:
    """Raise `StoreTooNew` if only a newer Weft can work with the tables."""
    if oldest > VERSION:
        raise StoreTooNew(
            f"the journal at {where} is of a newer Weft (it needs schema {oldest}, this one knows {VERSION}); upgrade "
            f"this one with `pip install -U weft`"
        )


TRANSIENT = ("08", "53", "57P", "40", "55P03", "25P03", "25006")
"""SQL states that pass: connections, resources (a full disk too), shutdown and start-up, collisions, timeouts of
sessions, and a stand-by that is being promoted."""


def transient(error: BaseException) -> bool:
    """Whether the same request may succeed when it is made again."""
    state = getattr(error, "sqlstate", None)
    if state is not None:
        return str(state).startswith(TRANSIENT)
    import asyncpg

    return isinstance(error, OSError | TimeoutError | EOFError | asyncpg.InterfaceError | asyncpg.InternalClientError)


def explain(error: BaseException, where: str) -> StoreError:
    """The `StoreError` for what the server, or the way to it, reported."""
    if isinstance(error, StoreError):
        return error
    state = str(getattr(error, "sqlstate", None) or "")
    if state == "53100":
        return StoreFull(
            f"the disk of the server at {where} is full; free some space there (`weft gc` removes old runs), then run "
            f"again: nothing finished is lost"
        )
    if state in ("28000", "28P01", "3D000"):
        return StoreError(f"the server at {where} refused the connection: {error}; check the URL's user and database")
    if state in ("42501", "25006"):
        return StoreReadOnly(f"the journal at {where} may not be written ({error}); grant this user the rights")
    if state.startswith(("XX001", "XX002")):
        return StoreCorrupt(f"the journal at {where} is damaged ({error}); restore the database from a backup")
    if state.startswith(("42P01", "42703", "3F000")):
        return StoreCorrupt(f"tables of the journal at {where} are missing or foreign ({error}); name another database")
    if transient(error):
        return StoreUnreachable(
            f"the server at {where} does not answer ({type(error).__name__}: {error}); start it or check the URL: "
            f"nothing that was finished is lost"
        )
    return StoreError(f"the server at {where} refused ({type(error).__name__}: {error}); nothing was applied")
