"""What is on its way, from where to where, and what is said of it afterwards."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from weft.core.clock import monotonic
from weft.core.errors import BadInput, StoreError
from weft.core.ids import new_id
from weft.store.base import ARRIVING, COPY, FINISHED, MOVED, Batch, Family, ProcessRow, Store

PATIENCE = 10.0
"""Seconds until an owner that was killed is known to be dead, at most."""
MANY = 200
"""Processes read or written at once."""
LARGE = 4 << 20
"""Bytes of journals or payloads read or written at once."""
DIGESTS = 1 << 128

Why = Literal["busy", "conflict", "damaged"]


class Left(msgspec.Struct, frozen=True):
    """A run that was not copied."""

    run: str
    """Its id; of a namespace of shared memory `memory:<name>`."""
    why: Why
    """busy: somebody executes it; conflict: something there is in its way; damaged: it can't be read here."""
    text: str


class Report(msgspec.Struct):
    """What a copy did. A run counts once, whatever descends from it."""

    copied: int = 0
    there: int = 0
    """Runs that were there already, the same."""
    gone: int = 0
    """Runs that had moved away before."""
    handed: int = 0
    """Unfinished processes that go on there now."""
    left: list[Left] = []
    memories: set[str] = set()
    """Namespaces that are there now as they are here, or further."""
    here: int = 0
    """Sum of the digests of all that is copied or was there already, as it is here; `beyond`: as it is there."""
    beyond: int = 0


class Journey(msgspec.Struct):
    """A family under way."""

    at: int
    run: str
    """Its oldest process."""
    sizes: dict[str, int]
    """Bytes of the journals of those that go: all but what has moved before."""
    unfinished: list[str]
    left: Left | None = None
    again: bool = False
    """What lies there of it bounds other processes and is old: all of it is to be written anew."""
    fresh: bool = False
    """Something of it was not there."""
    letters: list[int] = []
    """Those to its unfinished processes that were copied; and their questions."""
    questions: list[str] = []
    events: list[tuple[str, bytes, str]] = []
    here: int = 0
    beyond: int = 0

    @classmethod
    def of(cls, family: Family, rows: Mapping[str, ProcessRow]) -> Journey:
        sizes = {id: size for id, size in family.sizes.items() if id in rows and rows[id].state != MOVED}
        unfinished = [id for id in sizes if rows[id].state not in (*FINISHED, ARRIVING)]
        return cls(family.at, next(iter(family.sizes)), sizes, unfinished)

    def restart(self) -> None:
        self.again = self.fresh = False
        self.letters, self.questions, self.events, self.here, self.beyond = [], [], [], 0, 0

    def leave(self, why: Why, text: str) -> None:
        """It does not go; the first reason counts."""
        self.left = self.left or Left(self.run, why, text)


class Unfit(Exception):
    """The target takes no such data."""


class Route:
    """The two stores, and the name by which this copy is registered in both."""

    def __init__(self, source: Store, target: Store) -> None:
        self.source = source
        self.target = target
        self.name = f"{COPY}{new_id()}-{os.getpid()}"
        self.others: set[str] = set()
        """Copies that are under way too."""

    async def register(self) -> None:
        await self.source.register(self.name, {})
        if await self.target.alive(self.name):
            raise BadInput(f"{self.source.url} and {self.target.url} are one store; name two")
        await self.target.register(self.name, {})

    async def over(self, name: str) -> bool:
        """Whether the copy of this name is dead. One that was killed may seem alive for a while."""
        deadline = monotonic() + PATIENCE
        while name not in self.others:
            if not await self.target.alive(name) and not await self.source.alive(name):
                return True
            if monotonic() > deadline:
                self.others.add(name)
            await asyncio.sleep(0.05)
        return False

    async def put(self, batch: Batch) -> None:
        """Write to the target. Raises Unfit for what no such store can hold, such as a text too long for an index."""
        try:
            await commit(self.target, batch)
        except StoreError as error:
            state = str(getattr(error.__cause__, "sqlstate", ""))
            if state[:2] in ("22", "23", "54") or type(error.__cause__).__name__ in ("IntegrityError", "DataError"):
                raise Unfit(str(error)) from error
            raise


async def commit(store: Store, batch: Batch) -> None:
    """Write; durable on return."""
    if batch:
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: BaseException | None) -> None:
            if not written.done():
                written.set_exception(error) if error else written.set_result(None)

        store.commit(batch, done)
        await written


def pages(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[at : at + MANY] for at in range(0, len(ids), MANY))


def chunks(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Ids of processes that are read at once."""
    chunk: list[str] = []
    total = 0
    for id, size in sizes.items():
        if chunk and (len(chunk) == MANY or total + size > LARGE):
            yield chunk
            chunk, total = [], 0
        chunk.append(id)
        total += size
    if chunk:
        yield chunk


def groups(families: Sequence[Family]) -> Iterator[list[Family]]:
    """Families that go together: as many as make one chunk, or one large one."""
    group: list[Family] = []
    count = total = 0
    for family in families:
        size = sum(family.sizes.values())
        if group and (count + len(family.sizes) > MANY or total + size > LARGE):
            yield group
            group, count, total = [], 0, 0
        group.append(family)
        count += len(family.sizes)
        total += size
    if group:
        yield group
