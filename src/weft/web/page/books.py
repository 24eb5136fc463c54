"""The trees of runs that were looked at last, so that a window of rows is read once."""

from __future__ import annotations

from collections import OrderedDict

from weft.core.errors import StoreCorrupt
from weft.core.record import AnyRecord, decode_records
from weft.store.base import Store
from weft.web.page.book import Book
from weft.web.page.leaf import Leaf

AHEAD = 8
"""Segments that are read where one is asked for: who reads one effect often reads the next."""


class Books:
    """The trees that were looked at last."""

    MOST = 16
    ROWS = 1_000_000
    """Rows of all of them together, but for the one that is asked for."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._books: OrderedDict[str, Book] = OrderedDict()
        self._pieces: OrderedDict[str, tuple[int, list[AnyRecord]]] = OrderedDict()
        """By process, the piece of its journal that was looked into last: the number of its first record, and all."""

    def at(self, id: str) -> Book:
        """The tree below this run, as far as it was read."""
        book = self._books.get(id)
        if book is None:
            book = self._books[id] = Book(self.store, id)
        self._books.move_to_end(id)
        return book

    async def read(self, id: str, patience: float | None = None) -> Book:
        """The tree below this run as it is now, or after so many seconds as far as it was read. Raises UnknownRun."""
        book = self.at(id)
        try:
            await book.refresh(patience)
        finally:
            if not book.leaves:
                self._books.pop(id, None)
        self._forget()
        return book

    async def leaf(self, process: str) -> Leaf:
        """One process as it is now, with the tree that it was seen in, if it was. Raises UnknownRun."""
        for book in reversed(self._books.values()):
            if process in book.leaves:
                await book.refresh()
                return book.leaves[process]
        return (await self.read(process)).root

    async def record(self, leaf: Leaf, number: int) -> AnyRecord:
        """One record of a journal. What is written never changes, so a piece may be kept."""
        id = leaf.row.id
        first, records = self._pieces.get(id, (0, []))
        if not 0 <= number - first < len(records):
            segments = await self.store.stretch(id, number, AHEAD)
            first = segments[0].first if segments else number
            records = [record for segment in segments for record in decode_records(segment.records)]
            self._pieces[id] = first, records
        self._pieces.move_to_end(id)
        while len(self._pieces) > self.MOST:
            self._pieces.popitem(last=False)
        if not 0 <= number - first < len(records):
            raise StoreCorrupt(f"the journal of run {id} lacks record {number}; `weft audit verify` says more")
        return records[number - first]

    def _forget(self) -> None:
        """Those that were looked at long ago."""
        rows = sum(one.total for one in self._books.values() if one.leaves)
        idle = [id for id, one in self._books.items() if one.watcher is None][:-1]
        while idle and (len(self._books) > self.MOST or rows > self.ROWS):
            gone = self._books.pop(idle.pop(0))
            rows -= gone.total if gone.leaves else 0
