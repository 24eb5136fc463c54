"""A program that makes checkpoints, forks and restores as fast as it can, until it is killed.

`python -m tests.crash.turning STORE` prints a line when it begins.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import weft
from tests.programs import impatient

go = weft.Mailbox("turning.go", str)
NAME = "there"


@weft.step
def log(tag: str) -> str:
    with Path(os.environ["WEFT_CRASH_LOG"]).open("a") as file:
        file.write(f"{tag}\n")
    return tag


@weft.workflow
async def kid(n: int) -> list[str]:
    found = [await log(f"kid {n}"), weft.current().id]
    return [*found, await go.receive()]


@weft.workflow
async def turns() -> list[list[str]]:
    await log("top")
    kids = [await weft.spawn(kid, n) for n in range(2)]
    large = await log(" ".join(kid.id for kid in kids) + "." * 20_000)
    await go.receive()
    return [await kid for kid in kids if kid.id in large]


async def work(store: str) -> None:
    async with weft.Runtime(impatient(store)) as runtime:
        run = await runtime.start(turns.options(key="turns"))
        while len((await runtime.store.subtree(run.id)).rows) < 3 or runtime.active:
            await asyncio.sleep(0.01)
        if not any(one.name == NAME for one in await runtime.checkpoints()):
            await runtime.checkpoint(run.id, NAME)
        print("begun", flush=True)
        while True:
            await runtime.restore(NAME)
            fork = await runtime.fork_checkpoint(NAME)
            await runtime.checkpoint(run.id)
            await runtime.signal(fork.id, "kill")
            await runtime.end_of(fork.id)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
