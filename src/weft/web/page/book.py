"""A run and all below it as a tree of rows, kept as far as its journals have grown.

A process holds its effects in order of their numbers, and below the effect that started it each child process. Rows
are found by their place in that order without laying the tree out: each process knows how many rows it has below.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from weft.cli.look import states_of
from weft.core.errors import StoreCorrupt, UnknownRun
from weft.core.record import (
    AnyRecord,
    Approved,
    Attempt,
    Decision,
    Fork,
    Outcome,
    Started,
    decode_records,
)
from weft.store.base import FINISHED, ProcessRow, Store
from weft.trace.reading import Node, flying_node, node_of, process_node
from weft.web.page.sums import PIECE, Sums

LAST = 1 << 60
"""In place of the effect that started a child, where no journal tells it."""
BREATH = 2_000
"""Records after which others are served."""
WAITS = frozenset({"sleep", "ask", "receive", "event", "child", "timer"})
NOTE = 120
"""Characters of a note."""


class Leaf:
    """One process. `numbers` are those of `effects`, which lie beside them."""

    def __init__(self, row: ProcessRow, parent: str | None, started_by: int) -> None:
        self.row = row
        self.state = row.state
        self.parent = parent
        self.started_by = started_by
        self.read = 0
        """Records of its journal that were read."""
        self.numbers: list[int] = []
        self.effects: list[Node] = []
        self.flying: set[int] = set()
        self.retrying: set[int] = set()
        self.asides: dict[int, list[int]] = {}
        """By effect: numbers of the records that tell more of it (attempts, decisions, approvals, its begin)."""
        self.children: list[tuple[int, Leaf]] = []
        self.sums = Sums()
        self.size = 1
        self.last = 0.0
        """When the last of its records was written."""

    @property
    def over(self) -> bool:
        return self.row.state in FINISHED

    @property
    def end(self) -> float | None:
        return self.row.updated if self.over else None

    def put(self, node: Node) -> None:
        """A new effect, or what is known of one by now."""
        if not self.numbers or node.effect > self.numbers[-1]:
            self.numbers.append(node.effect)
            self.effects.append(node)
            return
        at = bisect_left(self.numbers, node.effect)
        if at < len(self.numbers) and self.numbers[at] == node.effect:
            self.effects[at] = node
        else:
            self.numbers.insert(at, node.effect)
            self.effects.insert(at, node)

    def effect(self, number: int) -> Node | None:
        at = bisect_left(self.numbers, number)
        return self.effects[at] if at < len(self.numbers) and self.numbers[at] == number else None

    def below(self, number: int) -> int:
        """Rows below an effect."""
        at = bisect_left(self.children, number, key=_first)
        count = 0
        while at < len(self.children) and self.children[at][0] == number:
            count += self.children[at][1].size
            at += 1
        return count


Watcher = Callable[[Sequence[tuple[Leaf, int]], Sequence[tuple[str, AnyRecord]], bool], None]


class News:
    """What one look found."""

    def __init__(self) -> None:
        self.untold = False
        """There was something before there was a watcher."""
        self.changes: dict[tuple[str, int], tuple[Leaf, int]] = {}
        self.records: list[tuple[str, AnyRecord]] = []
        """These two are for the watcher, and empty without one."""
        self.begun: dict[str, tuple[str, int]] = {}
        """Processes that were started: by which process, and which of its effects."""


class Place(NamedTuple):
    """A row of the tree: an effect of a process, or (`node` None) the process."""

    at: int
    depth: int
    leaf: Leaf
    node: Node | None


class Book:
    """The tree of run `root`. `revision` grows with every change."""

    def __init__(self, store: Store, root: str) -> None:
        self.store = store
        self.id = root
        self.revision = 0
        self.leaves: dict[str, Leaf] = {}
        self.watcher: Watcher | None = None
        """Told of all that came or changed: (process, number of the effect, or 0 for the process itself); of the
        records that were read for it; and whether there is more that it was not told of."""
        self.partly = False
        """Somebody was told a part of it, when there was more already."""
        self._task: asyncio.Task[None] | None = None

    @property
    def root(self) -> Leaf:
        return self.leaves[self.id]

    @property
    def total(self) -> int:
        return self.root.size

    @property
    def over(self) -> bool:
        return all(leaf.over for leaf in self.leaves.values())

    @property
    def reading(self) -> bool:
        """There is more of it, which is being read."""
        return self._task is not None and not self._task.done()

    async def refresh(self, patience: float | None = None) -> None:
        """Read on: all that was written so far, or what can be read in `patience` seconds, and the rest meanwhile.
        Raises UnknownRun."""
        if patience is None and self._task is not None and not self._task.done():
            await asyncio.shield(self._task)  # it may have begun before what was written last
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._read())
            self._task.add_done_callback(_heard)
        await asyncio.wait([self._task], timeout=patience)
        if self._task.done() or not self.leaves:
            await asyncio.shield(self._task)
        else:
            self.partly = True

    async def _read(self) -> None:
        news = News()
        await self._rows(news)
        while await self._journals(news) or await self._children(news):
            pass
        if news.untold or news.changes:
            self._measure()
            if self.watcher is not None:
                self.watcher(list(news.changes.values()), news.records, news.untold)
                self.partly = False

    async def _rows(self, news: News) -> None:
        """Look at the rows of processes that had not ended."""
        known = [id for id, leaf in self.leaves.items() if not leaf.over or leaf.read < leaf.row.length]
        wanted = known if self.leaves else [self.id]
        rows = await self.store.rows(ids=wanted, limit=len(wanted)) if wanted else []
        if not self.leaves and not rows:
            raise UnknownRun(f"there is no run {self.id!r} in {self.store.url}; `weft ps` lists those there are")
        for row, state in zip(rows, await states_of(self.store, rows), strict=True):
            leaf = self.leaves.get(row.id)
            if leaf is None:
                leaf = self.leaves[row.id] = Leaf(row, None, 0)
                self._tell(news, leaf, 0)
            elif state != leaf.state or (leaf.row.started, leaf.row.owner) != (row.started, row.owner):
                self._tell(news, leaf, 0)
            if row.state in FINISHED and not leaf.over:
                for number in leaf.flying:
                    self._tell(news, leaf, number)
            leaf.row, leaf.state = row, state

    async def _journals(self, news: News) -> int:
        """Read a piece of the journals; gives how many segments it was."""
        open = {id: leaf.read for id, leaf in self.leaves.items() if not leaf.over or leaf.read < leaf.row.length}
        segments = await self.store.growth(open, PIECE) if open else []
        unseen = 0
        for segment in segments:
            if unseen > BREATH:
                self._measure()
                await asyncio.sleep(0)  # others are served meanwhile
                unseen = 0
            leaf = self.leaves[segment.process]
            records = decode_records(segment.records)
            for number, record in enumerate(records, segment.first):
                if self.watcher is not None:
                    news.records.append((segment.process, record))
                if effect := await self._take(leaf, number, record, news):
                    self._tell(news, leaf, effect)
                leaf.last = record.at
            leaf.read = segment.first + len(records)
            unseen += len(records)
        return len(segments)

    def _tell(self, news: News, leaf: Leaf, number: int) -> None:
        if self.watcher is None:
            news.untold = True
        else:
            news.changes[leaf.row.id, number] = leaf, number

    async def _take(self, leaf: Leaf, number: int, record: AnyRecord, news: News) -> int:
        """One record; gives the number of the effect that it tells something new of, or 0."""
        id = leaf.row.id
        match record:
            case Outcome():
                if record.kind == "timer":
                    return 0
                leaf.flying.discard(record.effect)
                leaf.retrying.discard(record.effect)
                node = await node_of(self.store, id, number, record)
                leaf.put(node)
                leaf.sums.add(node)
                if node.child and node.kind == "spawn":
                    news.begun[node.child] = id, record.effect
            case Started():
                if record.kind == "timer":
                    return 0
                leaf.asides.setdefault(record.effect, []).append(number)
                leaf.flying.add(record.effect)
                leaf.put(flying_node(id, number, record))
            case Attempt():
                leaf.asides.setdefault(record.effect, []).append(number)
                leaf.retrying.add(record.effect)
                if leaf.effect(record.effect) is None:
                    leaf.flying.add(record.effect)
                    begun = Started(record.at, record.effect, "step", record.name, "", b"\x90")
                    leaf.put(flying_node(id, number, begun))
            case Decision() | Approved():
                leaf.asides.setdefault(record.effect, []).append(number)
                return 0
            case Fork():
                leaf.sums.inherited()
                return 0
            case _:
                return 0
        return record.effect

    async def _children(self, news: News) -> bool:
        """Take in the processes that effects have started since; gives whether there were any."""
        begun = {id: by for id, by in news.begun.items() if id not in self.leaves}
        news.begun.clear()
        rows = await self.store.rows(ids=list(begun), limit=len(begun)) if begun else []
        for row, state in zip(rows, await states_of(self.store, rows), strict=True):
            parent, number = begun[row.id]
            if row.parent != parent:
                continue  # a fork's journal tells of its origin's children, too
            leaf = self.leaves[row.id] = Leaf(row, parent, number)
            leaf.state = state
            around = self.leaves[parent].children
            around.insert(bisect_right(around, number, key=_first), (number, leaf))
            self._tell(news, leaf, 0)
        return any(row.id in self.leaves for row in rows)

    def _measure(self) -> None:
        """How many rows each process has, itself and all below: what was read is there from now on."""
        self.revision += 1
        for leaf in self.leaves.values():
            leaf.size = 1 + len(leaf.effects)
        for leaf in reversed(self.leaves.values()):  # children came after their parents
            if leaf.parent is not None:
                self.leaves[leaf.parent].size += leaf.size

    # --- rows by their place ---------------------------------------------------------------------------------------

    def rows(self, start: int = 0, count: int = LAST) -> Iterator[Place]:
        """The rows from this place on, in tree order."""
        stop = start + count
        stack: list[tuple[int, int, Leaf, int, int]] = [(0, 0, self.root, -1, 0)]
        while stack:
            base, depth, leaf, first, last = stack.pop()
            if base >= stop:
                return
            if first < 0:
                if base + leaf.size <= start:
                    continue
                if base >= start:
                    yield Place(base, depth, leaf, None)
                stack.extend(reversed(self._parts(leaf, base + 1, depth + 1, start, stop)))
                continue
            for at in range(max(first, first + start - base), min(last, first + stop - base)):
                yield Place(base + at - first, depth, leaf, leaf.effects[at])

    @staticmethod
    def _parts(leaf: Leaf, base: int, depth: int, start: int, stop: int) -> list[tuple[int, int, Leaf, int, int]]:
        """What a process holds: stretches of its effects, and between them its children."""
        parts: list[tuple[int, int, Leaf, int, int]] = []
        done = 0
        for number, child in leaf.children:
            until = bisect_right(leaf.numbers, number)
            if until > done:
                parts.append((base, depth, leaf, done, until))
                base, done = base + until - done, until
            if base < stop and base + child.size > start:
                parts.append((base, depth + 1, child, -1, 0))
            base += child.size
        parts.append((base, depth, leaf, done, len(leaf.effects)))
        return parts

    def place(self, id: str) -> Place | None:
        """The row of a process or an effect."""
        run, _, number = id.partition(":")
        leaf = self.leaves.get(run)
        if leaf is None or (number and not number.isdecimal()):
            return None
        node = leaf.effect(int(number)) if number else None
        if number and node is None:
            return None
        index, depth = self._head(leaf)
        if node is None:
            return Place(index, depth, leaf, None)
        before = sum(child.size for at, child in leaf.children if at < node.effect)
        return Place(index + 1 + bisect_left(leaf.numbers, node.effect) + before, depth + 1, leaf, node)

    def _head(self, leaf: Leaf) -> tuple[int, int]:
        """Index and depth of a process."""
        index = depth = 0
        while leaf.parent is not None:
            around = self.leaves[leaf.parent]
            for _, child in around.children:
                if child is leaf:
                    break
                index += child.size
            index += 1 + bisect_right(around.numbers, leaf.started_by)
            depth, leaf = depth + 2, around
        return index, depth

    # --- as they are told ------------------------------------------------------------------------------------------

    def told(self, place: Place) -> dict[str, Any]:
        """A row, as clients have it."""
        leaf, node = place.leaf, place.node
        below = leaf.size - 1 if node is None else leaf.below(node.effect) if leaf.children else 0
        return {"index": place.at, "depth": place.depth, "below": below, **span(leaf, node)}

    def end(self) -> float | None:
        """When the run and all below it were over."""
        return max(leaf.row.updated for leaf in self.leaves.values()) if self.over else None

    def start(self) -> float:
        return self.root.row.started or self.root.row.created

    def latest(self) -> float:
        """When something was heard last."""
        return max(max(leaf.last, leaf.end or 0.0) for leaf in self.leaves.values())


def _heard(task: asyncio.Task[None]) -> None:
    """Whoever asks next is told what went wrong; if nobody does, that is no news."""
    if not task.cancelled():
        task.exception()


def _first(pair: tuple[int, Leaf]) -> int:
    return pair[0]


def span(leaf: Leaf, node: Node | None) -> dict[str, Any]:
    """A process or an effect, as clients have it."""
    row = leaf.row
    if node is None:
        node = process_node(row, f"{leaf.parent}:{leaf.started_by}" if leaf.parent else None)
        status, end = {"done": "ok"}.get(leaf.state, leaf.state), leaf.end
    else:
        status, end = status_of(leaf, node), node.ended if node.effect not in leaf.flying else leaf.end
    generation = node.kind == "generation"
    return {
        "id": node.id, "parent": node.parent, "process": row.id, "effect": node.effect or None,
        "kind": node.exact if node.kind in ("memory", "control", "clock", "random") else node.kind,
        "name": node.name or node.exact, "place": node.place, "start": node.started, "end": end, "status": status,
        "attempts": node.attempts, "tokens_in": node.input_tokens if generation else None,
        "tokens_out": node.output_tokens if generation else None, "money": node.money or None,
        "note": (node.error or node.model)[:NOTE] or None,
    }  # fmt: skip


def status_of(leaf: Leaf, node: Node) -> str:
    """How an effect is."""
    if node.effect not in leaf.flying:
        return "denied" if node.status == "failed" and node.error.startswith("Denied:") else node.status
    if leaf.over:
        return "cancelled"
    if node.effect in leaf.retrying:
        return "retrying"
    return "waiting" if node.kind in WAITS else "running"


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
            for segment in await self.store.stretch(id, number, 1):
                first, records = segment.first, decode_records(segment.records)
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
