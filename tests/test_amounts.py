"""Limits by amount and pauses as programs use them: in one runtime, and over all workers of a store."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import weft
from tests.crew import Crew, hired
from tests.servers.postgres import Postgres
from tests.servers.providers import KEY, Providers, Refuse, Tokens, Turn
from weft.core.errors import BadInput
from weft.core.record import AnyRecord, Outcome, decode_records
from weft.store import Store
from weft.store.base import Want

LONG = 10_000.0
tokens = weft.Queue("tokens", amounts={"tokens": (100, LONG)})
open_to_all = weft.Queue("open to all")
seen: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


@weft.step(queue=tokens, cost=lambda most, real: {"tokens": most})
async def takes(most: float, real: float | None) -> float | None:
    if real is not None:
        weft.charge(tokens=real)
    seen.append(f"took {real}")
    return real


@weft.workflow
async def one_after_the_other(*pairs: tuple[float, float | None]) -> list[float | None]:
    return [await takes(*pair) for pair in pairs]


async def not_yet(work: asyncio.Task[object]) -> None:
    """It waits, however long one looks."""
    await asyncio.wait([work], timeout=0.3)
    assert not work.done()


def test_a_step_takes_what_it_says_and_then_what_it_took(store: str) -> None:
    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            real = await runtime.run(one_after_the_other, (60, 10), (60, 10), (60, 10), (60, 10), (60, 10))
            assert real == [10] * 5  # 50 are gone
            late = await runtime.start(one_after_the_other, (51, 0))
            waiting = asyncio.ensure_future(late.result())
            await not_yet(waiting)
            assert seen == ["took 10"] * 5
            await late.cancel()
            with pytest.raises(weft.errors.Cancelled):
                await waiting
            assert await runtime.run(one_after_the_other, (50, None)) == [None]  # it says nothing: all 50 count
            await not_yet(asyncio.ensure_future((await runtime.start(one_after_the_other, (1, 0))).result()))

    asyncio.run(main())


def test_a_step_that_is_given_up_in_line_takes_nothing(store: str) -> None:
    @weft.workflow
    async def impatient() -> list[object]:
        await takes(60, None)
        found: list[object] = []
        try:
            async with asyncio.timeout(0.2):
                await takes(60, None)
        except TimeoutError:
            found.append("given up")
        return [*found, await takes(40, 40)]

    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            assert await runtime.run(impatient) == ["given up", 40]

    asyncio.run(main())


def test_an_attempt_that_took_nothing_gives_it_back_and_the_next_stands_in_line(store: str) -> None:
    @weft.step(queue=tokens, cost={"tokens": 100}, retries=weft.Retry(attempts=3, delay=0.01))
    async def refused_twice() -> str:
        seen.append("tried")
        weft.charge(tokens=0)
        if len(seen) < 3:
            raise ConnectionError("not now")
        return "done"

    @weft.workflow
    async def tries() -> str:
        return await refused_twice()

    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            assert await runtime.run(tries) == "done"
            assert await runtime.run(one_after_the_other, (100, 1)) == [1]

    asyncio.run(main())


def test_it_counts_beside_a_budget(store: str) -> None:
    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            poor = one_after_the_other.options(budget=weft.Budget(tokens=65))
            assert await runtime.run(poor, (60, 20), (40, 30)) == [20, 30]
            with pytest.raises(weft.errors.BudgetExceeded):
                await runtime.run(poor, (50, 20), (46, 30))
            assert await runtime.run(one_after_the_other, (30, 0)) == [0]

    asyncio.run(main())


def test_a_kind_that_a_step_says_nothing_of_is_counted_once_it_is_charged(store: str) -> None:
    @weft.step(queue=tokens)
    async def silent() -> None:
        weft.charge(tokens=130)

    @weft.workflow
    async def says_nothing() -> None:
        await silent()

    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            await runtime.run(says_nothing)
            await not_yet(asyncio.ensure_future((await runtime.start(says_nothing)).result()))

    asyncio.run(main())


def test_what_can_not_be_counted_fails_the_step(store: str) -> None:
    @weft.step(queue=tokens, cost={"words": 5})
    async def counts_words() -> None: ...

    @weft.workflow
    async def wordy() -> None:
        await counts_words()

    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            with pytest.raises(BadInput, match="no budget of 'words'"):
                await runtime.run(wordy)

    asyncio.run(main())


async def paused(runtime: weft.Runtime, queue: weft.Queue) -> None:
    """Wait until the store knows of a pause: it does not let in a ticket that wants nothing."""
    async with asyncio.timeout(20):
        again = None
        while again is None:
            await asyncio.sleep(0.01)
            nobody = Want(f"nobody:{time.monotonic()}:1")
            again = (await runtime.store.admit(runtime.owner, queue, [nobody], 0)).again


# --- pauses -----------------------------------------------------------------------------------------------------


@weft.step(queue=open_to_all, retries=weft.Retry(attempts=2, delay=0.0))
async def told_off(seconds: float) -> float:
    if "told off" not in seen:
        seen.append("told off")
        weft.hold_back(seconds)
        raise ConnectionError("429")
    return time.monotonic()


@weft.step(queue=open_to_all, retries=weft.Retry(attempts=2, delay=0.0))
def told_off_in_a_thread(seconds: float) -> float:
    if "told off" not in seen:
        assert threading.current_thread() is not threading.main_thread()
        seen.append("told off")
        weft.hold_back(seconds)
        raise ConnectionError("429")
    return time.monotonic()


@weft.step(queue=open_to_all)
async def begins() -> float:
    return time.monotonic()


@weft.workflow
async def is_told_off(seconds: float, thread: bool) -> float:
    return await (told_off_in_a_thread if thread else told_off)(seconds)


@weft.workflow
async def goes() -> float:
    return await begins()


@pytest.mark.parametrize("thread", [False, True])
def test_who_is_told_to_hold_back_holds_back_everybody(store: str, thread: bool) -> None:
    async def main() -> None:
        async with weft.Runtime(store) as one, weft.Runtime(store) as other:
            before = time.monotonic()
            first = await one.start(is_told_off, 0.6, thread)
            await paused(one, open_to_all)
            others = [await runtime.start(goes) for runtime in (one, other, other)]
            for run in (first, *others):
                assert await run.result() >= before + 0.6

    asyncio.run(main())


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "5", None, True])
def test_a_pause_is_a_number_of_seconds(seconds: object) -> None:
    with pytest.raises(BadInput, match="hold_back"):
        weft.hold_back(seconds)


def test_without_a_queue_there_is_nothing_to_hold_back(store: str) -> None:
    @weft.step
    async def free() -> str:
        weft.hold_back(1000)
        return "went on"

    @weft.workflow
    async def walk() -> str:
        return await free() + (await free())

    weft.hold_back(1000)  # outside a step neither

    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            assert await runtime.run(walk) == "went onwent on"

    asyncio.run(main())


# --- models -----------------------------------------------------------------------------------------------------


@weft.workflow
async def chats(spec: str, times: int) -> float:
    model = weft.model.Model(spec, queue=tokens)
    for _ in range(times):
        assert (await model.chat("Say hello", max_tokens=50)).text == "Hello"
    return weft.now().timestamp()


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Providers, str]]:
    """A server whose answers take ten tokens, and how a model on it is called."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Providers(Turn(text=["Hello"], usage=Tokens(input=6, output=4))) as server:
        yield server, f"{server.base('openai')}#gpt"


