"""Deleting processes, in a transaction of the caller: what goes with them, and what stays for those that descend."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from weft.store.base import FINISHED
from weft.store.sqlite.history import forget
from weft.store.sqlite.ledger import settle
from weft.store.sqlite.statements import IDS


def delete(connection: sqlite3.Connection, ids: Sequence[str]) -> int:
    """Those of these processes that are finished. Returns how many."""
    finished = connection.execute(
        f"SELECT id, parent FROM processes WHERE id IN {IDS} AND state IN {IDS}",
        (json.dumps(list(ids)), json.dumps(FINISHED)),
    ).fetchall()
    doomed = json.dumps([id for id, _ in finished])
    needing = json.dumps([id for id, _ in finished] + forget(connection, doomed))
    connection.execute(
        f"""DELETE FROM payloads
            WHERE hash IN (SELECT hash FROM payload_references WHERE process IN {IDS})
            AND NOT EXISTS (SELECT 1 FROM payload_references AS needed
                WHERE needed.hash = payloads.hash AND needed.process NOT IN {IDS})""",
        (needing, needing),
    )
    connection.execute(f"DELETE FROM payload_references WHERE process IN {IDS}", (needing,))
    held = connection.execute(f"SELECT key FROM charges WHERE process IN {IDS} AND NOT settled", (doomed,)).fetchall()
    if held:
        settle(connection, {key: {} for (key,) in held})
    for table in ("segments", "inbox", "waits", "events", "questions", "charges", "checkpoints"):
        connection.execute(f"DELETE FROM {table} WHERE process IN {IDS}", (doomed,))
    connection.execute(f"DELETE FROM processes WHERE id IN {IDS}", (doomed,))
    connection.execute(
        "DELETE FROM images WHERE NOT EXISTS (SELECT 1 FROM processes WHERE image = images.hash AND image <> x'')"
    )
    _bury(connection, finished)
    return len(finished)


def _bury(connection: sqlite3.Connection, finished: Sequence[tuple[str, str | None]]) -> None:
    """Processes that were deleted stay as names in the lineage of those that descend from them, and with them what
    bounds their descendants."""
    connection.executemany("INSERT OR REPLACE INTO graves VALUES (?, ?)", finished)
    childless = {name for pair in finished for name in pair if name is not None}
    while childless:
        gone = connection.execute(
            f"""DELETE FROM graves WHERE process IN {IDS}
                AND NOT EXISTS (SELECT 1 FROM processes WHERE processes.parent = graves.process)
                AND NOT EXISTS (SELECT 1 FROM graves AS other WHERE other.parent = graves.process)
                RETURNING process, parent""",
            (json.dumps(list(childless)),),
        ).fetchall()
        _close([process for process, _ in gone], connection)
        childless = {parent for _, parent in gone if parent is not None}


def _close(names: Sequence[str], connection: sqlite3.Connection) -> None:
    """Accounts of these that no other hangs below: that of a fork hangs below its origin's."""
    while names:
        gone = connection.execute(
            f"""DELETE FROM accounts WHERE process IN {IDS}
                AND NOT EXISTS (SELECT 1 FROM accounts AS below WHERE below.parent = accounts.process)
                AND NOT EXISTS (SELECT 1 FROM processes WHERE processes.id = accounts.process)
                AND NOT EXISTS (SELECT 1 FROM graves WHERE graves.process = accounts.process)
                RETURNING process, parent""",
            (json.dumps(names),),
        ).fetchall()
        connection.execute(f"DELETE FROM balances WHERE account IN {IDS}", (json.dumps([one for one, _ in gone]),))
        names = [parent for _, parent in gone if parent is not None]
