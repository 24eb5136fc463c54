"""The past of shared memory in the file: taken over from another store, cut short, forgotten. In transactions of the
caller."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from weft.store.memory import FIELDS, Applied, Object, Past, made, reference, span, unneeded
from weft.store.sqlite.memory import CLOCK, set_clocks, write
from weft.store.sqlite.statements import IDS

_PRIVATE = f"""SELECT namespace FROM memories
    WHERE instr(namespace, '@') > 0 AND substr(namespace, instr(namespace, '@') + 1) IN {IDS}"""
_OLD = f"""DELETE FROM objects WHERE cell >= ? AND cell < ?
    AND version <= (SELECT max(version) FROM objects AS newest WHERE newest.cell = objects.cell) - ?
    RETURNING {FIELDS}"""


def follow(connection: sqlite3.Connection, past: Past) -> None:
    """Take over what happened elsewhere, if it goes on from what is here; else nothing is done."""
    if connection.execute(CLOCK, (past.namespace,)).fetchone()[0] == past.after:
        write(connection, Applied(past.objects, past.operations, past.dependencies))
        set_clocks(connection, {past.namespace: past.at})


def prune(connection: sqlite3.Connection, namespace: str, keep: int) -> int:
    start, _, end = span(namespace, "", "")
    gone = [made(values) for values in connection.execute(_OLD, (start, end, keep)).fetchall()]
    cells = json.dumps(sorted({one.cell for one in gone}))
    query = f"SELECT {FIELDS} FROM objects WHERE cell IN {IDS}"
    _drop(connection, gone, [made(values) for values in connection.execute(query, (cells,))])
    return len(gone)


def _drop(connection: sqlite3.Connection, gone: Sequence[Object], left: Sequence[Object]) -> None:
    """The large values that only versions held which are deleted."""
    for need in unneeded(gone, left):
        connection.execute("DELETE FROM payload_references WHERE process = ? AND hash = ?", need)
        connection.execute(
            """DELETE FROM payloads WHERE hash = ?
            AND NOT EXISTS (SELECT 1 FROM payload_references AS needed WHERE needed.hash = payloads.hash)""",
            need[1:],
        )


def forget(connection: sqlite3.Connection, processes: str) -> list[str]:
    """Delete the memories that are private to these processes, given as JSON. Returns in whose names they needed large
    values."""
    names: list[str] = []
    for (namespace,) in connection.execute(_PRIVATE, (processes,)).fetchall():
        start, _, end = span(namespace, "", "")
        cells = connection.execute("SELECT DISTINCT cell FROM objects WHERE cell >= ? AND cell < ?", (start, end))
        names += [reference(cell) for (cell,) in cells]
        connection.execute("DELETE FROM objects WHERE cell >= ? AND cell < ?", (start, end))
        operations = "(SELECT id FROM operations WHERE namespace = ?)"
        connection.execute(f"DELETE FROM dependencies WHERE operation IN {operations}", (namespace,))
        for table in ("operations", "holds", "memories"):
            connection.execute(f"DELETE FROM {table} WHERE namespace = ?", (namespace,))
    return names