def test_generations_take_the_tokens_that_the_provider_counts(store: str, provider: tuple[Providers, str]) -> None:
    server, spec = provider

    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            await runtime.run(chats, spec, 3)  # each says that it may take 61 of the 100
            await not_yet(asyncio.ensure_future((await runtime.start(chats, spec, 2)).result()))
            assert len(server.requests) == 4

    asyncio.run(main())


def test_a_provider_that_is_asked_too_much_is_left_alone_by_all(store: str, provider: tuple[Providers, str]) -> None:
    server, spec = provider
    server.faults.append(Refuse(429, retry_after="1"))

    async def main() -> None:
        async with weft.Runtime(store) as one, weft.Runtime(store) as other:
            before = one.clock()
            first = await one.start(chats, spec, 1)
            await paused(one, tokens)
            second = await other.start(chats, spec, 1)
            assert min(await first.result(), await second.result()) >= before + 0.99
            assert len(server.requests) == 3

    asyncio.run(main())


# --- workers ----------------------------------------------------------------------------------------------------

PROGRAM = """
    SHARED = weft.Queue("shared", rate=(1000, 1.0), amounts={"tokens": (100, 0.3)})

    @weft.step(queue=SHARED, cost=lambda name, most: {"tokens": most})
    async def generate(name, most):
        mark(f"{name} {os.getpid()}")
        if name == "deadly" and not os.path.exists("died"):
            open("died", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        weft.charge(tokens=most)
        return most

    @weft.step(queue=SHARED, retries=weft.Retry(attempts=5, delay=0.0))
    async def refused(seconds):
        if not os.path.exists("refused"):
            open("refused", "w").close()
            weft.hold_back(seconds)
            raise ConnectionError("429")

    @weft.workflow
    async def asks(name, most):
        return await generate(name, most)

    @weft.workflow
    async def is_refused(seconds):
        await refused(seconds)
"""


