"""How runtimes on one PostgreSQL hear of each other: by notifications, and without them; and only whom it concerns."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

import weft
from tests.crew import Crew, hired
from tests.servers.postgres import Postgres
from tests.servers.relay import Relay
from weft.core.errors import Cancelled
from weft.runtime import worker as worker_module
from weft.store import open_store
from weft.store.base import MAX_STRIKES, Admission
from weft.store.postgres import PostgresOptions, PostgresStore
from weft.store.postgres.herald import Herald

NARROW = weft.Queue("wakeups narrow", concurrency=1)
SIDE = weft.Queue("wakeups side")
letters = weft.Mailbox("wakeups", str)
opened: list[asyncio.Event] = []


@weft.step
async def add(a: int, b: int) -> int:
    return a + b


@weft.step(queue=NARROW)
async def held() -> str:
    await opened[-1].wait()
    return "held"


@weft.workflow
async def plain(x: int) -> int:
    return await add(x, 1)


@weft.workflow
async def in_line() -> str:
    return await held()


@weft.workflow
async def reads() -> str:
    return await letters.receive()


@weft.workflow
async def hears() -> str:
    found: str = await weft.wait_for("wakeups")
    return found


@weft.workflow
async def tells(value: str) -> None:
    await weft.publish("wakeups", value)


@weft.workflow
async def lasts() -> None:
    await weft.sleep(3600)


@weft.workflow
async def parent() -> int:
    child = await weft.spawn(plain.options(queue=SIDE), 1)
    return await child


async def conversation(url: str) -> None:
    """Two workers and one who submits: everything that one of them can have to tell another."""
    opened.append(asyncio.Event())
    async with AsyncExitStack() as stack:
        place = stack.enter_async_context
        submitter = await place(weft.Runtime(url))
        await place(weft.Runtime(url, queues=["default"]))
        await place(weft.Runtime(url, queues=[SIDE.name]))
        assert await (await submitter.submit(plain, 1)) == 2  # work, and its end
        assert await (await submitter.submit(parent)) == 2  # a child there, and its end here
        lines = [await submitter.submit(flow) for flow in (in_line, in_line.options(queue=SIDE))]
        reader, listener, patient = [await submitter.submit(flow) for flow in (reads, hears, lasts)]
        await _until(submitter, {"waiting": 3, "running": 2})
        await submitter.send(reader.id, "wakeups", "a letter")
        assert await reader == "a letter"
        await (await submitter.submit(tells.options(queue=SIDE), "news"))
        assert await listener == "news"
        await patient.cancel()
        with pytest.raises(Cancelled):
            await patient
        opened[-1].set()
        assert [await line for line in lines] == ["held"] * 2  # a place that another worker gave back


async def _until(runtime: weft.Runtime, states: dict[str, int]) -> None:
    while (await runtime.store.stats()).states != states:
        await asyncio.sleep(0.05)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Counter[Any]:
    """What came by notification, and to whom."""
    found: Counter[Any] = Counter()
    real = Herald._heard

    def hear(self: Herald, connection: object, pid: int, channel: str, payload: object) -> None:
        found[payload, self.owner] += 1
        real(self, connection, pid, channel, payload)

    monkeypatch.setattr(Herald, "_heard", hear)
    return found


def without_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks by himself, so that only a notification can tell him."""
    monkeypatch.setattr(PostgresStore, "changed", lambda self: False)
    monkeypatch.setattr(worker_module, "POLL", 3600.0)


