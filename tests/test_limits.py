"""The limits of queues hold over all workers of a store, on both stores."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import weft
from tests.chaos.checks import most
from tests.crew import Crew, hired
from tests.servers.postgres import Postgres


@pytest.fixture
def crew(store: str, tmp_path: Path) -> Iterator[Crew]:
    with hired(store, tmp_path) as found:
        yield found


PROGRAM = """
    NARROW = weft.Queue("narrow", concurrency=2)
    PACED = weft.Queue("paced", rate=(4, 0.5))
    LINE = weft.Queue("line", concurrency=1)
    WIDE = weft.Queue("wide", concurrency=3)

    def span(word, began):
        mark(f"{word} {os.getpid()} {began} {time.monotonic_ns()}")

    async def opened(door):
        while not os.path.exists(door):
            await asyncio.sleep(0.02)

    @weft.step
    async def meet(place):
        mark(f"at {place} {os.getpid()}")
        await opened(place)

    @weft.step(queue=NARROW)
    async def narrow():
        began = time.monotonic_ns()
        mark(f"at narrow {os.getpid()}")
        await opened("narrow")
        await asyncio.sleep(0.05)
        span("narrow", began)

    @weft.step(queue=PACED)
    async def paced(): mark(f"paced {os.getpid()}")

    @weft.step
    async def pause(): await asyncio.sleep(0.05)

    @weft.step
    async def arrive(name): mark(name)

    @weft.step
    async def hold():
        mark("held")
        await opened("go")

    @weft.workflow
    async def narrows():
        await meet("start")
        await asyncio.gather(*(narrow() for _ in range(3)))

    @weft.workflow
    async def wide():
        began = await stamp()
        await meet("wide")
        await pause()
        await weft.sleep(0.05)
        await finish(began)

    @weft.step
    async def stamp(): return time.monotonic_ns()

    @weft.step
    async def finish(began): span("wide", began)

    @weft.workflow
    async def paces(): await paced()

    @weft.workflow
    async def arrives(name): await arrive(name)

    @weft.workflow
    async def holds(): await hold()
"""


def spans(crew: Crew, word: str) -> tuple[list[tuple[float, float]], set[str]]:
    """When each was begun and ended, and the workers that did them."""
    found = [line.split()[1:] for line in crew.lines() if line.startswith(f"{word} ")]
    return [(float(began), float(ended)) for _, began, ended in found], {pid for pid, *_ in found}


async def meeting(crew: Crew, place: str, count: int) -> None:
    """Wait until `count` are at it, and let them and all who come go on."""
    await crew.until(lambda: sum(line.startswith(f"at {place} ") for line in crew.lines()) >= count, seconds=120)
    (crew.folder / place).touch()


def test_as_many_as_a_queue_allows_and_no_more(crew: Crew) -> None:
    flows = crew.program(PROGRAM)
    for _ in range(3):
        crew.hire(flows, "default,wide", slots=2)  # so that no worker can hold as much as a queue allows all of them

    async def use(runtime: weft.Runtime) -> None:
        narrow = [await runtime.submit(flows.narrows) for _ in range(16)]
        await meeting(crew, "start", 6)  # all three workers have some, and will do the steps of these
        await meeting(crew, "narrow", 2)
        for run in narrow:
            await run
        wide = [await runtime.submit(flows.wide.options(queue=flows.WIDE)) for _ in range(24)]
        await meeting(crew, "wide", 3)
        for run in wide:
            await run

    crew.run(use)
    for word, count, limit, least in (("narrow", 48, 2, 3), ("wide", 24, 3, 2)):
        times, workers = spans(crew, word)
        assert len(times) == count
        assert most(times) == limit, f"{word}: {most(times)} at once"
        assert len(workers) >= least, "one worker did it all, so nothing was shown"


def noted(crew: Crew, postgres: Postgres | None) -> list[tuple[str, float]]:
    """(queue, time) of each admission by a rate, as the store decided."""
    if postgres is None:
        with sqlite3.connect(crew.url) as file:
            return file.execute("SELECT queue, at FROM noted ORDER BY at").fetchall()
    lines = postgres.execute("SELECT queue, at FROM noted ORDER BY at", crew.url.rpartition("/")[2]).splitlines()
    return [(queue, float(at)) for queue, at in (line.split("|") for line in lines)]


def note(crew: Crew, postgres: Postgres | None) -> None:
    """Let the store keep all of what it forgets when a rate's time is over."""
    if postgres is None:
        with sqlite3.connect(crew.url) as file:
            file.execute("CREATE TABLE noted (queue, at)")
            file.execute(
                "CREATE TRIGGER note AFTER INSERT ON starts BEGIN INSERT INTO noted VALUES (new.queue, new.at); END"
            )
        return
    postgres.execute(
        "CREATE TABLE noted (queue text, at float8);"
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO public.noted VALUES (NEW.queue, NEW.at); RETURN NULL; END $$;"
        "CREATE TRIGGER note AFTER INSERT ON weft.starts FOR EACH ROW EXECUTE FUNCTION note()",
        crew.url.rpartition("/")[2],
    )


