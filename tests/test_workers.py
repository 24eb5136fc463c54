"""Workers, each an operating-system process, on both stores: work reaches them, and what they did comes back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import weft
from tests.crew import Crew, hired
from weft.core.errors import Cancelled
from weft.store.base import WAITING


@pytest.fixture
def crew(store: str, tmp_path: Path) -> Iterator[Crew]:
    with hired(store, tmp_path) as found:
        yield found


def test_results_and_failures_come_back_to_who_submitted(crew: Crew) -> None:
    flows = crew.program("""
        @weft.step
        async def double(x):
            if x < 0:
                raise LookupError(f"no {x}")
            return 2 * x

        @weft.workflow
        async def twice(x):
            return await double(await double(x)), os.getpid()
    """)
    worker = crew.hire(flows)

    async def use(runtime: weft.Runtime) -> None:
        runs = [await runtime.submit(flows.twice, i) for i in range(20)]
        assert [await run for run in runs] == [(4 * i, worker.pid) for i in range(20)]
        with pytest.raises(LookupError, match="no -1"):
            await (await runtime.submit(flows.twice, -1))
        again = await runtime.submit(flows.twice.options(key="seven"), 7)
        assert (await runtime.submit(flows.twice.options(key="seven"), 7)).id == again.id
        assert (await again)[0] == 28

    crew.run(use)


def test_a_child_with_a_queue_runs_on_the_workers_of_that(crew: Crew) -> None:
    flows = crew.program("""
        SIDE = weft.Queue("side")

        @weft.step
        async def here(): return os.getpid()

        @weft.step
        async def bad(): raise LookupError("down there")

        @weft.workflow
        async def child(x):
            return x, await here()

        @weft.workflow
        async def broken():
            await bad()

        @weft.workflow
        async def parent(long):
            first = await weft.spawn(child.options(queue=SIDE), 1)
            found = [await here(), await first, await child.options(queue=SIDE)(2), await child(3)]
            if long:
                await weft.sleep(0.7)
                found.append(await child.options(queue=SIDE)(4))
            try:
                await broken.options(queue=SIDE)()
            except LookupError as error:
                found.append(str(error))
            return found
    """)
    main, side = crew.hire(flows), crew.hire(flows, "side")

    async def use(runtime: weft.Runtime) -> None:
        runs = [await runtime.submit(flows.parent, i % 2) for i in range(6)]
        for i, run in enumerate(runs):
            expected = [main.pid, (1, side.pid), (2, side.pid), (3, main.pid)]
            assert await run == [*expected, *([(4, side.pid)] if i % 2 else []), "down there"]

    crew.run(use)


def test_letters_events_and_cancellation_reach_a_run_elsewhere(crew: Crew) -> None:
    flows = crew.program("""
        numbers = weft.Mailbox("numbers", int)

        @weft.step
        async def clean(): mark("clean")

        @weft.workflow
        async def adder(n):
            total = sum([await numbers.receive() for _ in range(n)])
            await weft.publish("total", total)
            return total

        @weft.workflow
        async def waiter():
            return await weft.wait_for("total")

        @weft.workflow
        async def patient():
            try:
                await weft.sleep(3600)
            finally:
                await clean()

        @weft.step
        async def slow():
            mark("slow")
            await asyncio.sleep(3600)

        @weft.workflow
        async def busy(): await slow()
    """)

    async def use(runtime: weft.Runtime) -> None:
        early = await runtime.submit(flows.patient)  # cancelled before anybody has begun it
        await early.cancel()
        crew.hire(flows)
        adder, waiter = await runtime.submit(flows.adder, 4), await runtime.submit(flows.waiter)
        patient, busy = await runtime.submit(flows.patient), await runtime.submit(flows.busy)
        for number in (1, 2):
            await runtime.send(adder.id, "numbers", number)
        await crew.until(lambda: "slow" in crew.lines())
        await asyncio.sleep(0.8)  # those that wait have left memory
        for number in (3, 4):
            await runtime.send(adder.id, "numbers", number)
        assert (await adder, await waiter) == (10, 10)
        for run in (patient, busy, early):
            if run is not early:
                await run.cancel()
            with pytest.raises(Cancelled):
                await run
        assert crew.lines().count("clean") == 1

    crew.run(use)


def test_what_a_killed_worker_has_begun_goes_on_with_another(crew: Crew) -> None:
    flows = crew.program("""
        @weft.step
        async def first(): mark("first"); return os.getpid()

        @weft.step
        async def second():
            mark("second")
            await asyncio.sleep(0.1 if os.path.exists("calm") else 3600)
            return os.getpid()

        @weft.workflow
        async def pair(): return await first(), await second()

        @weft.workflow
        async def sleeper():
            await weft.sleep(3)
            return os.getpid()
    """)
    victim = crew.hire(flows)

    async def use(runtime: weft.Runtime) -> None:
        pair, sleeper = await runtime.submit(flows.pair), await runtime.submit(flows.sleeper)
        await crew.until(lambda: "second" in crew.lines())
        (crew.folder / "calm").touch()
        heir = crew.hire(flows)
        victim.kill()
        victim.wait()
        assert await pair == (victim.pid, heir.pid)
        assert await sleeper == heir.pid
        assert crew.lines() == ["first", "second", "second"]

    crew.run(use)


DRAIN = """
    NARROW = weft.Queue("narrow", concurrency=1)

    @weft.step
    async def short(): mark("short begins"); await asyncio.sleep(0.7); mark("short ends"); return os.getpid()

    @weft.step
    async def after(): return os.getpid()

    @weft.step
    async def long():
        mark("long begins")
        await asyncio.sleep(0.2 if os.path.exists("calm") else 3600)
        return os.getpid()

    @weft.step(effect="at_most_once", queue=NARROW)
    async def narrow():
        mark("narrow")
        while not os.path.exists("go"):
            await asyncio.sleep(0.02)
        return os.getpid()

    @weft.workflow
    async def ends(): return await short(), await after()

    @weft.workflow
    async def stays(): return await long()

    @weft.workflow
    async def waits(): await weft.sleep(3); return os.getpid()

    @weft.workflow
    async def in_line(): return await narrow()
