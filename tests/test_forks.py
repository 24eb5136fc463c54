"""A run met again: by its key, by a fork of it, by code that has changed, by an observer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import weft
from tests.programs import drive, fresh, note, ran  # noqa: F401
from weft.core.errors import BadInput, Divergence, KeyConflict
from weft.core.record import AnyRecord
from weft.store.base import ProcessRow

switch = {"new": False}
"""Whether the code is as it was, or has changed."""


@pytest.fixture(autouse=True)
def unchanged() -> None:
    switch["new"] = False


@weft.workflow
async def same(value: int) -> int:
    return int(await note(value))


def test_a_key_starts_one_run_only(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        first = await runtime.start(same.options(key="k"), 1)
        second = await runtime.start(same.options(key="k"), 1)
        assert first.id == second.id and await second == 1 and ran == [1]
        with pytest.raises(KeyConflict, match="another key"):
            await runtime.start(same.options(key="k"), 2)

    drive(store, use)
    assert drive(store, lambda r: r.run(same.options(key="k"), 1)) == 1 and ran == [1]


def test_a_key_starts_one_body_however_late_the_store_answers(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        insert = runtime.store.insert

        async def late(row: ProcessRow) -> ProcessRow | None:
            known = await insert(row)
            await runtime.recovery.reconcile()  # as when a connection was lost: what else is ours?
            await asyncio.sleep(0.02)
            return known

        runtime.store.insert = late  # type: ignore[method-assign]
        runs = await asyncio.gather(*(runtime.start(same.options(key="k"), 1) for _ in range(3)))
        assert len({run.id for run in runs}) == 1
        assert [await run for run in runs] == [1, 1, 1] and ran == [1]

    drive(store, use)


@weft.workflow
async def evolving(value: int) -> list[Any]:
    found = [await note(f"a{value}")]
    found.append(await note("new" if switch["new"] else "old"))
    return [*found, await note("end")]


@weft.workflow
async def careful() -> Any:
    await note("before")
    if switch["new"] and weft.patched("newer"):
        return await note("new")
    return await note("old")


def test_forks_travel_in_time(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(evolving, 1)
        assert await run == ["a1", "old", "end"]
        switch["new"] = True
        ran.clear()
        assert await (await runtime.fork(run.id, at=2)) == ["a1", "new", "end"] and ran == ["new", "end"]
        assert await (await runtime.fork(run.id, at=2, value="given")) == ["a1", "given", "end"]
        assert await (await runtime.fork(run.id, at=2, input=((9,), {}))) == ["a1", "new", "end"]
        assert await (await runtime.fork(run.id, at=1, input=((9,), {}))) == ["a9", "new", "end"]
        second = await runtime.fork(run.id, at=2, input=((9,), {}))
        await second
        assert await (await runtime.fork(second.id, at=3)) == ["a1", "new", "end"]  # a fork of a fork
        with pytest.raises(BadInput, match="no effect 17"):
            await runtime.fork(run.id, at=17)
        with pytest.raises(Divergence) as caught:
            await (await runtime.fork(run.id, at=3))
        for words in ("effect 2", "note('old')", "note('new')", "test_forks.py:", "weft.patched", "weft fork"):
            assert words in str(caught.value)
        assert await run == ["a1", "old", "end"]  # the origin is untouched

    drive(store, use)


def test_patched_lets_old_runs_be_old(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(careful)
        assert await run == "old"
        records = len(await runtime.recovery.records(run.id))
        switch["new"] = True
        assert records == 3 and await runtime.run(careful) == "new"
        assert await (await runtime.fork(run.id, at=2)) == "new"  # had not passed that point
        return run.id

    drive(store, use)


def test_observers_see_every_record(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        seen: list[AnyRecord] = []
        runtime.observe(lambda id, record: seen.append(record))
        run = await runtime.start(evolving, 1)
        await run
        assert seen == await runtime.recovery.records(run.id)

    drive(store, use)
