"""Programs to be killed: every construct a body may use, with steps that leave a line in a file outside the journal.

What they return does not depend on the schedule, so a crashed run must return what an uncrashed one does.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import weft

LOG = os.environ.get("WEFT_CRASH_LOG", os.devnull)


def mark(tag: str) -> None:
    """One execution, seen from outside: a single appending write survives SIGKILL."""
    descriptor = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{tag}\n".encode())
    os.close(descriptor)


@weft.step
async def work(tag: str, seconds: float = 0.002) -> str:
    mark(tag)
    await asyncio.sleep(seconds)
    return tag


@weft.step(effect="pure")
async def think(tag: str) -> str:
    mark(tag)
    return tag


@weft.step
def threaded(tag: str) -> str:
    mark(tag)
    time.sleep(0.002)
    return tag


@weft.step(effect="at_most_once", on_unknown="done")
async def once(tag: str) -> str | None:
    mark(f"once {tag}")
    await asyncio.sleep(0.003)
    return None


@weft.step(retries=weft.Retry(attempts=9, delay=0.002, on=(OSError,)))
async def flaky(tag: str) -> str:
    mark(f"flaky {tag}")
    lines = await asyncio.to_thread(lambda: Path(LOG).read_text().split("\n").count(f"flaky {tag}"))
    if lines < 3:
        raise OSError("not yet")
    return tag


@weft.workflow
async def fan(name: str) -> list[str]:
    first = await asyncio.gather(
        *(work(f"{name} a{i}") for i in range(6)), *(threaded(f"{name} t{i}") for i in range(3))
    )
    rest = [await think(f"{name} p{i}") for i in range(5)]
    await once(name)
    return sorted([*first, *rest, await flaky(name)])


@weft.workflow
async def races(name: str) -> list[str]:
    quick = asyncio.create_task(work(f"{name} quick", 0.001))
    slow = asyncio.create_task(work(f"{name} slow", 60))
    done, _ = await asyncio.wait([quick, slow], return_when=asyncio.FIRST_COMPLETED)
    slow.cancel()
    found = [task.result() for task in done]
    try:
        async with asyncio.timeout(0.01):
            await work(f"{name} late", 60)
    except TimeoutError:
        found.append(await work(f"{name} fallback"))
    lines: asyncio.Queue[str | None] = asyncio.Queue(2)

    async def produce() -> None:
        for i in range(4):
            await lines.put(await work(f"{name} q{i}"))
        await lines.put(None)

    async with asyncio.TaskGroup() as group:
        group.create_task(produce())
        while (line := await lines.get()) is not None:
            found.append(line)
    lock = asyncio.Lock()

    async def guarded(i: int) -> None:
        async with lock:
            found.append(await work(f"{name} l{i}"))

    await asyncio.gather(*(guarded(i) for i in range(3)))
    for next_done in asyncio.as_completed([work(f"{name} c{i}") for i in range(3)]):
        found.append(await next_done)
    return sorted(found)


@weft.workflow
async def leaf(name: str, n: int) -> str:
    await weft.sleep(0.002)
    return await work(f"{name} leaf{n}")


@weft.workflow
async def branch(name: str, n: int) -> list[str]:
    return [await leaf(f"{name} b{n}", 0), await leaf(f"{name} b{n}", 1)]


@weft.workflow
async def family(name: str) -> list[str]:
    spawned = [await weft.spawn(branch, name, i) for i in range(3)]
    mine = await work(f"{name} parent")
    doomed = await weft.spawn(forever, name)
    await doomed.cancel()
    found = [leaf for child in spawned for leaf in await child]
    return sorted([mine, *found])


@weft.workflow
async def forever(name: str) -> None:
    try:
        await weft.sleep(3600)
    finally:
        await work(f"{name} cleaned")


letters = weft.Mailbox("letters", str)


@weft.workflow
async def writer(name: str, to: str) -> None:
    for i in range(4):
        await letters.send(to, await work(f"{name} letter{i}"))
    await weft.publish(f"done {name}", weft.random() < 2)


@weft.workflow
async def reader(name: str) -> list[str]:
    await weft.detach(writer, name, weft.current().id)
    found = [await letters.receive() for _ in range(4)]
    assert await weft.wait_for(f"done {name}") is True
    before = weft.now()
    await asyncio.sleep(0.005)
    assert weft.now() >= before
    return [*found, await work(f"{name} end")]


PROGRAMS = (fan, races, family, reader)
