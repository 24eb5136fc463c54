"""Weft's store alone: journal records a second, committed as the runtime does, one batch of 1,000 after the other.

Variants say how many records a segment has. `1`: 1,000 processes take turns, each leaves a record in each batch, so
a record is a row as it is for the raw inserts beside it. `5`: 200 processes; `1000`: one process that makes a thousand
effects at once.
"""

from __future__ import annotations

import asyncio

from benchmarks.peers import STRICT, Clock, Order, Result, check, main
from weft.core.codec import encode, encode_args
from weft.core.ids import new_id
from weft.core.record import Outcome, encode_records
from weft.store import Batch, Segment, open_store

BATCH = 1000
PROCESSES = [new_id() for _ in range(BATCH)]


def outcome(number: int) -> Outcome:
    """What a step `value + 1` leaves in the journal."""
    now = 1_790_000_000.0 + number
    args = encode_args((number,), {}, "step")
    name, place = "benchmarks.peers.weft_.step", "weft_.py:52"
    return Outcome(now, number + 1, "step", name, place, args, encode(number + 1), started=now)


def encoded(number: int) -> bytes:
    return encode_records([outcome(number)])


async def journal(order: Order) -> Result:
    each = int(order.variant)
    processes = PROCESSES[: BATCH // each]
    store = open_store(order.url)
    loop = asyncio.get_running_loop()
    await store.register("bench", {})

    async def write(batches: list[list[list[Outcome]]]) -> None:
        """As the Committer does: the next batch is encoded and given when the one before is durable."""
        for turn, segments in enumerate(batches):
            done: asyncio.Future[BaseException | None] = loop.create_future()
            ready = [
                Segment(id, turn * each, encode_records(records))
                for id, records in zip(processes, segments, strict=True)
            ]
            store.commit(Batch(segments=ready), done.set_result)
            if error := await done:
                raise error

    turns = order.count // BATCH
    batches = [[[outcome(turn * each + n) for n in range(each)] for _ in processes] for turn in range(turns)]
    with Clock(turns * BATCH) as clock:
        await write(batches)
    segments = await store.segments(processes)
    check(len(segments), turns * len(processes))
    await store.close()
    return clock.result(STRICT, note=f"{len(segments):,} rows")


if __name__ == "__main__":
    main({"journal": lambda order: asyncio.run(journal(order))}, "")