def test_notifications_are_enough(postgres_url: str, heard: Counter[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    without_looking(monkeypatch)
    asyncio.run(conversation(postgres_url))
    assert {"queue", "news", "ended"} <= {hint for hint, _ in heard}


def test_what_is_handed_back_goes_on_at_once(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without_looking(monkeypatch)

    async def main() -> None:
        opened.append(asyncio.Event())
        async with AsyncExitStack() as stack:
            submitter = await stack.enter_async_context(weft.Runtime(postgres_url))
            leaving = await stack.enter_async_context(weft.Runtime(postgres_url, queues=["default"]))
            runs = [await submitter.submit(flow) for flow in (in_line, reads)]
            await _until(submitter, {"waiting": 1, "running": 1})
            staying = await stack.enter_async_context(weft.Runtime(postgres_url, queues=["default"]))
            await leaving.drain(0.0)
            while {row.owner for row in await submitter.store.rows()} != {staying.owner}:
                await asyncio.sleep(0.05)
            opened[-1].set()
            await submitter.send(runs[1].id, "wakeups", "a letter")
            assert await asyncio.gather(*runs) == ["held", "a letter"]

    asyncio.run(main())


def test_what_notifications_would_tell_is_found_without_them(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[object] = []
    monkeypatch.setattr(Herald, "_heard", lambda self, connection, pid, channel, payload: lost.append(payload))
    asyncio.run(conversation(postgres_url))
    assert {"queue", "news", "ended"} <= set(lost)


@pytest.mark.parametrize("count", [1, 3])
def test_few_runs_wake_few_of_many_idle_workers(
    postgres_url: str, heard: Counter[Any], monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    without_looking(monkeypatch)
    asked: Counter[str] = Counter()
    admit, claim = PostgresStore.admit, PostgresStore.claim

    async def count_admit(self: PostgresStore, owner: str, *rest: Any) -> Admission:
        asked[owner] += 1
        return await admit(self, owner, *rest)

    async def count_claim(self: PostgresStore, owner: str, *rest: Any, **named: Any) -> Any:
        asked[owner] += 1
        return await claim(self, owner, *rest, **named)

    monkeypatch.setattr(PostgresStore, "admit", count_admit)
    monkeypatch.setattr(PostgresStore, "claim", count_claim)

    async def main() -> None:
        async with AsyncExitStack() as stack:
            submitter = await stack.enter_async_context(weft.Runtime(postgres_url))
            crowd = [await stack.enter_async_context(weft.Runtime(open_store(postgres_url), queues=["default"]))
                     for _ in range(8)]  # fmt: skip
            before = -1
            while before != asked.total():  # until they have found that there is nothing
                before = asked.total()
                await asyncio.sleep(0.5)
            assert len(asked) == 8
            asked.clear()
            heard.clear()
            runs = await asyncio.gather(*(submitter.submit(plain, n) for n in range(count)))
            assert sorted(await asyncio.gather(*runs)) == [n + 1 for n in range(count)]
            await asyncio.sleep(0.5)
            woken = {owner for hint, owner in heard if hint == "queue"}
            assert 1 <= len(woken) <= count
            assert set(asked) <= woken < {runtime.owner for runtime in crowd}

    asyncio.run(main())


@pytest.fixture
def crew(postgres_url: str, tmp_path: Path) -> Iterator[Crew]:
    with hired(postgres_url, tmp_path) as found:
        yield found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_what_a_silent_worker_had_is_taken_over_within_two_heartbeats(crew: Crew, number: signal.Signals) -> None:
    flows = crew.program("""
        @weft.step
        async def slow():
            mark(f"{os.getpid()} {time.monotonic()}")
            await asyncio.sleep(3600 if not os.path.exists("calm") else 0)
            return os.getpid()

        @weft.workflow
        async def single(): return await slow()
    """)
    heartbeat = 3.0
    silent = crew.hire(flows, heartbeat=heartbeat)

    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.submit(flows.single)
        await crew.until(lambda: len(crew.lines()) == 1)
        (crew.folder / "calm").touch()
        heir = crew.hire(flows, heartbeat=heartbeat)
        await crew.until(lambda: "INFO worker" in (crew.folder / "worker1").read_text())
        silent.send_signal(number)
        since = time.monotonic()
        assert await run == heir.pid
        first, second = (line.split() for line in crew.lines())
        assert (int(first[0]), int(second[0])) == (silent.pid, heir.pid)
        assert float(second[1]) - since < 2 * heartbeat

    crew.run(use)


def test_a_worker_that_was_cut_off_was_killed_by_none_of_its_runs(
    crew: Crew, postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    flows = crew.program("""
        @weft.step
        async def slow():
            mark(f"{os.getpid()}")
            while not os.path.exists("calm"):
                await asyncio.sleep(0.02)

        @weft.workflow
        async def single(): await slow()
    """)

    async def main() -> None:
        store = open_store(crew.url, options=PostgresOptions(heartbeat=0.5))
        async with weft.Runtime(store) as runtime:
            run = await runtime.submit(flows.single)
            for count in range(1, MAX_STRIKES + 2):
                await crew.until(lambda count=count: len(crew.lines()) >= count)
                owner = (await crew.row(runtime, run.id)).owner or ""
                await asyncio.to_thread(relay.freeze)
                while f"taking over from: {owner}" not in caplog.text:
                    await asyncio.sleep(0.05)
                await asyncio.to_thread(relay.heal)
            (crew.folder / "calm").touch()
            await run
            assert set(crew.lines()) == {str(worker.pid)}

    with Relay("127.0.0.1", postgres.port) as relay:
        worker = crew.hire(flows, store=relay.url(crew.url))
        asyncio.run(main())
