"""Processes: paused and resumed, killed, ended from anywhere, gone on as another program, with a budget."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import weft
from weft.core.errors import BadInput, BudgetExceeded, Cancelled, Denied
from weft.core.record import Outcome
from weft.store import open_store
from weft.trace.audit import verify

ran: list[Any] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    ran.clear()


def drive(store: str, use: Callable[[weft.Runtime], Awaitable[Any]], **options: Any) -> Any:
    async def main() -> Any:
        async with weft.Runtime(store, **options) as runtime:
            return await use(runtime)

    return asyncio.run(main())


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await true():
            await asyncio.sleep(0.02)


async def state(runtime: weft.Runtime, id: str) -> str:
    await runtime.journal.barrier()
    row = await runtime.store.row(id)
    assert row is not None
    return row.state


@weft.step
async def slow(value: int, seconds: float = 0.3) -> int:
    ran.append(("in", value))
    await asyncio.sleep(seconds)
    ran.append(("out", value))
    return value


@weft.step
async def note(value: Any) -> Any:
    ran.append(value)
    return value


@weft.workflow
async def chain(count: int) -> list[int]:
    return [await slow(n, 1.0 if n == 1 else 0.3) for n in range(count)]


# --- pause and resume -----------------------------------------------------------------------------------------------


def test_a_paused_process_ends_its_step_begins_no_other_and_goes_on_when_told(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(chain, 4)
        await until(lambda: _true(("in", 1) in ran))
        await runtime.signal(run.id, "pause")
        await until(lambda: _is(runtime, run.id, "paused"))
        assert ran == [("in", 0), ("out", 0), ("in", 1), ("out", 1)]
        await asyncio.sleep(0.5)
        assert len(ran) == 4
        assert await run.status() == "paused"
        await runtime.resume(run.id)
        assert await run == [0, 1, 2, 3]
        assert len(ran) == 8

    drive(store, use)


async def _true(value: bool) -> bool:
    return value


async def _is(runtime: weft.Runtime, id: str, wanted: str) -> bool:
    return await state(runtime, id) == wanted


@weft.workflow
async def sleeper() -> str:
    await note("before")
    await weft.sleep(3)
    await note("after")
    return "awake"


def test_a_parked_process_can_be_paused_and_sleeps_on_afterwards(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(sleeper)
        await until(lambda: _is(runtime, run.id, "waiting"))
        await runtime.signal(run.id, "pause")
        await until(lambda: _is(runtime, run.id, "paused"))
        await asyncio.sleep(3.2)
        assert ran == ["before"]
        await runtime.resume(run.id)
        assert await run == "awake"

    drive(store, use)


def test_a_paused_process_outlives_its_runtime_and_is_not_resumed_by_chance(store: str) -> None:
    async def begin(runtime: weft.Runtime) -> str:
        run = await runtime.start(chain, 3)
        await until(lambda: _true(("in", 0) in ran))
        await runtime.signal(run.id, "pause")
        await until(lambda: _is(runtime, run.id, "paused"))
        return run.id

    id = drive(store, begin)

    async def others(runtime: weft.Runtime) -> None:
        assert await runtime.resume_all() == []
        await asyncio.sleep(0.3)
        assert await state(runtime, id) == "paused"

    drive(store, others, queues=["default"])

    async def go_on(runtime: weft.Runtime) -> Any:
        return await (await runtime.resume(id))

    assert drive(store, go_on) == [0, 1, 2]
    assert ran.count(("in", 0)) == 1


def test_a_run_that_never_began_can_be_paused_and_handed_to_the_workers_again(store: str) -> None:
    async def use(runtime: weft.Runtime) -> str:
        run = await runtime.submit(chain, 1)
        await runtime.signal(run.id, "pause")
        await until(lambda: _is(runtime, run.id, "paused"))
        return run.id

    id = drive(store, use)
    assert ran == []

    async def work(runtime: weft.Runtime) -> Any:
        await asyncio.sleep(0.3)
        assert await state(runtime, id) == "paused"
        await runtime.signal(id, "resume")
        row = await runtime.end_of(id)
        return row.state

    assert drive(store, work, queues=["default"]) == "done"


@weft.workflow
async def parent(count: int) -> list[Any]:
    return await asyncio.gather(*(chain(count) for _ in range(2)))


def test_a_tree_is_paused_and_its_children_go_on_after_it(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(parent, 3)
        await until(lambda: _true(ran.count(("in", 0)) == 2))
        await runtime.signal(run.id, "pause", tree=True)
        children = await runtime.store.rows(parent=run.id)
        ids = [run.id, *(child.id for child in children)]
        for id in ids:
            await until(lambda id=id: _is(runtime, id, "paused"))  # type: ignore[misc]
        before = list(ran)
        await asyncio.sleep(0.4)
        assert ran == before
        for id in reversed(ids):
            await runtime.resume(id)
        assert await run == [[0, 1, 2]] * 2
        assert ran.count(("out", 0)) == 2

    drive(store, use)


# --- kill -----------------------------------------------------------------------------------------------------------


@weft.workflow
async def stubborn() -> None:
    try:
        await slow(1, 30)
    finally:
        await note("cleaned up")


@weft.workflow
async def over_stubborn() -> None:
    await stubborn()


def test_a_killed_process_is_over_at_once_and_takes_those_below_it_along(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(over_stubborn)
        await until(lambda: _true(("in", 1) in ran))
        await runtime.signal(run.id, "kill")
        with pytest.raises(Cancelled, match="killed"):
            await run
        [child] = await runtime.store.rows(parent=run.id)
        await until(lambda: _is(runtime, child.id, "killed"))
        assert await state(runtime, run.id) == "killed"
        assert ran == [("in", 1)]
        await runtime.signal(run.id, "kill")  # once more changes nothing
        assert await runtime.resume_all() == []

    drive(store, use)
    assert _flaws(store) == []


def test_a_parent_sees_that_its_child_was_killed(store: str) -> None:
    @weft.workflow(name="sees_it")
    async def sees_it() -> str:
        child = await weft.spawn(stubborn)
        await weft.publish("child", child.id)
        try:
            await child
        except Cancelled as error:
            return str(error)
        return "?"

    async def use(runtime: weft.Runtime) -> str:
        run = await runtime.start(sees_it)
        await until(lambda: _true(("in", 1) in ran))
        [child] = await runtime.store.rows(parent=run.id)
        await runtime.signal(child.id, "kill")
        return await run

    assert "was killed" in drive(store, use)


def test_a_paused_process_and_one_that_nobody_executes_can_be_killed(store: str) -> None:
    async def begin(runtime: weft.Runtime) -> tuple[str, str]:
        one, other = await runtime.start(chain, 3), await runtime.start(sleeper)
        await until(lambda: _true(("in", 0) in ran and "before" in ran))
        await runtime.signal(one.id, "pause")
        await until(lambda: _is(runtime, one.id, "paused"))
        return one.id, other.id

    ids = drive(store, begin)

    async def kill(runtime: weft.Runtime) -> None:
        for id in ids:
            await runtime.signal(id, "kill")
            assert (await runtime.end_of(id)).state == "killed"

    drive(store, kill)


def test_what_is_no_signal_is_refused(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(chain, 1)
        with pytest.raises(BadInput, match="there are pause, resume, kill"):
            await runtime.signal(run.id, "stop")  # type: ignore[arg-type]
        with pytest.raises(weft.WeftError, match="no run 'nobody'"):
            await runtime.signal("nobody", "kill")
        await run

    drive(store, use)


# --- exit and exec --------------------------------------------------------------------------------------------------


@weft.workflow
async def leaves() -> str:
    async def deep() -> None:
        await note("deep")
        weft.exit("left")

    async with asyncio.TaskGroup() as group:
        group.create_task(deep())
        group.create_task(slow(1, 30))
    return "returned"


def test_exit_ends_a_process_from_anywhere(store: str) -> None:
    assert drive(store, lambda runtime: runtime.run(leaves)) == "left"
    assert ran[0] == "deep" or ran[1] == "deep"
    assert ("out", 1) not in ran


@weft.workflow
async def generation(number: int, last: int) -> Any:
    await note(number)
    if number < last:
        await weft.exec(generation, number + 1, last)
    return await patient(number)


@weft.workflow
async def patient(number: int) -> Any:
    await weft.sleep(0.05)
    return number


def test_exec_goes_on_as_another_program_under_the_same_id_and_never_replays_the_old_one(store: str) -> None:
    async def begin(runtime: weft.Runtime) -> str:
        run = await runtime.start(second_life, "a" * 20_000)
        await until(lambda: _is(runtime, run.id, "waiting"))
        return run.id

    id = drive(store, begin)
    assert ran == ["first", "second"]

    async def go_on(runtime: weft.Runtime) -> Any:
        run = await runtime.resume(id)
        await runtime.send(id, "go", "on")
        return await run

    assert drive(store, go_on) == ("on", 20_000)
    assert ran == ["first", "second", "third"]
    assert _flaws(store) == []


go = weft.Mailbox("go", str)


@weft.workflow
async def second_life(text: str) -> None:
    await note("first")
    await weft.exec(waits_there, text)


@weft.workflow
async def waits_there(text: str) -> tuple[str, int]:
    await note("second")
    letter = await go.receive()
    await note("third")
    return letter, len(text)


def test_exec_again_and_again(store: str) -> None:
    async def use(runtime: weft.Runtime) -> Any:
        run = await runtime.start(generation, 0, 30)
        result = await run
        return result, await runtime.recovery.records(run.id)

    result, records = drive(store, use)
    assert result == 30
    assert ran == list(range(31))
    assert sum(isinstance(record, Outcome) and record.kind == "exec" for record in records) == 30


@weft.step
def read(path: str) -> str:
    return Path(path).read_text()


@weft.workflow
async def reads(path: str) -> str:
    return await read(path)


@weft.workflow
async def drops_rights(path: str) -> Any:
    await weft.exec(reads.options(rights=["step:**"]), path)


def test_exec_may_drop_rights_and_never_gets_more(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("a")
    monkeypatch.delenv("WEFT_POLICY")
    monkeypatch.chdir(tmp_path)
    assert drive(store, lambda runtime: runtime.run(reads, "a.txt")) == "a"
    with pytest.raises(Denied, match=r"file\.read"):
        drive(store, lambda runtime: runtime.run(drops_rights, "a.txt"))


def _flaws(store: str) -> list[Any]:
    async def main() -> list[Any]:
        opened = open_store(store)
        try:
            return [flaw async for _, flaws in verify(opened) for flaw in flaws]
        finally:
            await opened.close()

    return asyncio.run(main())


# --- budgets --------------------------------------------------------------------------------------------------------


@weft.step(cost=lambda tokens, **_: {"tokens": tokens})
async def generate(tokens: int, used: int | None = None) -> int:
    ran.append(tokens)
    if used is not None:
        weft.charge(tokens=used)
    return tokens


@weft.workflow
async def spender(calls: list[tuple[int, int | None]]) -> list[Any]:
    found: list[Any] = []
    for tokens, used in calls:
        try:
            found.append(await generate(tokens, used))
        except BudgetExceeded as error:
            found.append((error.kind, error.left))
    return found


def test_a_step_reserves_the_most_it_may_cost_and_pays_what_it_did(store: str) -> None:
    limited = spender.options(budget=weft.Budget(tokens=100))
    found = drive(store, lambda runtime: runtime.run(limited, [(60, 10), (80, 80), (20, None), (1, 1)]))
    assert found == [60, 80, ("tokens", 10.0), 1]
    assert ran == [60, 80, 1]


@weft.workflow
async def family(own: float | None) -> list[Any]:
    child = spender if own is None else spender.options(budget=weft.Budget(tokens=own))
    return await asyncio.gather(*(child([(30, 30), (30, 30)]) for _ in range(3)))


def test_a_parents_budget_bounds_what_its_children_spend_together(store: str) -> None:
    limited = family.options(budget=weft.Budget(tokens=100))
    found = drive(store, lambda runtime: runtime.run(limited, None))
    assert len(ran) == 3
    assert sum(isinstance(one, int) for child in found for one in child) == 3


def test_a_childs_own_budget_binds_it_too(store: str) -> None:
    limited = family.options(budget=weft.Budget(tokens=1000))
    found = drive(store, lambda runtime: runtime.run(limited, 40))
    assert found == [[30, ("tokens", 10.0)]] * 3


def test_a_budget_of_effects_turns_and_children(store: str) -> None:
    @weft.workflow(name="counted")
    async def counted() -> list[str]:
        said = []
        for act in (lambda: note(1), lambda: note(2), lambda: weft.spend(turns=1), lambda: weft.spend(turns=1),
                    lambda: spender([]), lambda: spender([])):  # fmt: skip
            try:
                await act()
                said.append("ok")
            except BudgetExceeded as error:
                said.append(error.kind)
        return said

    limited = counted.options(budget=weft.Budget(effects=1, turns=1, children=1))
    assert drive(store, lambda runtime: runtime.run(limited)) == ["ok", "effects", "ok", "turns", "ok", "children"]


@weft.step
async def gate() -> None:
    """Ends only after the runtime was closed and another one opened."""
    ran.append("at the gate")
    await asyncio.sleep(0 if "again" in ran else 30)


def test_what_was_reserved_at_a_crash_is_not_reserved_twice(store: str) -> None:
    @weft.workflow(name="interrupted")
    async def interrupted() -> list[Any]:
        await generate(60, 60)
        await gate()
        return [await generate(30, 30)]

    async def begin(runtime: weft.Runtime) -> str:
        run = await runtime.start(interrupted.options(budget=weft.Budget(tokens=95, effects=3)))
        await until(lambda: _true("at the gate" in ran))
        return run.id

    id = drive(store, begin)
    ran.append("again")

    async def go_on(runtime: weft.Runtime) -> Any:
        run = await runtime.resume(id)
        result = await run
        return result, await runtime.ledger.left(id)

    assert drive(store, go_on) == ([30], {"tokens": 5.0, "effects": 0.0})


def test_a_budget_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput, match="tokens=-1"):
        weft.Budget(tokens=-1)
