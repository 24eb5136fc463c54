"""What the other processes of `benchmarks.observe.server` do.

python -m benchmarks.observe.runner beats STORE COUNT SECONDS [beside]    a run of COUNT steps of SECONDS each
python -m benchmarks.observe.runner viewers HOST RUN COUNT                COUNT viewers of a run, until killed
"""

from __future__ import annotations

import asyncio
import os
import struct
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import weft
from weft.core.codec import encode, encode_args
from weft.core.ids import new_id
from weft.core.record import AnyRecord, End, Outcome, encode_records
from weft.store import open_store
from weft.store.base import DONE, Batch, ProcessRow, Segment

TIMES = os.environ.get("WEFT_BENCH_TIMES", "")
"""A file to which each beat adds the moment of its end: doubles, one after the other."""
GROUP = 50
"""Records of a segment, as a busy run writes them."""

_ends = os.open(TIMES, os.O_CREAT | os.O_APPEND | os.O_WRONLY) if TIMES else None


@weft.step
async def beat(seconds: float) -> None:
    await asyncio.sleep(seconds)
    if _ends is not None:
        os.write(_ends, struct.pack("d", time.time()))


@weft.workflow
async def beats(count: int, seconds: float) -> None:
    await weft.sleep(0.5)  # effect 1: viewers come
    for _ in range(count):
        await beat(seconds)


async def execute(store: str, count: int, seconds: float, beside_it: bool) -> None:
    """Run the beats, with the page in a thread of this process if that is said; print the run's id and its host."""
    from weft.web.page.actions import OthersHands
    from weft.web.page.safety import Access
    from weft.web.page.serve import beside

    async with weft.Runtime(store) as runtime, AsyncExitStack() as stack:
        host = ""
        if beside_it:
            hands = OthersHands(lambda: runtime, asyncio.get_running_loop())
            page = beside(lambda: open_store(store), Access.at("127.0.0.1"), hands, "127.0.0.1", 0)
            host = (await stack.enter_async_context(page)).removeprefix("http://")
        run = await runtime.start(beats, count, seconds)
        await runtime.journal.barrier()
        print(run.id, host, flush=True)
        await run


async def watch(host: str, run: str, count: int) -> None:
    """So many viewers, who read and throw away, until the input ends; print how many bytes it was."""
    name, _, port = host.partition(":")
    question = f"GET /api/runs/{run}/live HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    readers: list[asyncio.StreamReader] = []
    writers = []  # or the connections would be closed
    for _ in range(count):
        reader, writer = await asyncio.open_connection(name, int(port))
        writer.write(question)
        readers.append(reader)
        writers.append(writer)
    for reader in readers:
        await reader.readuntil(b"event: hello")
    print("watching", flush=True)

    heard = [0]

    async def read(reader: asyncio.StreamReader) -> None:
        while data := await reader.read(1 << 16):
            heard[0] += len(data)

    reading = asyncio.gather(*map(read, readers))
    await asyncio.to_thread(sys.stdin.read)
    reading.cancel()
    print(heard[0], flush=True)


async def make_long(place: Path, effects: int) -> str:
    """The journal of a run of so many steps, written as a run writes it; its id."""
    store = open_store(place)
    id, began = new_id(), time.time() - effects * 0.001
    args, value = encode_args((1,), {}, "beat"), encode(None)
    records: list[AnyRecord] = [
        Outcome(began + at * 0.001, at, "step", "beat", "runner.py:31", args, value, started=began + (at - 1) * 0.001)
        for at in range(1, effects + 1)
    ]
    records.append(End(began + effects * 0.001, DONE, value))
    row = ProcessRow(
        id=id, workflow="beats", state=DONE, created=began, started=began, updated=began + effects * 0.001,
        length=len(records), result=value, input=args,
    )  # fmt: skip
    segments = [Segment(id, at, encode_records(records[at : at + GROUP])) for at in range(0, len(records), GROUP)]
    done: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
    store.commit(Batch(rows={id: row}, segments=segments), done.set_result)
    error = await done
    await store.close()
    if error is not None:
        raise error
    return id


if __name__ == "__main__":
    what, place, *words = sys.argv[1:]
    os.environ.setdefault("WEFT_POLICY", "all")
    if what == "beats":
        asyncio.run(execute(place, int(words[0]), float(words[1]), "beside" in words))
    else:
        asyncio.run(watch(place, words[0], int(words[1])))
