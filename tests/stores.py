"""The three kinds of store that one suite runs on, and the words in which it speaks to them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

import weft.store
from weft.store import Batch, ProcessRow, Store, open_store
from weft.store.postgres import PostgresOptions

SOURCE = str(Path(weft.store.__file__).parents[2])
KINDS = ("sqlite-full", "sqlite-process", "postgres")
SQLITE = KINDS[:2]
Kind = Literal["sqlite-full", "sqlite-process", "postgres"]
Mode = Literal["full", "process"]


class Place:
    """Where a store lies. Each `open` is one more runtime's way to it."""

    def __init__(self, kind: Kind, url: str) -> None:
        self.kind = kind
        self.url = url
        self.embedded = kind != "postgres"
        self.mode: Mode = "process" if kind == "sqlite-process" else "full"
        self._open: list[Store] = []

    @classmethod
    def of(cls, request: pytest.FixtureRequest) -> Place:
        """The place of this test alone, of the kind that its fixture is parametrised with."""
        if request.param == "postgres":
            return cls("postgres", request.getfixturevalue("postgres_url"))
        return cls(request.param, f"sqlite:///{request.getfixturevalue('tmp_path')}/j.db")

    def beside(self, kind: Kind, url: str) -> Place:
        """Another place, whose stores are closed with those of this one."""
        other = Place(kind, url)
        other._open = self._open
        return other

    def open(self, **options: Any) -> Store:
        self._open.append(open_store(self.url, self.mode, PostgresOptions(**options)))
        return self._open[-1]

    async def owner(self, name: str, programs: dict[str, str] | None = None, **options: Any) -> Store:
        """A store of its own for the runtime `name`, which lives until that is closed."""
        store = self.open(**options)
        await store.register(name, programs or {})
        return store

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        """Await `main()` on a loop of its own, and close whatever it opened."""

        async def whole() -> None:
            try:
                await main()
            finally:
                while self._open:
                    await self._open.pop().close()

        asyncio.run(whole())


async def commit(store: Store, **fields: Any) -> None:
    """Commit one batch and wait until it is durable."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    store.commit(Batch(**fields), lambda error: done.set_exception(error) if error else done.set_result(None))
    await done


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        await asyncio.sleep(0.002)


async def eventually(look: Callable[[], Awaitable[Any]], seconds: float = 30.0) -> Any:
    """What `look` finds, as soon as it finds something."""
    deadline = time.monotonic() + seconds
    while not (found := await look()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        await asyncio.sleep(0.01)
    return found


def row(id: str, **fields: Any) -> ProcessRow:
    return ProcessRow(**{"id": id, "workflow": "shop.order", **fields})


def rows(*given: ProcessRow) -> dict[str, ProcessRow]:
    return {one.id: one for one in given}


def ids(given: Sequence[ProcessRow]) -> list[str]:
    return [one.id for one in given]


PRELUDE = """
import asyncio, os, sys
from weft.store import Batch, ProcessRow, Segment, open_store
from weft.store.postgres import PostgresOptions
place, durability, *arguments = sys.argv[1:]
def opened(**options):
    return open_store(place, durability, PostgresOptions(**options))
async def commit(store, **fields):
    done = asyncio.get_running_loop().create_future()
    store.commit(Batch(**fields), lambda error: done.set_exception(error) if error else done.set_result(None))
    await done
"""


async def begin(place: Place, code: str, *arguments: object) -> asyncio.subprocess.Process:
    """Run `code` on `place` in another operating-system process."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", PRELUDE + code, place.url, place.mode, *map(str, arguments),
        env={"PYTHONPATH": SOURCE}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=2**20,
    )  # fmt: skip


async def elsewhere(place: Place, code: str, *arguments: object, status: int = 0) -> str:
    """What `code` prints in another operating-system process, which ends with `status`."""
    process = await begin(place, code, *arguments)
    output, _ = await process.communicate()
    assert process.returncode == status
    return output.decode().strip()
