"""What lists and live views ask a store: rows by their place, and what journals have got since; on both stores."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from weft.core.record import Patch, decode_records, encode_records
from weft.store import Batch, ProcessRow, Segment, Store, open_store


def on(place: str, use: Callable[[Store], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        store = open_store(place)
        try:
            await store.register("somebody", {})
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(main())


async def commit(store: Store, batch: Batch) -> None:
    done: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
    store.commit(batch, done.set_result)
    assert await done is None


def segment(process: str, first: int, count: int) -> Segment:
    return Segment(process, first, encode_records([Patch(1.0, f"{first + at}") for at in range(count)]))


def test_growth_is_read_in_pieces_that_join(store: str) -> None:
    async def use(opened: Store) -> None:
        segments = [segment(one, at, 2) for one in ("a", "b", "c") for at in range(0, 10, 2)]
        await commit(opened, Batch(rows={one: ProcessRow(id=one, workflow="w") for one in "abc"}, segments=segments))
        lengths = {"a": 0, "b": 4, "c": 10, "nobody": 0}
        found: list[str] = []
        while pieces := await opened.growth(lengths, 3):
            assert len(pieces) <= 3
            for one in pieces:
                assert one.first == lengths[one.process]  # nothing is left out, and nothing comes twice
                records = decode_records(one.records)
                lengths[one.process] += len(records)
                found += [f"{one.process}{record.id}" for record in records if isinstance(record, Patch)]
        assert lengths == {"a": 10, "b": 10, "c": 10, "nobody": 0}
        assert sorted(found) == sorted([f"a{n}" for n in range(10)] + [f"b{n}" for n in range(4, 10)])
        assert await opened.growth({}, 3) == []

    on(store, use)


def test_rows_are_listed_from_a_place_on(store: str) -> None:
    async def use(opened: Store) -> None:
        for number in range(7):
            row = ProcessRow(
                id=f"r{number}", workflow="even" if number % 2 == 0 else "odd", created=float(number),
                parent="r0" if number == 3 else None, state="done" if number < 5 else "running",
            )  # fmt: skip
            await commit(opened, Batch(rows={row.id: row}))

        async def ids(**terms: Any) -> list[str]:
            return [row.id for _, row in await opened.listed(**terms)]

        assert await ids() == [f"r{number}" for number in (6, 5, 4, 3, 2, 1, 0)]
        assert await ids(roots=True, limit=4) == ["r6", "r5", "r4", "r2"]
        assert await ids(states=["running"]) == ["r6", "r5"] and await ids(workflow="odd") == ["r5", "r3", "r1"]
        assert await ids(since=2.0, until=4.0) == ["r3", "r2"]
        first = await opened.listed(limit=3)
        assert await ids(after=first[-1][0]) == ["r3", "r2", "r1", "r0"]
        assert await ids(after=first[-1][0], states=["done"], roots=True, limit=1) == ["r2"]

    on(store, use)
