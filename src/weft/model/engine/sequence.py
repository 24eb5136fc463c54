"""A sequence of the local engine: what can be done to its cells, each by one order to the child, and then in the books.

One order changes all or nothing, so a child that dies of it leaves the books as they were before.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING

from weft.core.errors import BadInput, OutOfCells
from weft.model.engine import wire
from weft.model.engine.line import Cell, Line
from weft.model.engine.protocol import Feed, How, Sequence
from weft.model.engine.saved import Saved, pack, unpack

if TYPE_CHECKING:
    from weft.model.engine.local import LocalEngine


class LocalSequence:
    """Some cells of a `LocalEngine`. One that nobody holds any more gives its cells back by itself."""

    def __init__(self, engine: LocalEngine, line: Line, parent: LocalSequence | None) -> None:
        self.engine = engine
        self._line: Line | None = line
        self._parent = weakref.ref(parent) if parent is not None else None
        self._until = 0.0

    @property
    def line(self) -> Line:
        """Its books. Raises BadInput when it is closed."""
        if self._line is None:
            raise BadInput("the sequence was closed")
        return self._line

    @property
    def label(self) -> str:
        return self.line.label

    @label.setter
    def label(self, label: str) -> None:
        self.line.label = label

    @property
    def tokens(self) -> list[int]:
        return [cell.token for cell in self.line.cells]

    @property
    def positions(self) -> list[int]:
        return [cell.position for cell in self.line.cells]

    @property
    def length(self) -> int:
        return self.line.length

    @property
    def parent(self) -> LocalSequence | None:
        """The sequence that it was forked from, as long as somebody holds that."""
        return self._parent() if self._parent is not None else None

    async def fork(self, upto: int | None = None) -> LocalSequence:
        return await self.engine.do(lambda: self._fork(upto))

    def _fork(self, upto: int | None) -> LocalSequence:
        line, engine = self.line, self.engine
        end = line.length if upto is None else upto
        if not 0 <= end <= line.length:
            raise BadInput(f"cannot fork at {end}: the sequence has {line.length} positions")
        child = engine.opened(line.label)
        try:
            if end:
                engine.ask(wire.Copy(line.number, [child.number], 0, end))
        except BaseException:
            engine.book.close(child)
            raise
        engine.book.take(child, line.cells[: line.index(end)])
        child.woven = line.woven
        return LocalSequence(engine, child, self)

    async def trim(self, start: int) -> None:
        await self.engine.do(lambda: self._trim(start))

    def _trim(self, start: int) -> None:
        line = self.line
        if not 0 <= start <= line.length:
            raise BadInput(f"cannot trim at {start}: the sequence has {line.length} positions")
        if start < line.length:
            self.engine.ask(wire.Remove(line.number, start, -1))
            self.engine.book.drop(line, line.index(start), len(line.cells))

    async def splice(self, start: int, end: int, how: How = "reencode") -> int:
        return await self.engine.do(lambda: self._splice(start, end, how))

    def _splice(self, start: int, end: int, how: How) -> int:
        line = self.line
        if not 0 <= start <= end <= line.length:
            raise BadInput(f"cannot splice {start} to {end}: the sequence has {line.length} positions")
        if line.woven:
            raise BadInput("a sequence with published rows cannot be spliced; trim it, or begin another")
        if how not in ("reencode", "shift"):
            raise BadInput(f"splice by 'reencode' or 'shift', not {how!r}")
        if start == end:
            return 0
        tail = [cell.token for cell in line.cells[end:]]
        if how == "shift":
            self._cut(line, start, end, tail)
            return 0
        self._trim(start)
        if tail:
            self.engine.stepped([Feed(self, tail, "none", None)], [line])
        return len(tail)

    def _cut(self, line: Line, start: int, end: int, tail: list[int]) -> None:
        book, engine = self.engine.book, self.engine
        if book.unified and any(cell.holders > 1 for cell in line.cells[end:]):
            self._unshare(line)  # a moved cell moves in all sequences that share it
        engine.ask(wire.Cut(line.number, start, end))
        book.drop(line, start, len(line.cells))
        book.append(line, tail)

    def _unshare(self, line: Line) -> None:
        book, engine = self.engine.book, self.engine
        if engine.used + len(line.cells) > engine.cells:
            raise OutOfCells(f"{len(line.cells)} shared cells are to be moved, and there is no room for a copy of them")
        engine.ask(wire.Load(line.number, engine.ask(wire.Save(line.number))))
        own = [Cell(cell.token, cell.position, line) for cell in line.cells]
        book.drop(line, 0, len(line.cells))
        book.take(line, own)

    async def publish(self, row: int, to: Iterable[Sequence]) -> None:
        others = [self.engine.mine(other) for other in to]
        await self.engine.do(lambda: self._publish(row, others))

    def _publish(self, row: int, others: list[Line]) -> None:
        line, book = self.line, self.engine.book
        if not book.unified:
            raise BadInput("rows can be published in a unified engine only; open it with unified=True")
        own = [cell for cell in line.row(row) if cell.home is line]
        if line.length != row + 1:
            raise BadInput(
                f"the sequence's last position is {line.length - 1}, and only that can be published, not {row}"
            )
        if len(own) != 1:
            raise BadInput(f"the sequence has no token of its own at position {row}: it was forked after that")
        wrong = [other.length for other in others if other is line or other.length not in (row, row + 1)]
        if wrong:
            raise BadInput(f"row {row} cannot be published to a sequence with {wrong[0]} positions")
        new = [other for other in others if own[0] not in other.row(row)]
        self.engine.ask(wire.Publish(line.number, row, [other.number for other in new]))
        for other in new:
            book.weave(other, own[0])
        line.woven = True

    async def save(self) -> bytes:
        return await self.engine.do(self._save)

    def _save(self) -> bytes:
        line = self.line
        state: bytes = self.engine.ask(wire.Save(line.number)) if line.cells else b""
        if line.cells and not line.woven:
            line.saved = (list(line.cells), state)
        saved = Saved(self.engine.kind, line.label, self.tokens, self.positions, state)
        return pack(saved)

    async def restore(self, saved: bytes) -> None:
        await self.engine.do(lambda: self._restore(unpack(saved, self.engine.kind)))

    def _restore(self, saved: Saved) -> None:
        line, book = self.line, self.engine.book
        freed = sum(cell.holders == 1 for cell in line.cells)
        if len(saved.tokens) > self.engine.room or (
            book.unified and self.engine.used - freed + len(saved.tokens) > self.engine.cells
        ):
            raise OutOfCells(f"the {len(saved.tokens)} tokens of the saved sequence do not fit; close or trim others")
        if saved.tokens:
            self.engine.ask(wire.Load(line.number, saved.state))
        elif line.cells:
            self.engine.ask(wire.Remove(line.number, 0, -1))
        cells = [Cell(t, p, line) for t, p in zip(saved.tokens, saved.positions, strict=True)]
        book.drop(line, 0, len(line.cells))
        book.take(line, cells)
        line.woven = len(set(saved.positions)) < len(cells)
        line.saved = (list(cells), saved.state) if cells and not line.woven else None

    def pin(self, seconds: float) -> None:
        if not seconds >= 0:
            raise BadInput(f"a sequence can be pinned for a time from 0 s on, not {seconds}")
        self._until = time.monotonic() + seconds

    def unpin(self) -> None:
        self._until = 0.0

    @property
    def pinned(self) -> bool:
        return time.monotonic() < self._until

    async def close(self) -> None:
        line, self._line = self._line, None
        if line is not None and not self.engine.closed:
            await self.engine.do(lambda: self.engine.give_back(line))

    def __del__(self) -> None:
        line = getattr(self, "_line", None)
        if line is not None:
            self.engine.forgotten.append(line)

    def __repr__(self) -> str:
        return f"<{self.label or 'sequence'}: {self.length} positions>" if self._line else "<closed sequence>"