"""


def test_a_worker_that_is_told_to_end_hands_everything_back(crew: Crew) -> None:
    flows = crew.program(DRAIN)
    old = crew.hire(flows, grace=1.5)

    async def use(runtime: weft.Runtime) -> None:
        runs = [await runtime.submit(flow) for flow in (flows.ends, flows.stays, flows.waits)]
        await crew.until(lambda: {"short begins", "long begins"} <= set(crew.lines()))
        old.send_signal(signal.SIGTERM)
        late = await runtime.submit(flows.ends)  # nobody is there to begin it
        await crew.until(lambda: old.poll() is not None)
        assert old.returncode == 0
        assert crew.lines().count("short begins") == crew.lines().count("short ends") == 1
        for run in runs:
            row = await crew.row(runtime, run.id)
            assert row.strikes == 0 and row.state not in ("failed", "cancelled", "done")
        (crew.folder / "calm").touch()
        new = crew.hire(flows)
        assert await runs[0] == (old.pid, new.pid)
        assert [await runs[1], await runs[2], await late] == [new.pid, new.pid, (new.pid, new.pid)]
        for run in runs:
            assert (await crew.row(runtime, run.id)).strikes == 0

    crew.run(use)


def test_what_waited_for_its_turn_when_its_worker_ended_is_known_not_to_have_begun(crew: Crew) -> None:
    flows = crew.program(DRAIN)
    holder = crew.hire(flows, "first")
    QUEUE = weft.Queue("first")

    async def use(runtime: weft.Runtime) -> None:
        holds = await runtime.submit(flows.in_line.options(queue=QUEUE))
        await crew.until(lambda: "narrow" in crew.lines())
        old = crew.hire(flows, grace=0.2)
        waits = await runtime.submit(flows.in_line)
        while (await runtime.store.stats()).queues.keys() != {"narrow"}:  # the step stands in line
            await asyncio.sleep(0.05)
        old.send_signal(signal.SIGTERM)
        await crew.until(lambda: old.poll() is not None)
        new = crew.hire(flows)
        (crew.folder / "go").touch()
        assert await holds == holder.pid
        assert await waits == new.pid
        assert crew.lines() == ["narrow", "narrow"]

    crew.run(use)


def test_runs_stay_with_the_version_that_began_them(crew: Crew) -> None:
    text = """
        @weft.step
        async def a(name): mark(f"{0} {{name}}"); return "{0}"

        @weft.workflow
        async def pinned(name):
            found = [await a(name)]{1}
            await weft.sleep(3)
            return [*found, await a(name)]
    """
    flows = crew.program(text.format("old", ""))
    changed = crew.program(text.format("new", "; found.append(await a(name))"), "two")
    both = {worker.pid: worker for worker in (crew.hire(flows), crew.hire(flows))}

    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.submit(flows.pinned, "run")
        await crew.until(lambda: crew.lines() == ["old run"])
        crew.hire(changed)
        other = await runtime.submit(flows.pinned.options(queue=weft.Queue("default")), "other")
        await asyncio.sleep(1)
        owner = (await crew.row(runtime, run.id)).owner or ""
        both.pop(int(owner.rpartition("-")[2])).kill()
        assert await run == ["old", "old"]
        assert await other in (["old", "old"], ["new", "new", "new"])  # whoever came first
        # Nobody has its version any more: it is not left lying, and meets the new code.
        (pid, last), begun = both.popitem(), ""
        while not begun.endswith(f"-{pid}"):
            left = await runtime.submit(flows.pinned, "left")
            while (row := await crew.row(runtime, left.id)).state != WAITING:  # its first step is in the journal
                await asyncio.sleep(0.05)
            begun = row.owner or ""
        last.kill()
        assert await left == ["old", "new", "new"]

    crew.run(use)


POISON = """
    @weft.step
    async def drink():
        mark("poison")
        os.kill(os.getpid(), signal.SIGKILL)

    @weft.step
    async def slow(seconds):
        mark("slow")
        await asyncio.sleep(seconds)
        return seconds

    @weft.workflow
    async def poison(): await drink()

    @weft.workflow
    async def healthy(seconds): return await slow(seconds)
