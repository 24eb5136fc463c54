"""A run and all below it as a tree of rows, kept as far as its journals have grown.

A process holds its effects in order of their numbers, and below the effect that started it each child process. Rows
are found by their place in that order without laying the tree out: each process knows how many rows it has below.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from weft.cli.look import states_of
from weft.core.errors import UnknownRun
from weft.core.record import AnyRecord, Approved, Attempt, Decision, Fork, Outcome, Probed, Started, decode_records
from weft.store.base import FINISHED, Store
from weft.trace.reading import Node, flying_node, node_of
from weft.web.page.leaf import Leaf, span, start_of
from weft.web.page.sums import PIECE
from weft.web.page.words import STREAMS

LAST = 1 << 60
"""More rows than there are."""
BREATH = 2_000
"""Records after which others are served."""

Watcher = Callable[[Sequence[tuple[Leaf, int]], Sequence[tuple[str, AnyRecord]], bool], None]


class News:
    """What one look found."""

    def __init__(self) -> None:
        self.untold = False
        """There was something before there was a watcher."""
        self.changes: dict[tuple[str, int], tuple[Leaf, int]] = {}
        self.records: list[tuple[str, AnyRecord]] = []
        """Those that tell of words. These two are for the watcher, and empty without one."""
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
                if self.watcher is not None and isinstance(record, Outcome | Started) and record.name in STREAMS:
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
            case Decision() | Approved() | Probed():
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
            around.insert(bisect_right(around, number, key=start_of), (number, leaf))
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
