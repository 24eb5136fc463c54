"""Accounts on the server: what the rule of `weft.store.ledger` decides, under a lock on the tree's uppermost account.

Whoever changes balances locks first, in order of their names, the uppermost accounts of all the trees that it will
change: so two who do never wait for each other in a circle, and `reserve` sees all that was reserved before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from weft.store.base import Batch
from weft.store.ledger import SLACK, Account, Charge, Refusal, decide
from weft.store.postgres.part import Part, columns, insert

if TYPE_CHECKING:
    import asyncpg

ABOVE = """WITH RECURSIVE above (process, parent) AS (
        SELECT process, parent FROM weft.accounts WHERE process = ANY($1::text[])
        UNION SELECT a.process, a.parent FROM above JOIN weft.accounts a ON a.process = above.parent)"""
_LOCK = f"""{ABOVE} SELECT process FROM weft.accounts
    WHERE process IN (SELECT process FROM above WHERE parent IS NULL OR parent NOT IN (SELECT process FROM above))
    ORDER BY process FOR NO KEY UPDATE"""
ACCOUNTS = f"""{ABOVE} SELECT process, parent, kind, "limit", spent, reserved
    FROM above LEFT JOIN weft.balances b ON b.account = process ORDER BY b.seq"""
_ON_CONFLICT = f"""ON CONFLICT (account, kind) DO UPDATE SET spent = balances.spent + excluded.spent,
    reserved = CASE WHEN balances.reserved + excluded.reserved > {SLACK}
        THEN balances.reserved + excluded.reserved ELSE 0 END"""
_RESERVE = f"""WITH kept AS (INSERT INTO weft.charges (key, process, account, amounts, settled)
        SELECT *, false FROM unnest($1::text[], $2::text[], $3::text[], $4::jsonb[]))
    INSERT INTO weft.balances (account, kind, spent, reserved)
        SELECT account, kind, 0, amount FROM unnest($5::text[], $6::text[], $7::float8[]) AS a (account, kind, amount)
        {_ON_CONFLICT}"""

_OPEN = Part(
    ("text", "text", "text", "text", "float8", "float8", "float8"),
    """INSERT INTO weft.balances (account, kind, "limit", spent, reserved) SELECT b.* FROM opened
        JOIN unnest({2}::text[], {3}::text[], {4}::float8[], {5}::float8[], {6}::float8[]) AS b (account)
            ON account = process""",
    """opened AS (INSERT INTO weft.accounts (process, parent) SELECT a.* FROM fence,
            unnest({0}::text[], {1}::text[]) AS a ON CONFLICT DO NOTHING RETURNING process),""",
)
# `tops` locks before the first change, since the update can't begin without knowing how many there are.
_SETTLE = Part(
    ("text", "text", "text", "float8"),
    f"""INSERT INTO weft.balances (account, kind, spent, reserved)
        SELECT due.account, kind, sum(spent), -sum(held) FROM due JOIN moved USING (key) GROUP BY due.account, kind
        {_ON_CONFLICT}""",
    """due (key, account, parent) AS (
        SELECT key, a.process, a.parent FROM fence, weft.charges c JOIN weft.accounts a ON a.process = c.account
            WHERE key = ANY({0}::text[]) AND NOT settled
        UNION ALL SELECT key, a.process, a.parent FROM due JOIN weft.accounts a ON a.process = due.parent),
    tops AS (SELECT process FROM weft.accounts
        WHERE process IN (SELECT account FROM due WHERE parent IS NULL
            OR NOT EXISTS (SELECT FROM weft.accounts a WHERE a.process = due.parent))
        ORDER BY process FOR NO KEY UPDATE),
    booked AS (UPDATE weft.charges SET settled = true FROM fence
        WHERE key = ANY({0}::text[]) AND NOT settled AND (SELECT count(*) FROM tops) >= 0 RETURNING key, amounts),
    moved (key, kind, spent, held) AS (
        SELECT booked.key, kind, 0, held::float8 FROM booked, jsonb_each_text(amounts) AS amount (kind, held)
        UNION ALL SELECT key, kind, amount, 0 FROM booked
            JOIN unnest({1}::text[], {2}::text[], {3}::float8[]) AS a (key, kind, amount) USING (key)),""",
)

PARTS = {
    "accounts": _OPEN,
    "charges": insert(
        "charges", "key, process, account, amounts, settled", "text text text jsonb bool", "ON CONFLICT DO NOTHING"
    ),
    "settled": _SETTLE,
}


def arrays(batches: Sequence[Batch]) -> dict[str, list[list[Any]]]:
    accounts: dict[str, Account] = {}
    charges: dict[str, Charge] = {}
    settled: dict[str, Mapping[str, float]] = {}
    for batch in reversed(batches):  # the first counts
        accounts.update(batch.accounts)
        charges.update(batch.charges)
        settled.update(batch.settled)
    balances = [
        (account.process, kind, account.limits.get(kind), account.spent.get(kind, 0.0), account.reserved.get(kind, 0.0))
        for account in accounts.values()
        for kind in dict.fromkeys((*account.limits, *account.spent, *account.reserved))
    ]
    opened = columns([(account.process, account.parent) for account in accounts.values()], 2)
    return {
        "accounts": [*opened, *columns(balances, 5)],
        "charges": columns([(*_row(charge), charge.settled) for charge in charges.values()], 5),
        "settled": _settlements(settled),
    }


def _settlements(settled: Mapping[str, Mapping[str, float]]) -> list[list[Any]]:
    spent = [(key, kind, amount) for key, amounts in settled.items() for kind, amount in amounts.items()]
    return [list(settled), *columns(spent, 3)]


def _row(charge: Charge) -> tuple[str, str, str, str]:
    return charge.key, charge.process, charge.account, json.dumps(charge.amounts)


def gathered(rows: Sequence[Any]) -> dict[str, Account]:
    """The accounts that `ACCOUNTS` found."""
    found: dict[str, Account] = {}
    for process, parent, kind, limit, spent, reserved in rows:
        account = found.setdefault(process, Account(process, parent, {}, {}, {}))
        if kind is not None:
            account.spent[kind], account.reserved[kind] = spent, reserved
        if limit is not None:
            account.limits[kind] = limit
    return found


async def reserve(connection: asyncpg.Connection, charges: Sequence[Charge]) -> list[Refusal | None]:
    """In a transaction of the caller."""
    paying = list({charge.account for charge in charges})
    await connection.execute(_LOCK, paying)
    keys = await connection.fetch(
        "SELECT key FROM weft.charges WHERE key = ANY($1::text[])", [charge.key for charge in charges]
    )
    accounts = gathered(await connection.fetch(ACCOUNTS, paying))
    answers, taken, reserved = decide(charges, accounts, {key for (key,) in keys})
    if taken:
        amounts = [(*name, amount) for name, amount in reserved.items()]
        await connection.execute(_RESERVE, *columns([_row(charge) for charge in taken], 4), *columns(amounts, 3))
    return answers


async def release(connection: asyncpg.Connection, keys: Sequence[str]) -> None:
    """Take back what these charges have reserved. In a transaction of the caller."""
    before, sql = (text.format("$1", "$2", "$3", "$4") for text in (_SETTLE.before, _SETTLE.sql))
    values = _settlements({key: {} for key in keys})
    await connection.execute(f"WITH RECURSIVE fence AS (SELECT 1), {before} done AS ({sql}) SELECT", *values)
