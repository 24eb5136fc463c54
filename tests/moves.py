"""Runs of every kind to move between stores, and what can be asked of the two ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import weft
from tests.programs import note, parked
from weft.store import Store, open_store
from weft.store.base import MOVED, UNFINISHED, Batch
from weft.store.copy import Report, copy
from weft.store.copy.digest import Content, contents
from weft.store.postgres import PostgresOptions

T = TypeVar("T")

box = weft.Mailbox("moves", int)
later = weft.Mailbox("moves-later", int)
nobody = weft.Queue("moves-nobody", concurrency=2)


@weft.step
async def large(size: int) -> bytes:
    return b"x" * size


@weft.step
async def stalls() -> None:
    """Interrupted the first time."""
    await note("stalls")
    if not stalled:
        stalled.append(True)
        await asyncio.sleep(60)


stalled: list[bool] = []


@weft.workflow
async def ends(value: Any) -> Any:
    return await note(value)


@weft.workflow
async def breaks(value: Any) -> None:
    await note(value)
    raise LookupError(f"no {value}")


@weft.workflow
async def carries(size: int) -> bytes:
    data = await large(size)
    await note(len(data))
    return data


@weft.workflow
async def dozes(seconds: float) -> str:
    await note("dozes")
    await weft.sleep(seconds)
    return str(await note("woke"))


@weft.workflow
async def adds(name: str) -> list[int]:
    """Parks until one letter comes; then there are three more."""
    await note(f"{name} began")
    data = await large(50_000)
    first = await box.receive()
    rest = [await later.receive() for _ in range(3)]
    await note(f"{name} got {len(data)}")
    return [first, *rest]


@weft.workflow
async def listens(key: str) -> Any:
    await note(f"listens to {key}")
    return await weft.wait_for(key)


@weft.workflow
async def tells(key: str, value: Any) -> None:
    await weft.publish(key, value)


@weft.workflow
async def gets(count: int) -> list[int]:
    return [await box.receive() for _ in range(count)]


@weft.workflow
async def pair() -> int:
    one, other = await weft.spawn(gets, 1), await weft.spawn(gets, 1)
    await note("spawned")
    return (await one)[0] + (await other)[0]


@weft.workflow
async def hurried() -> str:
    await note("before")
    await stalls()
    return "after"


async def populate(runtime: weft.Runtime) -> dict[str, str]:
    """Runs of every kind, by name; those of `waits` go on when the world says so."""
    ids: dict[str, str] = {}
    for name, workflow, args in (
        ("done", ends, ("done",)), ("failed", breaks, ("failed",)), ("large", carries, (300_000,)),
        ("told", tells, ("known", {"a": 1})), ("shared", carries, (300_000,)),
    ):  # fmt: skip
        run = await runtime.start(workflow, *args)  # type: ignore[arg-type]
        await asyncio.gather(run.result(), return_exceptions=True)
        ids[name] = run.id
    for name, workflow, args in (
        ("dozing", dozes, (3,)), ("reading", adds, ("reading",)), ("listening", listens, ("coming",)),
        ("family", pair, ()), ("stopped", gets, (1,)), ("keyed", gets.options(key="once", tenant="t"), (2,)),
    ):  # fmt: skip
        ids[name] = (await runtime.start(workflow, *args)).id  # type: ignore[arg-type]
    await runtime.cancel(ids["stopped"])
    ids["fork"] = (await runtime.fork(ids["done"], at=1)).id
    await runtime.end_of(ids["fork"])
    ids["queued"] = (await runtime.submit(ends.options(queue=nobody, priority=7), "queued")).id
    for name in ("dozing", "reading", "listening", "family", "keyed"):
        await parked(runtime, ids[name])
    for number in (11, 12, 13):
        await runtime.send(ids["reading"], "moves-later", number)
    ids["hurried"] = (await runtime.start(hurried)).id
    await asyncio.sleep(0.1)
    return ids


WAITING = ("dozing", "reading", "listening", "family", "keyed", "queued", "hurried")


async def go_on(runtime: weft.Runtime, ids: dict[str, str]) -> dict[str, Any]:
    """Finish what `populate` began, here; the results."""
    runs = {run.id: run for run in await runtime.resume_all()}
    await runtime.send(ids["reading"], "moves", 10)
    await runtime.run(tells, "coming", "came")
    for child in await runtime.store.rows(parent=ids["family"]):
        await runtime.send(child.id, "moves", 100)
    for number in (1, 2):
        await runtime.send(ids["keyed"], "moves", number)
    return {name: await runs[ids[name]] for name in WAITING}


RESULTS = {
    "dozing": "woke", "reading": [10, 11, 12, 13], "listening": "came", "family": 200, "keyed": [1, 2],
    "queued": "queued", "hurried": "after",
}  # fmt: skip
RAN = Counter({
    "done": 2, "failed": 1, 300_000: 2, "dozes": 1, "woke": 1, "reading began": 1, "reading got 50000": 1,
    "listens to coming": 1, "spawned": 1, "queued": 1, "before": 1, "stalls": 2,
})  # fmt: skip
"""What `note` is given, here and there together: once by each step, but for a fork's and one that is interrupted."""


# --- the two ends ---------------------------------------------------------------------------------------------


def opened(place: str) -> Store:
    """A dead owner is known to be dead there within 2 s."""
    return open_store(place, options=PostgresOptions(heartbeat=1.0))


def move(source: str, target: str, **options: Any) -> Report:
    async def main() -> Report:
        here, there = opened(source), opened(target)
        try:
            return await copy(here, there, **options)
        finally:
            await here.close()
            await there.close()

    return asyncio.run(main())


def asked(place: str, question: Callable[[Store], Awaitable[T]]) -> T:
    async def main() -> T:
        store = opened(place)
        try:
            return await question(store)
        finally:
            await store.close()

    return asyncio.run(main())


def inside(place: str) -> dict[str, Content]:
    """All processes of a store, with all that belongs to them."""

    async def look(store: Store) -> dict[str, Content]:
        found: dict[str, Content] = {}
        after = 0
        while families := await store.families(after):
            after = families[-1].at
            found |= contents(await store.about([id for family in families for id in family.sizes]))
        return found

    return asked(place, look)


def digests(place: str, *states: str) -> dict[str, bytes]:
    """Of the processes in these states, or of all but those that have left."""
    everything = inside(place)
    return {
        id: content.digest
        for id, content in everything.items()
        if (content.state in states if states else content.state != MOVED)
    }


def executable(place: str) -> set[str]:
    return {id for id, content in inside(place).items() if content.state in UNFINISHED}


def states(place: str) -> dict[str, str]:
    return {id: content.state for id, content in inside(place).items()}


async def write(store: Store, **fields: Any) -> None:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    store.commit(Batch(**fields), lambda error: done.set_exception(error) if error else done.set_result(None))
    await done