@pytest.fixture
def crew(store: str, tmp_path: Path) -> Iterator[Crew]:
    with hired(store, tmp_path) as found:
        yield found


@pytest.fixture
def server(crew: Crew, request: pytest.FixtureRequest) -> Postgres | None:
    return request.getfixturevalue("postgres") if "://" in crew.url else None


def asked(crew: Crew, server: Postgres | None, query: str) -> list[list[str]]:
    if server is None:
        with sqlite3.connect(crew.url) as file:
            return [[str(value) for value in row] for row in file.execute(query.replace("weft.", "")).fetchall()]
    return [line.split("|") for line in server.execute(query, crew.url.rpartition("/")[2]).splitlines()]


async def journal(store: Store, id: str) -> list[AnyRecord]:
    return [record for segment in await store.segments([id]) for record in decode_records(segment.records)]


def note(crew: Crew, server: Postgres | None) -> None:
    """Let the store keep what it forgets when its time is over: each portion, when it was taken."""
    if server is None:
        with sqlite3.connect(crew.url) as file:
            file.execute("CREATE TABLE noted (ticket, amount, at)")
            file.execute(
                "CREATE TRIGGER note AFTER UPDATE OF at ON portions BEGIN "
                "INSERT INTO noted VALUES (new.ticket, new.amount, new.at); END"
            )
        return
    server.execute(
        "CREATE TABLE weft.noted (ticket text, amount float8, at float8);"
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO weft.noted VALUES (NEW.ticket, NEW.amount, NEW.at); RETURN NULL; END $$;"
        "CREATE TRIGGER note AFTER UPDATE OF at ON weft.portions FOR EACH ROW EXECUTE FUNCTION note()",
        crew.url.rpartition("/")[2],
    )


def test_workers_together_take_no_more_than_the_limit(crew: Crew, server: Postgres | None) -> None:
    flows = crew.program(PROGRAM)
    sizes = [(f"n{n}", (5, 20, 30, 45)[n % 4]) for n in range(16)]

    async def use(runtime: weft.Runtime) -> None:
        note(crew, server)
        for _ in range(3):
            crew.hire(flows, slots=4)
        runs = {(await runtime.submit(flows.asks, *each)).id: each for each in [*sizes, ("deadly", 40), ("huge", 150)]}
        for id, (_, most) in runs.items():
            assert (await runtime.end_of(id)).state == "done"
            outcomes = [record for record in await journal(runtime.store, id) if isinstance(record, Outcome)]
            portions[id], begun[id] = most, outcomes[0].started
        names.update({id: name for id, (name, _) in runs.items()})

    portions: dict[str, float] = {}
    begun: dict[str, float] = {}
    names: dict[str, str] = {}
    crew.run(use)
    found = [(t.partition(":")[0], float(a), float(at)) for t, a, at in asked(crew, server, _NOTED)]
    assert len({line.split()[1] for line in crew.lines()}) >= 2, "one worker did it all, so nothing was shown"
    # What the journals say of who took how much when is what the store decided ...
    for id, most in portions.items():
        mine = [(amount, at) for run, amount, at in found if run == id]
        assert {amount for amount, _ in mine} == {most}
        assert begun[id] >= mine[-1][1] - 0.25  # which the worker's own clock may miss a little
        assert len(mine) == (2 if names[id] == "deadly" else 1), "who died at work has taken it, and takes it again"
    # ... and that is never more than the limit, but for one that is larger, which is alone.
    limit, seconds = flows.SHARED.amounts["tokens"]
    for n, (id, amount, at) in enumerate(found):
        lately = [much for _, much, then in found[:n] if then > at - seconds]
        assert sum(lately) + amount <= limit or (names[id] == "huge" and not lately)


def test_when_one_worker_is_refused_nobody_begins_until_the_pause_is_over(crew: Crew, server: Postgres | None) -> None:
    flows = crew.program(PROGRAM)

    async def use(runtime: weft.Runtime) -> None:
        note(crew, server)
        for _ in range(3):
            crew.hire(flows, slots=4)
        runs = [await runtime.submit(flows.asks, f"n{n}", 40) for n in range(6)]
        runs.insert(3, await runtime.submit(flows.is_refused, 1.0))
        for run in runs:
            await run

    crew.run(use)
    [[until]] = asked(crew, server, "SELECT until FROM weft.pauses WHERE queue = 'shared'")
    times = [float(at) for _, _, at in asked(crew, server, _NOTED)]
    # A server may have let in somebody while the pause was on its way to the disk.
    assert not [at for at in times if float(until) - (1.0 if server is None else 0.5) < at < float(until)]
    assert max(times) >= float(until)  # who was refused stood in line again


_NOTED = "SELECT ticket, amount, at FROM weft.noted WHERE at IS NOT NULL ORDER BY at"
