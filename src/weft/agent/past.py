"""What past runs of a workflow took, read from their journals in the same store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from weft.core.boundary import boundary
from weft.core.budget import Budget
from weft.core.crossing import executing
from weft.core.progress import nearest_rank
from weft.core.record import AnyRecord, decode_records, from_column
from weft.core.step import primitive
from weft.core.turns import ended_in, large, turns_of
from weft.store.base import DONE, ProcessRow, Store, bytes_of

LOOKED = 2000
"""Newest processes of the store among which they are sought."""

Amounts = dict[str, float]
"""By kind: turns, tokens, money, seconds."""


async def spent(most: int) -> list[Amounts]:
    """What each of the newest `most` runs of this workflow took that came to their end by themselves. An effect."""
    return await past_spent(boundary().workflow, most)


@primitive(name="agent.past_spent", effect="pure", needs=(), cost={"effects": 0})
async def past_spent(workflow: str, most: int) -> list[Amounts]:
    execution: Any = executing.get()
    if execution is None:
        return []
    return await spent_by(execution.process.runtime.store, workflow, most)


async def spent_by(store: Store, workflow: str, most: int) -> list[Amounts]:
    """The same, of any store and workflow."""
    rows = [row for row in await store.rows(limit=LOOKED) if row.workflow == workflow and row.state == DONE]
    kept = [row for row in rows if await _ended(store, row)][:most]
    journals: dict[str, list[AnyRecord]] = {row.id: [] for row in kept}
    for segment in await store.segments(list(journals)):
        journals[segment.process] += decode_records(segment.records)
    found = []
    for records in journals.values():
        turns = turns_of(records, {hash: await store.payload(hash) for hash in large(records)})
        if turns:
            money = sum(one.money or 0.0 for one in turns)
            tokens, seconds = float(sum(one.tokens for one in turns)), sum(one.seconds for one in turns)
            found.append({"turns": float(len(turns)), "tokens": tokens, "money": money, "seconds": seconds})
    return found


async def _ended(store: Store, row: ProcessRow) -> bool:
    """Whether no limit ended it: what was cut short tells nothing of what is needed."""
    return ended_in(await bytes_of(store, from_column(row.result or b""))) == "done"


def limit(found: Sequence[Amounts], percentile: float, kinds: Sequence[str]) -> Budget:
    """Of each of these kinds what was enough for so many per cent of the runs (nearest rank)."""
    return Budget(**{kind: nearest_rank([one[kind] for one in found], percentile) for kind in kinds})