def test_no_more_starts_in_a_while_than_a_rate_allows(crew: Crew, request: pytest.FixtureRequest) -> None:
    flows = crew.program(PROGRAM)
    server = request.getfixturevalue("postgres") if "://" in crew.url else None

    async def use(runtime: weft.Runtime) -> None:
        note(crew, server)
        for _ in range(3):
            crew.hire(flows, "default,paced", slots=4)
        steps = [await runtime.submit(flows.paces) for _ in range(10)]
        whole = [await runtime.submit(flows.arrives.options(queue=flows.PACED), "whole") for _ in range(10)]
        for run in steps + whole:
            await run

    crew.run(use)
    found = noted(crew, server)
    count, seconds = flows.PACED.rate
    assert [queue for queue, _ in found] == ["paced"] * 20
    for (_, first), (_, over) in zip(found, found[count:], strict=False):
        assert over - first >= seconds, f"{count + 1} starts within {over - first:.3f} s"
    assert sum(line.startswith("paced ") for line in crew.lines()) == crew.lines().count("whole") == 10


def in_line(crew: Crew, *waiting: tuple[str, int, str]) -> list[str]:
    """The names of these runs (name, priority, tenant) in the order of their turns: all of them waited by then."""
    flows = crew.program(PROGRAM)
    for _ in range(2):
        crew.hire(flows, "line")

    async def use(runtime: weft.Runtime) -> None:
        runs = [await runtime.submit(flows.holds.options(queue=flows.LINE))]
        await crew.until(lambda: crew.lines() == ["held"])
        for name, priority, tenant in waiting:
            chosen = flows.arrives.options(queue=flows.LINE, priority=priority, tenant=tenant)
            runs.append(await runtime.submit(chosen, name))
        await asyncio.sleep(0.3)
        assert crew.lines() == ["held"]
        (crew.folder / "go").touch()
        for run in runs:
            await run

    crew.run(use)
    return crew.lines()[1:]


def test_the_most_urgent_first_whoever_takes_it(crew: Crew) -> None:
    waiting = [(f"{priority}.{n}", priority, "") for n in range(4) for priority in (0, 5, -1)]
    urgent = sorted(waiting, key=lambda one: -one[1])  # among equals the order of arrival stays
    assert in_line(crew, *waiting) == [name for name, _, _ in urgent]


def test_tenants_take_turns_whoever_takes_them(crew: Crew) -> None:
    waiting = [(tenant, 0, tenant) for tenant in "aaaaaabbbcc"]
    turns = in_line(crew, *waiting)
    assert sorted(turns) == sorted(tenant for _, _, tenant in waiting)
    assert {*turns[:3]} == {*turns[3:6]} == {"a", "b", "c"}
    assert {*turns[6:8]} == {"a", "b"} and turns[8:] == ["a", "a", "a"]
    assert all(one != other for one, other in pairwise(turns[:8]))
