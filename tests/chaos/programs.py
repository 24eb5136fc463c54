"""Programs to be run by workers that die, freeze and lose their server.

Each execution of a step leaves two lines in a file outside the journal, by one clock for the machine, and returns a
*token* that no other execution returns. A body returns the tokens it saw, and what it made of them without what makes
them unique: the latter is the same however often its workers died.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import weft

NARROW = weft.Queue("narrow", concurrency=3)
PACED = weft.Queue("paced", rate=(30, 1.0))
BOTH = weft.Queue("both", concurrency=2, rate=(20, 0.5))
CREW = weft.Queue("crew", concurrency=4)
BEAT = weft.Queue("beat", rate=(20, 0.5))
SIDE = weft.Queue("side")
QUEUES = ("default", "side", "crew", "beat")
"""Whose processes the workers take in."""

_numbers = itertools.count()
Result = dict[str, list[str]]


def log() -> str:
    return os.environ.get("WEFT_CHAOS_LOG", os.devnull)


def mark(*words: object) -> None:
    """A line that survives SIGKILL: one appending write."""
    descriptor = os.open(log(), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, ("\t".join(map(str, words)) + "\n").encode())
    os.close(descriptor)


@contextmanager
def executed(tag: str, after: str = "") -> Iterator[str]:
    """The token of this execution. `after`: the token that its caller had seen."""
    token = f"{tag}#{os.getpid()}.{next(_numbers)}"
    mark("in", token, time.monotonic_ns(), after)
    try:
        yield token
    finally:
        mark("out", token, time.monotonic_ns(), "")


@weft.step
async def work(tag: str, after: str = "", seconds: float = 0.005) -> str:
    with executed(tag, after) as token:
        await asyncio.sleep(seconds)
        return token


@weft.step(effect="pure")
async def think(tag: str) -> str:
    with executed(tag) as token:
        return token


@weft.step
def threaded(tag: str, after: str = "") -> str:
    with executed(tag, after) as token:
        time.sleep(0.005)
        return token


@weft.step(effect="at_most_once", on_unknown="done")
async def once(tag: str, after: str = "") -> None:
    with executed(f"once {tag}", after):
        await asyncio.sleep(0.01)


@weft.step(effect="at_most_once", on_unknown="done", queue=NARROW)
async def once_narrow(tag: str) -> None:
    with executed(f"once {tag}"):
        await asyncio.sleep(0.02)


@weft.step(retries=weft.Retry(attempts=50, delay=0.01, backoff=1.5, max_delay=0.1, on=(OSError,)))
async def flaky(tag: str) -> str:
    """Fails twice, wherever it is tried."""
    with executed(tag) as token:
        descriptor = os.open(f"{log()}.{tag.replace(' ', '_')}", os.O_RDWR | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, b".")
        tries = os.fstat(descriptor).st_size
        os.close(descriptor)
        if tries < 3:
            raise OSError("not yet")
        return token


@weft.step(queue=NARROW)
async def narrow(tag: str) -> str:
    with executed(tag) as token:
        await asyncio.sleep(0.03)
        return token


@weft.step(queue=PACED)
async def paced(tag: str) -> str:
    with executed(tag) as token:
        return token


@weft.step(queue=BOTH, priority=2)
async def both(tag: str) -> str:
    with executed(tag) as token:
        await asyncio.sleep(0.02)
        return token


def plain(token: str) -> str:
    return token.partition("#")[0]


def report(seen: list[str], *more: str) -> Result:
    """`seen`: tokens of this body's own steps."""
    return {"seen": seen, "value": [*sorted(map(plain, seen)), *more]}


@weft.workflow
async def chain(name: str) -> Result:
    seen = [await work(f"{name} s0")]
    for i in range(1, 9):
        step: Any = (work, threaded)[i % 2]
        seen.append(await step(f"{name} s{i}", seen[-1]))
        seen.append(await think(f"{name} think{i}"))
    return report(seen)


@weft.workflow
async def fan(name: str) -> Result:
    seen = await asyncio.gather(
        *(work(f"{name} a{i}") for i in range(8)), *(threaded(f"{name} t{i}") for i in range(3)), flaky(f"{name} flaky")
    )
    await once(name, seen[0])
    return report([*seen, await work(f"{name} last", seen[-1])])


@weft.workflow
async def leaf(name: str) -> Result:
    await weft.sleep(0.02)
    return report([await work(f"{name} leaf")])


@weft.workflow
async def branch(name: str) -> Result:
    found = await asyncio.gather(*(leaf(f"{name}.{i}") for i in range(2)))
    return report([await work(f"{name} branch")], *(word for child in found for word in child["value"]))


@weft.workflow
async def family(name: str) -> Result:
    children = [await weft.spawn(branch.options(queue=SIDE, tenant=f"t{i}"), f"{name}/{i}") for i in range(2)]
    mine = await work(f"{name} parent")
    doomed = await weft.spawn(forever.options(queue=SIDE), name)
    await doomed.cancel()
    found = [await child for child in children]
    return report([mine], *(word for child in found for word in child["value"]))


@weft.workflow
async def forever(name: str) -> None:
    await weft.sleep(3600)


@weft.workflow
async def sleeper(name: str, seconds: float = 2.2) -> Result:
    """Its sleep is longer than what a process stays in memory for."""
    before = weft.now()
    await weft.sleep(0.1)
    first = await work(f"{name} awake")
    try:
        async with asyncio.timeout(0.05):
            await asyncio.sleep(60)
    except TimeoutError:
        pass
    await weft.sleep(seconds)
    slept = (weft.now() - before).total_seconds()
    return report([first, await work(f"{name} end", first)], str(slept >= seconds + 0.15))


letters = weft.Mailbox("letters", str)


@weft.workflow
async def writer(name: str, to: str) -> Result:
    seen = []
    for i in range(4):
        seen.append(await work(f"{name} letter{i}"))
        await letters.send(to, seen[-1])
    await weft.sleep(0.05)
    await weft.publish(f"done {name}", weft.random() < 2)
    return report(seen)


@weft.workflow
async def reader(name: str) -> Result:
    await weft.detach(writer.options(queue=SIDE), name, weft.current().id)
    found = [await letters.receive() for _ in range(4)]
    happened = await weft.wait_for(f"done {name}")
    return report([await work(f"{name} read", found[-1])], *map(plain, found), str(happened))


@weft.workflow
async def limited(name: str) -> Result:
    seen = await asyncio.gather(
        *(narrow(f"{name} narrow{i}") for i in range(3)),
        *(paced(f"{name} paced{i}") for i in range(2)),
        both(f"{name} both"),
    )
    await once_narrow(f"{name} narrow")
    return report(seen)


@weft.workflow
async def crewed(name: str) -> Result:
    """In a queue of its own, by `submit`: it holds a place from its first step to its last."""
    first = await work(f"{name} crew first")
    await weft.sleep(0.03)
    return report([first, await work(f"{name} crew last", first)])


@weft.workflow
async def ticked(name: str) -> Result:
    return report([await work(f"{name} tick")])


PROGRAMS = (chain, fan, family, sleeper, reader, limited, crewed, ticked)


def options(number: int) -> Any:
    """Program `number` as it is submitted."""
    program = PROGRAMS[number % len(PROGRAMS)]
    if program is crewed:
        return crewed.options(queue=CREW, tenant=f"tenant{number % 3}", priority=number % 2)
    return ticked.options(queue=BEAT) if program is ticked else program
