"""What the effects of a process add up to, read from its journal once and then only as far as it has grown."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import msgspec

from weft.core.record import Fork, Outcome, Started, decode_records
from weft.store.base import FINISHED, ProcessRow, Segment, Store
from weft.trace.reading import Node, node_of

MOST = 5_000
"""Records of a journal that are read for a line in a list."""
AT_ONCE = 50_000
"""Records that are read for one list."""
KEPT = 10_000
"""Runs whose sums are remembered."""
PIECE = 500
"""Segments that are read at once."""


class Sums(msgspec.Struct):
    """Tokens are those of generations; money is in US dollars."""

    effects: int = 0
    failed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    money: float = 0.0
    models: dict[str, dict[str, float]] = {}

    def add(self, node: Node) -> None:
        """One more effect whose outcome is known."""
        self.effects += 1
        self.failed += node.status == "failed"
        self.tokens_in += node.input_tokens
        self.tokens_out += node.output_tokens
        self.money += node.money
        if node.kind == "generation" and node.model:
            one = self.models.setdefault(node.model, {"generations": 0, "tokens_in": 0, "tokens_out": 0, "money": 0.0})
            one["generations"] += 1
            one["tokens_in"] += node.input_tokens
            one["tokens_out"] += node.output_tokens
            one["money"] += node.money

    def inherited(self) -> None:
        """All of it so far is another run's, which paid for it."""
        self.tokens_in, self.tokens_out, self.money, self.models = 0, 0, 0.0, {}

    def join(self, other: Sums) -> None:
        """And those of another process."""
        self.effects += other.effects
        self.failed += other.failed
        self.tokens_in += other.tokens_in
        self.tokens_out += other.tokens_out
        self.money += other.money
        for name, told in other.models.items():
            one = self.models.setdefault(name, dict.fromkeys(told, 0))
            for key, amount in told.items():
                one[key] += amount

    def plain(self) -> dict[str, Any]:
        return {
            "effects": self.effects, "failed": self.failed, "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out, "money": round(self.money, 9),
        }  # fmt: skip


class _Read(msgspec.Struct):
    """How far a journal was read."""

    records: int = 0
    whole: bool = False
    """All that was written when it was looked at last."""
    ended: bool = False
    """It does not grow any more, or is too long to be read here."""
    sums: Sums = msgspec.field(default_factory=Sums)
    flying: set[int] = msgspec.field(default_factory=set)


class Lines:
    """The sums of runs, for lists of them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._read: OrderedDict[str, _Read] = OrderedDict()
        self._busy = asyncio.Lock()

    async def update(self, rows: Sequence[ProcessRow]) -> set[str]:
        """Read on in the journals of these, but for those of over `MOST` records; gives the ids of those that have
        grown. Where that are many records at once the rest of them is read the next time."""
        async with self._busy:
            return await self._update(rows)

    async def _update(self, rows: Sequence[ProcessRow]) -> set[str]:
        wanted: dict[str, _Read] = {}
        for row in rows:
            read = self._read.setdefault(row.id, _Read())
            self._read.move_to_end(row.id)
            if not read.ended and row.length <= MOST:
                wanted[row.id] = read
                read.whole = False
        grown: set[str] = set()
        left = AT_ONCE
        segments: list[Segment] | None = None
        while wanted and left > 0 and (segments is None or len(segments) == PIECE):
            segments = await self.store.growth({id: one.records for id, one in wanted.items()}, PIECE)
            for segment in segments:
                left -= await self._take(wanted[segment.process], segment)
                grown.add(segment.process)
            for id in [id for id, one in wanted.items() if one.records > MOST]:
                wanted.pop(id).ended = True
            await asyncio.sleep(0)  # others are served meanwhile
        if segments is not None and len(segments) < PIECE:
            over = {row.id for row in rows if row.state in FINISHED}
            for id, read in wanted.items():
                read.whole, read.ended = True, id in over
        while len(self._read) > KEPT:
            self._read.popitem(last=False)
        return grown

    async def _take(self, read: _Read, segment: Segment) -> int:
        """A piece of a journal; gives how many records it has."""
        records = decode_records(segment.records)
        for number, record in enumerate(records, segment.first):
            if type(record) is Started:
                read.flying.add(record.effect)
            elif type(record) is Outcome and record.kind != "timer":
                read.flying.discard(record.effect)
                read.sums.add(await node_of(self.store, segment.process, number, record))
            elif type(record) is Fork:
                read.sums.inherited()
        read.records = segment.first + len(records)
        return len(records)

    def read(self, row: ProcessRow) -> Sums | None:
        """Those of a run; None if they are not known."""
        read = self._read.get(row.id)
        return read.sums if read is not None and read.whole and read.records >= row.length else None

    def of(self, row: ProcessRow, over: bool) -> dict[str, Any]:
        """Those of a run as its line has them; `over`: nothing of it is under way. Not known: null."""
        sums = self.read(row)
        if sums is None:
            return dict.fromkeys(("effects", "running", "failed", "tokens_in", "tokens_out", "money"))
        running = 0 if over else len(self._read[row.id].flying)
        return {**sums.plain(), "effects": sums.effects + running, "running": running}
