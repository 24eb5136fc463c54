"""Accounts in the file: what the rule of `weft.store.ledger` decides, in transactions of the caller."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from weft.store.base import Batch
from weft.store.ledger import SLACK, Account, Charge, Deltas, Refusal, chain, decide
from weft.store.sqlite.statements import IDS

_ABOVE = """WITH RECURSIVE above (process) AS (
        SELECT value FROM json_each(?)
        UNION SELECT accounts.parent FROM above JOIN accounts USING (process) WHERE accounts.parent IS NOT NULL)
    SELECT process, parent FROM accounts WHERE process IN above"""
_BALANCES = f'SELECT account, kind, "limit", spent, reserved FROM balances WHERE account IN {IDS} ORDER BY rowid'
_BOOK = f"""INSERT INTO balances (account, kind, spent, reserved) VALUES (?, ?, ?, ?)
    ON CONFLICT (account, kind) DO UPDATE SET spent = balances.spent + excluded.spent,
        reserved = CASE WHEN balances.reserved + excluded.reserved > {SLACK}
            THEN balances.reserved + excluded.reserved ELSE 0 END"""


def accounts(connection: sqlite3.Connection, processes: Iterable[str]) -> dict[str, Account]:
    """The accounts of these processes and all above them."""
    above = connection.execute(_ABOVE, (json.dumps(list(processes)),)).fetchall()
    found = {process: Account(process, parent, {}, {}, {}) for process, parent in above}
    for process, kind, limit, spent, reserved in connection.execute(_BALANCES, (json.dumps(list(found)),)):
        account = found[process]
        account.spent[kind] = spent
        account.reserved[kind] = reserved
        if limit is not None:
            account.limits[kind] = limit
    return found


def reserve(connection: sqlite3.Connection, charges: Sequence[Charge]) -> list[Refusal | None]:
    keys = json.dumps([charge.key for charge in charges])
    known = {key for (key,) in connection.execute(f"SELECT key FROM charges WHERE key IN {IDS}", (keys,))}
    there = accounts(connection, {charge.account for charge in charges if charge.key not in known})
    answers, taken, reserved = decide(charges, there, known)
    _keep(connection, taken)
    _book(connection, {}, reserved)
    return answers


def apply(connection: sqlite3.Connection, batches: Sequence[Batch]) -> None:
    """The accounts, charges and settlements of batches."""
    for batch in batches:
        for account in batch.accounts.values():
            _open(connection, account)
        _keep(connection, list(batch.charges.values()))
    settled: dict[str, Mapping[str, float]] = {}
    for batch in batches:
        for key, amounts in batch.settled.items():
            settled.setdefault(key, amounts)
    if settled:
        settle(connection, settled)


def settle(connection: sqlite3.Connection, amounts: Mapping[str, Mapping[str, float]]) -> None:
    """Key -> what was spent."""
    charges = connection.execute(
        f"UPDATE charges SET settled = 1 WHERE key IN {IDS} AND NOT settled RETURNING key, account, amounts",
        (json.dumps(list(amounts)),),
    ).fetchall()
    there = accounts(connection, {account for _, account, _ in charges})
    spent: Deltas = {}
    released: Deltas = {}
    for key, process, held in charges:
        for account in chain(there, process):
            for kind, amount in amounts[key].items():
                spent[account.process, kind] = spent.get((account.process, kind), 0.0) + amount
            for kind, amount in json.loads(held).items():
                released[account.process, kind] = released.get((account.process, kind), 0.0) - amount
    _book(connection, spent, released)


def _open(connection: sqlite3.Connection, account: Account) -> None:
    values = (account.process, account.parent)
    if connection.execute("INSERT INTO accounts VALUES (?, ?) ON CONFLICT DO NOTHING", values).rowcount:
        kinds = dict.fromkeys((*account.limits, *account.spent, *account.reserved))
        connection.executemany(
            "INSERT INTO balances VALUES (?, ?, ?, ?, ?)",
            [
                (account.process, n, account.limits.get(n), account.spent.get(n, 0.0), account.reserved.get(n, 0.0))
                for n in kinds
            ],
        )


def _keep(connection: sqlite3.Connection, charges: Sequence[Charge]) -> None:
    connection.executemany(
        "INSERT INTO charges VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [(c.key, c.process, c.account, json.dumps(c.amounts), c.settled) for c in charges],
    )


def _book(connection: sqlite3.Connection, spent: Deltas, reserved: Deltas) -> None:
    connection.executemany(
        _BOOK,
        [(*name, spent.get(name, 0.0), reserved.get(name, 0.0)) for name in dict.fromkeys((*spent, *reserved))],
    )