"""


def test_a_run_that_kills_its_workers_is_left_alone_and_the_others_are_not(crew: Crew) -> None:
    flows = crew.program(POISON)
    seconds = 1.5  # longer than the poison lets anybody live who is with it

    async def use(runtime: weft.Runtime) -> None:
        runs = [await runtime.submit(flows.healthy, seconds) for _ in range(3)]
        poison = await runtime.submit(flows.poison)
        crew.hire(flows)

        def supervise() -> bool:
            """Start a worker for each that dies, as an orchestrator does."""
            if crew.workers[-1].poll() is not None:
                crew.hire(flows)
            return crew.lines().count("poison") >= 5

        await crew.until(supervise, 120)
        crew.hire(flows)
        assert [await run for run in runs] == [seconds] * 3
        runs = [await runtime.submit(flows.healthy, 0.01) for _ in range(20)]
        assert [await run for run in runs] == [0.01] * 20
        await asyncio.sleep(2)
        assert crew.lines().count("poison") == 5
        assert crew.workers[-1].poll() is None
        row = await crew.row(runtime, poison.id)
        assert (row.state, row.strikes) == ("running", 5)

    crew.run(use)


LINE = """
    NARROW = weft.Queue("narrow", concurrency=1)

    @weft.step(queue=NARROW)
    async def hold():
        mark("held")
        while not os.path.exists("go"):
            await asyncio.sleep(0.02)

    @weft.step(queue=NARROW)
    async def drink():
        mark("poison")
        os.kill(os.getpid(), signal.SIGKILL)

    @weft.step(queue=NARROW)
    async def sip(): mark("water")

    @weft.workflow
    async def holds(): await hold()

    @weft.workflow
    async def poison(): await drink()

    @weft.workflow
    async def water(): await sip()
