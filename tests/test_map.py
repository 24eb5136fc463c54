"""`weft.map`: how many calls are in flight and ahead of their reader, how it ends, and that it replays."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import weft
from weft.core.errors import BadInput, Cancelled, NoProcess
from weft.core.record import AnyRecord, Outcome
from weft.runtime.leaving import park


class Seen:
    """What the steps and the bodies of one test saw."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.ended: list[Any] = []
        self.cancelled: list[Any] = []
        self.read: list[Any] = []
        self.taken = 0
        self.flying = self.most = self.ahead = 0
        self.gate = asyncio.Event()

    def take(self, items: Iterator[int]) -> Iterator[int]:
        for item in items:
            self.taken += 1
            yield item


seen = Seen()


def drive(path: Path, use: Callable[[weft.Runtime], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        seen.__init__()  # type: ignore[misc]
        async with weft.Runtime(path / "journal.db", durability="process") as runtime:
            return await use(runtime)

    return asyncio.run(main())


@weft.step(effect="pure")
async def work(item: int, milliseconds: int = 0) -> int:
    seen.begun.append(item)
    seen.flying += 1
    seen.most = max(seen.most, seen.flying)
    seen.ahead = max(seen.ahead, len(seen.begun) - len(seen.read))
    try:
        await asyncio.sleep(milliseconds / 1000)
    except asyncio.CancelledError:
        seen.cancelled.append(item)
        raise
    finally:
        seen.flying -= 1
    return item * 10


@weft.step(effect="pure")
async def gated(item: int) -> int:
    """Item 0 comes at once, the others when the gate opens."""
    seen.begun.append(item)
    try:
        if item:
            await seen.gate.wait()
    except asyncio.CancelledError:
        seen.cancelled.append(item)
        raise
    return item * 10


@weft.step(effect="pure")
async def last_first(item: int) -> int:
    """Of items 1, 2, 3 the last ends first."""
    while len(seen.ended) % 3 != 3 - item:
        await asyncio.sleep(0.001)
    seen.ended.append(item)
    return item * 10


@weft.step(effect="pure")
async def shut(item: int) -> None:
    """Waits until `item` calls have begun."""
    while len(seen.begun) < item:
        await asyncio.sleep(0.001)


@weft.step(effect="pure")
async def settle(milliseconds: int) -> None:
    """Time in which calls could begin that must not."""
    await asyncio.sleep(milliseconds / 1000)


@weft.step
async def fails(item: int) -> int:
    seen.begun.append(item)
    if item == 2:
        raise ValueError("two")
    try:
        await asyncio.sleep(60 if item > 2 else 0)
    except asyncio.CancelledError:
        seen.cancelled.append(item)
        raise
    return item


@weft.step
def threaded(text: str) -> int:
    return len(text)


# --- results ------------------------------------------------------------------------------------------------------


@weft.workflow
async def forms(items: list[int]) -> dict[str, Any]:
    async def twice(item: int) -> int:
        return await work(item, 1) + await work(item)

    async def later() -> AsyncIterator[int]:
        for item in items:
            await work(item)
            yield item

    return {
        "list": await weft.map(work, items),
        "empty": await weft.map(work, []),
        "threads": await weft.map(threaded, ["a", "bb"]),
        "children": await weft.map(child, items, concurrency=2),
        "functions": await weft.map(twice, items, concurrency=2),
        "lambda": await weft.map(lambda item: work(item, 9 - item), items, concurrency=9),
        "asynchronous": await weft.map(work, later(), concurrency=2),
        "pairs": [pair async for pair in weft.map(work, items).items()],
        "nested": await weft.map(lambda n: weft.map(work, range(n)), items),
        "held back": await weft.map(last_first, items),
        "arrival": await weft.map(last_first, items, ordered=False),
        "arriving": [pair async for pair in weft.map(last_first, items, ordered=False).items()],
    }


@weft.workflow
async def child(item: int) -> int:
    return await work(item, 1) + 1


def test_results_come_in_order_or_as_they_arrive(tmp_path: Path) -> None:
    found = drive(tmp_path, lambda runtime: runtime.run(forms, [1, 2, 3]))
    assert found["list"] == found["lambda"] == found["asynchronous"] == found["held back"] == [10, 20, 30]
    assert found["empty"] == []
    assert found["threads"] == [1, 2] and found["children"] == [11, 21, 31] and found["functions"] == [20, 40, 60]
    assert found["pairs"] == [(1, 10), (2, 20), (3, 30)] and found["nested"] == [[0], [0, 10], [0, 10, 20]]
    assert found["arrival"] == [30, 20, 10] and found["arriving"] == [(3, 30), (2, 20), (1, 10)]


@weft.workflow
async def one_by_one() -> None:
    await weft.map(work, range(3))


def test_the_journal_names_the_line_of_the_body(tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(one_by_one)
        await run
        line = one_by_one.fn.__code__.co_firstlineno + 2
        records = await runtime.recovery.records(run.id)
        assert {r.place for r in records if isinstance(r, Outcome)} == {f"{__file__}:{line}"}

    drive(tmp_path, use)


# --- bounds -------------------------------------------------------------------------------------------------------


@weft.workflow
async def slow_reader(concurrency: int, ordered: bool) -> list[int]:
    results = aiter(weft.map(work, seen.take(iter(range(40))), concurrency=concurrency, ordered=ordered))
    seen.read.append(await anext(results))
    await shut(1 + 2 * concurrency)
    await settle(20)
    assert seen.taken == len(seen.begun) == 1 + 2 * concurrency
    assert seen.flying == 0
    async for result in results:
        seen.read.append(result)
    return seen.read


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("concurrency", [1, 3, 16])
def test_a_slow_reader_holds_up_the_calls(tmp_path: Path, concurrency: int, ordered: bool) -> None:
    read = drive(tmp_path, lambda runtime: runtime.run(slow_reader, concurrency, ordered))
    assert sorted(read) == [item * 10 for item in range(40)]
    assert seen.most <= concurrency and seen.ahead <= 2 * concurrency


def test_a_slow_first_item_holds_up_the_others_only_if_ordered(tmp_path: Path) -> None:
    @weft.step(effect="pure")
    async def first_waits(item: int) -> int:
        seen.begun.append(item)
        if item == 0:
            await seen.gate.wait()
        return item

    @weft.workflow
    async def reading(ordered: bool) -> list[int]:
        async for result in weft.map(first_waits, seen.take(count()), concurrency=2, ordered=ordered):
            seen.read.append(result)
            if len(seen.read) == 9:
                break
        return seen.read

    async def use(runtime: weft.Runtime) -> None:
        assert await runtime.run(reading, False) == list(range(1, 10))
        seen.__init__()  # type: ignore[misc]
        run = await runtime.start(reading, True)
        while len(seen.begun) < 4:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        assert seen.begun == [0, 1, 2, 3] and seen.read == [] and seen.taken == 4
        seen.gate.set()
        assert await run == list(range(9))

    drive(tmp_path, use)


@weft.workflow
async def many(ordered: bool) -> int:
    total = 0
    async for result in weft.map(work, seen.take(iter(range(20_000))), concurrency=100, ordered=ordered):
        seen.read.append(None)
        seen.ahead = max(seen.ahead, seen.taken - len(seen.read))
        total += result
    return total


@pytest.mark.parametrize("ordered", [True, False])
def test_20_000_items_need_a_window_of_them(tmp_path: Path, ordered: bool) -> None:
    pending = tasks = 0

    async def use(runtime: weft.Runtime) -> int:
        run = await runtime.start(many, ordered)
        process = runtime.active[run.id]

        def look(id: str, record: AnyRecord) -> None:
            nonlocal pending, tasks
            pending = max(pending, len(process.pending))
            if seen.taken % 100 == 0:
                tasks = max(tasks, len(process.loop.born))

        runtime.observe(look)
        return await run  # type: ignore[no-any-return]

    assert drive(tmp_path, use) == 10 * sum(range(20_000))
    assert 50 < pending <= 100 and seen.most <= 100 and seen.ahead <= 200
    assert 50 < tasks < 1000


# --- leaving ------------------------------------------------------------------------------------------------------


@weft.workflow
async def leaving(how: str) -> Any:
    async def read() -> Any:
        async for result in weft.map(gated, seen.take(count()), concurrency=3):
            await shut(4)
            if how == "break":
                break
            if how == "return":
                return result
            if how == "raise":
                raise ValueError("reader")
        return None

    found: Any = None
    if how == "aclose":
        async with aclosing(aiter(weft.map(gated, seen.take(count()), concurrency=3))) as results:
            found = await anext(results)
            await shut(4)
    elif how == "timeout":
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as limit:
                async for _ in weft.map(gated, seen.take(count()), concurrency=3):
                    await shut(4)
                    limit.reschedule(asyncio.get_running_loop().time())
    elif how == "raise":
        with pytest.raises(ValueError, match="reader"):
            await read()
    else:
        found = await read()
    await work(1000)
    return found


@pytest.mark.parametrize("how", ["break", "return", "raise", "aclose", "timeout"])
def test_leaving_early_cancels_what_is_in_flight(tmp_path: Path, how: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        assert await runtime.run(leaving, how) == (0 if how in ("return", "aclose") else None)
        assert sorted(seen.cancelled) == [1, 2, 3] and seen.begun == [0, 1, 2, 3, 1000] and seen.taken == 4

    drive(tmp_path, use)


@weft.workflow
async def hanging(item: int) -> int:
    return await gated(item)


@weft.workflow
async def first_child() -> int:
    async for result in weft.map(hanging, range(9), concurrency=3):
        await shut(4)
        return result
    raise AssertionError("no result")


def test_leaving_early_cancels_children(tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(first_child)
        assert await run == 0
        records = await runtime.recovery.records(run.id)
        children = [r.name for r in records if isinstance(r, Outcome) and r.kind == "cancel"]
        assert len(children) == 3 == len(seen.cancelled)
        assert [(await runtime.row(id)).state for id in children] == ["cancelled"] * 3

    drive(tmp_path, use)


def test_cancelling_the_run_cancels_the_calls(tmp_path: Path) -> None:
    @weft.workflow
    async def forever() -> None:
        await weft.map(gated, range(1, 100), concurrency=3)

    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(forever)
        while len(seen.begun) < 3:
            await asyncio.sleep(0.001)
        await run.cancel()
        with pytest.raises(Cancelled):
            await run
        assert sorted(seen.cancelled) == [1, 2, 3] == seen.begun

    drive(tmp_path, use)


# --- failing ------------------------------------------------------------------------------------------------------


@weft.workflow
async def failing(ordered: bool) -> list[Any]:
    found: list[Any] = []
    try:
        async for result in weft.map(fails, seen.take(count()), concurrency=4, ordered=ordered):
            found.append(result)
    except ValueError as error:
        found.append(str(error))
    return found


@pytest.mark.parametrize("ordered", [True, False])
def test_a_failing_call_cancels_the_others(tmp_path: Path, ordered: bool) -> None:
    async def use(runtime: weft.Runtime) -> None:
        found = await runtime.run(failing, ordered)
        assert found[-1] == "two" and set(found[:-1]) <= {0, 1}
        assert set(seen.begun) <= set(range(seen.taken)) and seen.taken <= 6
        assert sorted(seen.cancelled) == [item for item in seen.begun if item > 2]

    drive(tmp_path, use)


@weft.workflow
async def wrong(what: str) -> str:
    broken = asyncio.get_running_loop().create_future()

    def items() -> Iterator[int]:
        yield 1
        raise KeyError("items")

    async def waits(_: int) -> None:
        await broken

    async def unfit(item: int) -> list[int]:
        return await weft.map(work, range(item), concurrency=item - 2)

    try:
        if what == "items":
            await weft.map(work, items())
        elif what == "inner":
            broken.cancel()
            await weft.map(waits, [1])
        elif what == "nested":
            await weft.map(unfit, [3, 2, 1])
        elif what == "plain":
            await weft.map(abs, [-1])  # type: ignore[arg-type]
        elif what == "twice":
            results = weft.map(work, [1])
            await results
            await results
    except (KeyError, weft.WeftError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("items", "KeyError: 'items'"),
        ("inner", "Cancelled: weft.map(): what 1 waited for was cancelled"),
        ("nested", "BadInput: weft.map(concurrency=0)"),
        (
            "plain",
            "BadInput: weft.map(<built-in function abs>, ...): it returned 1 for -1, which can't be awaited; make",
        ),
        ("twice", "BadInput: these results of weft.map() were read before; keep them"),
    ],
)
def test_what_goes_wrong_is_told(tmp_path: Path, what: str, message: str) -> None:
    assert drive(tmp_path, lambda runtime: runtime.run(wrong, what)).startswith(message)


@weft.workflow
async def unfit(which: int) -> str:
    try:
        if which == 0:
            await weft.map(None, [])  # type: ignore[arg-type]
        elif which == 1:
            await weft.map(work, 7)  # type: ignore[arg-type]
        elif which == 2:
            await weft.map(work, {1, 2})
        else:
            await weft.map(work, [], concurrency=1.5)  # type: ignore[arg-type]
    except BadInput as error:
        return str(error)
    return "nothing"


def test_unfit_arguments_are_refused_with_a_fix(tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> list[str]:
        return [await runtime.run(unfit, which) for which in range(4)]

    function, items, unordered, calls = drive(tmp_path, use)
    assert function == "weft.map(None, ...): give a step, a workflow or an async function of one item first"
    assert items == "weft.map(..., 7): give an iterable or async iterable of items"
    assert "order" in unordered and "sorted(items)" in unordered
    assert calls == "weft.map(concurrency=1.5): give a whole number of calls, 1 or more"
    with pytest.raises(NoProcess, match=r"weft\.map\(\) was used outside a workflow's body"):
        weft.map(work, [1])


# --- replay -------------------------------------------------------------------------------------------------------


@weft.workflow
async def napping() -> list[Any]:
    async def nap(item: int) -> int:
        await weft.sleep(0.3)
        return item

    return [result async for result in weft.map(nap, range(5), concurrency=2, ordered=False)]


def test_a_map_that_only_waits_leaves_memory_and_comes_back(tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(napping)
        parked, ends = 0, asyncio.ensure_future(run.result())
        while not ends.done():
            process = runtime.active.get(run.id)
            parked += process is not None and park(process, runtime.clock(), 0.05, timed=False)
            await asyncio.sleep(0.001)
        assert sorted(await ends) == list(range(5)) and parked >= 1

    drive(tmp_path, use)


Plan = dict[str, Any]
plans = st.fixed_dictionaries(
    {
        "concurrency": st.integers(1, 5),
        "ordered": st.booleans(),
        "latencies": st.lists(st.integers(0, 4), max_size=14),
        "kind": st.sampled_from(["step", "child", "function", "nested"]),
        "reader": st.none() | st.integers(0, 2),
        "leave": st.none() | st.integers(0, 5),
        "fail": st.none() | st.integers(0, 9),
        "timeout": st.none() | st.integers(1, 10),
    }
)


@weft.step(effect="pure")
async def timed(item: int, milliseconds: int, fail: bool) -> int:
    await work(item, milliseconds)
    if fail:
        raise ValueError(item)
    return item * 10


@weft.workflow
async def timed_child(item: int, milliseconds: int, fail: bool) -> int:
    return await timed(item, milliseconds, fail)


@weft.workflow
async def planned(plan: Plan) -> list[Any]:
    found: list[Any] = []

    async def call(item: tuple[int, int]) -> int:
        arguments = (*item, plan["fail"] == item[0])
        match plan["kind"]:
            case "child":
                return await timed_child(*arguments)
            case "function":
                return await timed(*arguments) + int(weft.random() < 0)
            case "nested":
                results = weft.map(lambda n: timed(item[0], n, arguments[2]), [item[1]], ordered=False)
                return (await results)[0]
        return await timed(*arguments)

    items = enumerate(plan["latencies"])
    try:
        async with asyncio.timeout(plan["timeout"] and plan["timeout"] / 1000):
            async for pair in weft.map(call, items, concurrency=plan["concurrency"], ordered=plan["ordered"]).items():
                seen.read.append(pair)
                found.append(pair)
                if plan["reader"] is not None:
                    await settle(plan["reader"])
                if len(found) == plan["leave"]:
                    break
    except (ValueError, TimeoutError) as error:
        found.append(repr(error))
    found.append(await settle(0))
    return found


def told(records: list[AnyRecord]) -> list[tuple[Any, ...]]:
    return [(r.effect, r.kind, r.name, r.args, r.value, r.ok) for r in records if isinstance(r, Outcome)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=plans, cut=st.floats(0, 1))
def test_any_map_replays_to_the_same_journal(plan: Plan, cut: float) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(planned, plan)
        try:
            result = await run
        except ValueError:  # a child that fails while it is told to stop fails its parent
            assert plan["kind"] == "child"
            return
        assert seen.most <= plan["concurrency"] and seen.ahead <= 2 * plan["concurrency"]
        pairs = [pair for pair in result if isinstance(pair, tuple)]
        assert all(value == item[0] * 10 for item, value in pairs)
        numbers = [item[0] for item, _ in pairs]
        if plan["ordered"]:
            assert numbers == list(range(len(numbers)))
        if all(plan[why] is None for why in ("leave", "fail", "timeout")):
            assert sorted(numbers) == list(range(len(plan["latencies"])))
        first = told(await runtime.recovery.records(run.id))
        point = first[int(cut * (len(first) - 1))][0]
        kept = next(i for i, outcome in enumerate(first) if outcome[0] == point)
        again = await runtime.fork(run.id, at=point)
        try:
            await again
        except (Cancelled, ValueError):  # a fork shares the children in its history: those its origin cancelled too
            assert plan["kind"] == "child"
        second = told(await runtime.recovery.records(again.id))
        assert second[:kept] == first[:kept]
        recorded = {outcome[:4] for outcome in first[:kept] if outcome[1] == "step"}
        anew = {outcome[:4] for outcome in second[kept:] if outcome[1] == "step"}
        assert not recorded & anew, "a recorded step was made again"

    with tempfile.TemporaryDirectory() as folder:
        drive(Path(folder), use)


PROGRAM = """
import asyncio, os, signal, sys
from pathlib import Path
import weft

log = Path("log")

@weft.step
async def call(item: int) -> int:
    await asyncio.sleep((item * 7 % 5) / 1000)
    with log.open("a") as file:
        file.write(f"{item}\\n")
    if len(log.read_text().split()) in DEATHS:
        os.kill(os.getpid(), signal.SIGKILL)
    return item * 10

@weft.workflow
async def mapped(ordered: bool) -> list[int]:
    return await weft.map(call, range(100), concurrency=7, ordered=ordered)

async def main() -> None:
    async with weft.Runtime("journal.db", durability="process") as runtime:
        run = await runtime.start(mapped.options(key="one"), sys.argv[1] == "ordered")
        print(await run)

asyncio.run(main())
"""


@pytest.mark.parametrize("ordered", [True, False])
def test_a_killed_map_goes_on_where_it_was(tmp_path: Path, ordered: bool) -> None:
    deaths = (5, 40, 41, 90)
    (tmp_path / "mapped.py").write_text(PROGRAM.replace("DEATHS", repr(deaths)))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WEFT_")}
    environment["WEFT_POLICY"] = "all"  # its steps write to a file
    command = [sys.executable, "mapped.py", "ordered" if ordered else "unordered"]
    codes, output = [], ""
    while not output and len(codes) <= len(deaths):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, env=environment)
        codes.append(done.returncode)
        output = done.stdout
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
    assert codes == [-signal.SIGKILL] * len(deaths) + [0]
    results = [int(number) for number in output.strip("[]\n").split(",")]
    assert (results if ordered else sorted(results)) == [item * 10 for item in range(100)]
    calls = (tmp_path / "log").read_text().split()
    assert len(set(calls)) == 100 and len(calls) <= 100 + 7 * len(deaths), "only what was in flight is called again"
