"""What goes on, for all viewers at once: one look at the store a few times a second, while somebody watches.

A look costs the same for one viewer and for two hundred: what changed is found once, encoded once
(`weft.web.page.ring`) and sent to each. Only the store is asked, so it does not matter who executes a run.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from time import monotonic
from typing import Any

from weft.cli.look import states_of
from weft.core.errors import StoreError
from weft.core.record import AnyRecord
from weft.runtime.inbox import opened
from weft.store.base import FINISHED, UNFINISHED, Question, Store
from weft.web.page.book import Book
from weft.web.page.books import Books
from weft.web.page.leaf import Leaf, span
from weft.web.page.people import asked
from weft.web.page.ring import Ring
from weft.web.page.runs import line, lines, sums_of
from weft.web.page.sums import Lines
from weft.web.page.words import Words

log = logging.getLogger("weft.web")

TICK = 0.1
"""Seconds between two looks."""
SLOW, MANY = 0.2, 20
"""The same with so many viewers."""
ANYWAY = 1.0
"""Seconds after which all is looked at though nothing was written: an executor may have died."""
SPANS = 500
"""Spans in one event."""
KEPT = 8
"""Runs whose events are kept after their last viewer left."""
RECENT, OPEN = 100, 500
"""Newest and unfinished runs that the list's viewers hear of."""


class Watched:
    """One run, with its viewers."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.ring = Ring()
        self.words = Words()
        self.asked: list[str] = []
        book.watcher = self._changed

    def _changed(
        self, changes: Sequence[tuple[Leaf, int]], fresh: Sequence[tuple[str, AnyRecord]], missed: bool
    ) -> None:
        book, root = self.book, self.book.root
        if changes or missed:
            told = [span(leaf, leaf.effect(number) if number else None) for leaf, number in changes[-SPANS:]]
            self.ring.push(
                "spans",
                {
                    "revision": book.revision, "total": book.total, "end": book.end(), "latest": book.latest(),
                    "spans": told, "more": missed or len(changes) > SPANS,
                },
            )  # fmt: skip
            self.ring.push("run", line(root.row, root.state, sums_of(root)))
        for words in list(self.words.heard(fresh)):
            if not missed:  # else they are of the past
                self.ring.push("tokens", words)

    def ask(self, questions: Sequence[Question]) -> None:
        """What is asked in the store now."""
        own = [one for one in questions if one.process in self.book.leaves]
        now = [f"{one.id} {hash(one.body)}" for one in own]
        if now != self.asked:
            self.asked = now
            self.ring.push("inbox", {"items": [asked(opened(one)) for one in own]})

    def check_end(self) -> None:
        leaves = self.book.leaves.values()
        whole = not self.book.reading and all(one.over and one.read >= one.row.length for one in leaves)
        if whole and not self.ring.ended:
            self.ring.push("end", {"state": self.book.root.state})
            self.ring.end()


class Feed:
    """The viewers of one store."""

    def __init__(self, store: Store, books: Books, sums: Lines) -> None:
        self.store = store
        self.books = books
        self.sums = sums
        self.runs = Ring()
        self.watched: OrderedDict[str, Watched] = OrderedDict()
        self._shown: dict[str, tuple[Any, ...]] | None = None
        self._open: set[str] = set()
        self._asked: list[str] | None = None
        self._task: asyncio.Task[None] | None = None
        self._looked = 0.0

    @property
    def viewers(self) -> int:
        return self.runs.viewers + sum(one.ring.viewers for one in self.watched.values())

    async def watch(self, id: str) -> Watched:
        """A run, which is looked at as long as somebody is in its ring. Raises UnknownRun."""
        one = self.watched.get(id)
        if one is None:
            book = await self.books.read(id, SLOW)
            one = self.watched.get(id) or Watched(book)
            self.watched[id] = one
        self.watched.move_to_end(id)
        one.ring.viewers += 1
        try:
            await one.book.refresh(SLOW)  # what came while nobody watched
            one.ask(await self.store.questions())
            one.check_end()
        except BaseException:
            one.ring.viewers -= 1
            raise
        idle = [key for key, each in self.watched.items() if not each.ring.viewers]
        for key in idle[: max(0, len(idle) - KEPT)]:
            self.watched.pop(key).book.watcher = None
        self._start()
        return one

    async def watch_runs(self) -> Ring:
        """The list of runs."""
        self.runs.viewers += 1
        try:
            await self._look_at_runs()
            self._look_at_inbox(await self.store.questions())
        except BaseException:
            self.runs.viewers -= 1
            raise
        self._start()
        return self.runs

    def _start(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._serve())

    async def close(self) -> None:
        for ring in (self.runs, *(one.ring for one in self.watched.values())):
            ring.end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # --- looking ---------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        while self.viewers:
            await asyncio.sleep(TICK if self.viewers < MANY else SLOW)
            try:
                if self._due():
                    await self._look()
            except StoreError as error:
                log.warning("the page can't look at the store: %s", error)
                await asyncio.sleep(ANYWAY)

    def _due(self) -> bool:
        """Whether something may have been written."""
        if not self.store.changed() and monotonic() - self._looked < ANYWAY:
            return False
        self._looked = monotonic()
        return True

    async def _look(self) -> None:
        questions = await self.store.questions()
        for one in [one for one in self.watched.values() if one.ring.viewers and not one.ring.ended]:
            await one.book.refresh(SLOW)
            one.ask(questions)
            one.check_end()
        if self.runs.viewers:
            await self._look_at_runs()
            self._look_at_inbox(questions)

    async def _look_at_runs(self) -> None:
        rows = {row.id: row for _, row in await self.store.listed(roots=True, limit=RECENT)}
        rows.update({row.id: row for row in await self.store.rows(states=UNFINISHED, roots=True, limit=OPEN)})
        if gone := self._open - rows.keys():
            rows.update({row.id: row for row in await self.store.rows(ids=list(gone), limit=len(gone))})
        grown = await self.sums.update(list(rows.values()))
        found = list(rows.values())
        seen = {
            row.id: (state, row.updated) for row, state in zip(found, await states_of(self.store, found), strict=True)
        }
        before, self._shown = self._shown, seen
        self._open = {id for id, row in rows.items() if row.state not in FINISHED}
        if before is None:
            return  # nobody has seen anything yet
        changed = [row for id, row in rows.items() if id in grown or before.get(id) != seen[id]]
        if changed:
            self.runs.push("runs", {"runs": await lines(self.store, self.sums, changed)})

    def _look_at_inbox(self, questions: Sequence[Question]) -> None:
        now = [f"{one.id} {hash(one.body)}" for one in questions]
        if self._asked is not None and now != self._asked:
            items = [asked(opened(one)) for one in questions]
            self.runs.push("inbox", {"count": len(items), "items": items})
        self._asked = now
