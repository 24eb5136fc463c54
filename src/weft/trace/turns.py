"""What agents spent their turns on, read from the journals of their runs.

    report = await report_of(store, ids)
    print(report.wasted, report.per_solved("money"))

A turn is a generation and the calls that were made of its answer. It is *wasted* if it called something and that
brought nothing: results that were seen before, failures, repeated calls (`weft.core.progress`); or if, in a run that
changed something or let more tests pass, it called something after the last turn that did. The measures are those of
"More with Less" (arXiv 2510.16786), as far as a journal tells them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from weft.core.progress import nearest_rank
from weft.core.record import AnyRecord, decode_records, from_column
from weft.core.turns import Turn, ended_in, large, turns_of
from weft.store.base import DONE, ProcessRow, Store, bytes_of

PAGE = 100
"""Journals read at once."""


class Spent(msgspec.Struct, frozen=True):
    """One process. `ended`: what its answer says (done, limit, refused), or its state; `money`: US dollars, of turns
    whose price is known; `seconds`: of its turns; `solved`: it handed in what was asked for."""

    run: str
    workflow: str
    ended: str
    solved: bool
    turns: int
    wasted: int
    tokens: int
    money: float
    seconds: float


class Report(msgspec.Struct, frozen=True):
    """Of several processes."""

    runs: tuple[Spent, ...]

    def total(self, kind: str) -> float:
        """Of `turns`, `wasted`, `tokens`, `money` or `seconds`."""
        return float(sum(getattr(one, kind) for one in self.runs))

    @property
    def solved(self) -> int:
        return sum(one.solved for one in self.runs)

    @property
    def wasted(self) -> float:
        """The share of turns that were."""
        return self.total("wasted") / max(1, self.total("turns"))

    @property
    def limited(self) -> float:
        """The share of runs that came to a limit."""
        return sum(one.ended == "limit" for one in self.runs) / max(1, len(self.runs))

    def per_solved(self, kind: str) -> float | None:
        """What all runs took for each that was solved; None if none was."""
        return self.total(kind) / self.solved if self.solved else None

    def percentile(self, percentile: float, kind: str = "turns") -> float:
        """Of what a run took (nearest rank). Raises BadInput without runs."""
        return nearest_rank([getattr(one, kind) for one in self.runs], percentile)


async def report_of(store: Store, ids: Sequence[str], solved: Mapping[str, bool] | None = None) -> Report:
    """The turns of these processes; those without a generation are left out. `solved`: which of them solved their task,
    where something better knows than their own answers, which say no more than that they handed in."""
    found = []
    for at in range(0, len(ids), PAGE):
        journals: dict[str, list[AnyRecord]] = {id: [] for id in ids[at : at + PAGE]}
        for segment in await store.segments(list(journals)):
            journals[segment.process] += decode_records(segment.records)
        for id, records in journals.items():
            turns = turns_of(records, {hash: await store.payload(hash) for hash in large(records)})
            row = await store.row(id) if turns else None
            if row is not None:
                found.append(await _spent(store, row, turns, solved))
    return Report(tuple(found))


async def _spent(store: Store, row: ProcessRow, turns: Sequence[Turn], solved: Mapping[str, bool] | None) -> Spent:
    ended = await _ended(store, row)
    return Spent(
        row.id,
        row.workflow,
        ended,
        ended == "done" if solved is None else solved.get(row.id, False),
        len(turns),
        wasted(turns),
        sum(one.tokens for one in turns),
        sum(one.money or 0.0 for one in turns),
        sum(one.seconds for one in turns),
    )


async def _ended(store: Store, row: ProcessRow) -> str:
    if row.state != DONE or row.result is None:
        return row.state
    return ended_in(await bytes_of(store, from_column(row.result)))


def wasted(turns: Sequence[Turn]) -> int:
    """How many of them were."""
    steps = [at for at, one in enumerate(turns) if one.signs.changed or one.signs.passed]
    last = steps[-1] if steps else len(turns)
    return sum(1 for at, one in enumerate(turns) if one.calls and (at > last or not one.signs.productive))