"""


def test_who_stands_in_line_is_not_suspected(crew: Crew) -> None:
    flows = crew.program(LINE)
    crew.hire(flows, "first")

    async def use(runtime: weft.Runtime) -> None:
        holds = await runtime.submit(flows.holds.options(queue=weft.Queue("first")))
        await crew.until(lambda: crew.lines() == ["held"])
        run = await runtime.submit(flows.water)
        for _ in range(6):
            worker = crew.hire(flows)
            owner, strikes = "", 1
            while not owner.endswith(f"-{worker.pid}") or strikes:
                await asyncio.sleep(0.05)
                row = await crew.row(runtime, run.id)
                owner, strikes = row.owner or "", row.strikes
            worker.kill()
            worker.wait()
        crew.hire(flows)
        (crew.folder / "go").touch()
        await run
        await holds
        assert crew.lines() == ["held", "water"]

    crew.run(use)


def test_who_kills_when_its_turn_has_come_is_found_out(crew: Crew) -> None:
    flows = crew.program(LINE)

    async def use(runtime: weft.Runtime) -> None:
        poison = await runtime.submit(flows.poison)

        def supervise() -> bool:
            if not crew.workers or crew.workers[-1].poll() is not None:
                crew.hire(flows)
            return crew.lines().count("poison") >= 5

        await crew.until(supervise, 120)
        crew.hire(flows)
        await (await runtime.submit(flows.water))
        await asyncio.sleep(2)
        assert crew.lines() == ["poison"] * 5 + ["water"]
        assert crew.workers[-1].poll() is None
        row = await crew.row(runtime, poison.id)
        assert (row.state, row.strikes) == ("running", 5)

    crew.run(use)


def test_a_child_is_taken_over_by_the_workers_of_its_queue_alone(crew: Crew) -> None:
    flows = crew.program("""
        @weft.step
        async def here():
            mark("here")
            await asyncio.sleep(0 if os.path.exists("calm") else 3600)
            return os.getpid()

        @weft.workflow
        async def child(): return await here()

        @weft.workflow
        async def parent(): return await child.options(queue=weft.Queue("side"))()
    """)
    workers = [crew.hire(flows), crew.hire(flows, "side")]

    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.submit(flows.parent)
        await crew.until(lambda: crew.lines() == ["here"])
        (crew.folder / "calm").touch()
        for worker in workers:
            worker.kill()
            worker.wait()
        crew.hire(flows)  # the parent's
        await asyncio.sleep(3)
        assert crew.lines() == ["here"], "a worker ran a process of a queue that it does not serve"
        side = crew.hire(flows, "side")
        assert await run == side.pid

    crew.run(use)


def test_a_run_submitted_twice_is_never_executed_by_who_submits(crew: Crew) -> None:
    flows = crew.program(DRAIN)
    old = crew.hire(flows, grace=0.1)

    async def use(runtime: weft.Runtime) -> None:
        first = await runtime.submit(flows.stays.options(key="one"))
        await crew.until(lambda: "long begins" in crew.lines())
        old.send_signal(signal.SIGTERM)
        await crew.until(lambda: old.poll() is not None)
        (crew.folder / "calm").touch()
        second = await runtime.submit(flows.stays.options(key="one"))
        assert second.id == first.id
        await asyncio.sleep(1)
        assert crew.lines() == ["long begins"], "it was executed by who submitted it"
        new = crew.hire(flows)
        assert await second == await first == new.pid

    crew.run(use)


def test_a_run_that_is_left_alone_holds_no_place_in_its_queue(crew: Crew) -> None:
    flows = crew.program(POISON)
    queue = weft.Queue(f"narrow{crew.folder.name}", concurrency=1)

    async def use(runtime: weft.Runtime) -> None:
        await runtime.submit(flows.poison.options(queue=queue))
        run = await runtime.submit(flows.healthy.options(queue=queue), 0.01)

        def supervise() -> bool:
            if not crew.workers or crew.workers[-1].poll() is not None:
                crew.hire(flows, queue.name)
            return crew.lines().count("poison") >= 5

        await crew.until(supervise, 120)
        crew.hire(flows, queue.name)
        async with asyncio.timeout(60):
            assert await run == 0.01

    crew.run(use)
