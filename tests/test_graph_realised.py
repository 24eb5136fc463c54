"""Realised graphs of real runs: forks, joins, children, background tasks; the same whatever the times; old journals."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import weft
from tests.programs import drive
from weft.core.errors import BadInput
from weft.trace.graph.measure import measure
from weft.trace.graph.realised import graph_of, realised
from weft.trace.graph.shape import Graph
from weft.trace.graph.template.extract import template_of
from weft.trace.graph.vary import distance, fingerprint, vary
from weft.trace.reading import Node, read_run

DELAYS: dict[int, float] = {}


@weft.step(effect="pure")
async def do(number: int) -> int:
    await asyncio.sleep(DELAYS.get(number, 0))
    return number


async def pair(number: int) -> None:
    await do(number)
    await do(number + 1)


@weft.workflow
async def forks() -> None:
    await do(1)
    await asyncio.gather(pair(2), pair(4))
    await do(6)


@weft.workflow
async def begins_with_a_fork() -> None:
    await asyncio.gather(do(1), do(2))
    await do(3)


async def inner() -> None:
    async with asyncio.TaskGroup() as group:  # this task starts others before it makes anything itself
        group.create_task(do(2))
        group.create_task(do(3))
    await do(4)


@weft.workflow
async def nested() -> None:
    await do(1)
    await asyncio.gather(inner(), do(5))
    await do(6)


@weft.workflow
async def below(number: int) -> None:
    await pair(number)


@weft.workflow
async def children() -> None:
    await do(1)
    await below(2)
    await do(4)


@weft.workflow
async def rounds() -> None:
    for _ in range(2):  # the body itself makes no effect
        await asyncio.gather(do(1), do(2))


@weft.workflow
async def background() -> None:
    task = asyncio.create_task(do(1))
    await do(2)
    await do(3)
    await task
    await do(4)


@weft.workflow
async def gives_up() -> None:
    await do(1)
    with suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            await do(99)
    await do(2)


@weft.workflow
async def mapped(count: int) -> None:
    await weft.map(do, range(10, 10 + count), concurrency=2)
    await do(1)


def run(place: Any, workflow: Any, *args: Any) -> list[Node]:
    async def use(runtime: weft.Runtime) -> list[Node]:
        started = await runtime.start(workflow, *args)
        await started.result()
        await runtime.journal.barrier()
        return [node async for node in read_run(runtime.store, started.id)]

    found: list[Node] = drive(str(place), use)
    return found


def edges(graph: Graph) -> set[tuple[str, str]]:
    """Between the numbers of effects; those of a child with a stroke."""
    first = next(iter(graph.vertices)).rpartition(":")[0]

    def name(id: str) -> str:
        of, _, number = id.rpartition(":")
        return number if of == first else f"{number}'"

    return {(name(edge.source), name(edge.target)) for edge in graph.edges}


EXPECTED: dict[str, set[tuple[str, str]]] = {
    "forks": {("1", "2"), ("1", "3"), ("2", "4"), ("3", "5"), ("4", "6"), ("5", "6")},
    "begins_with_a_fork": {("1", "3"), ("2", "3")},
    "rounds": {("1", "3"), ("1", "4"), ("2", "3"), ("2", "4")},
    "nested": {("1", "2"), ("1", "3"), ("1", "4"), ("3", "5"), ("4", "5"), ("2", "6"), ("5", "6")},
    "children": {("1", "2"), ("2", "1'"), ("1'", "2'"), ("2'", "3"), ("2", "3"), ("3", "4")},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_what_came_after_what(tmp_path: Path, name: str) -> None:
    assert edges(graph_of(run(tmp_path / "j.db", globals()[name]))) == EXPECTED[name]


def test_a_run_that_was_faster_or_slower_has_the_same_graph(tmp_path: Path) -> None:
    found = []
    for delays in ({}, {2: 0.02}, {3: 0.03, 4: 0.01}, {5: 0.02, 2: 0.01}):
        DELAYS.clear()
        DELAYS.update(delays)
        found.append(graph_of(run(tmp_path / "j.db", forks)))
    DELAYS.clear()
    assert len({fingerprint(one) for one in found}) == 1 and distance(found[0], found[2]) == 0


def test_a_task_in_the_background_is_joined_where_it_was_over(tmp_path: Path) -> None:
    DELAYS.update({1: 0.05})
    graph = graph_of(run(tmp_path / "j.db", background))
    DELAYS.clear()
    places = {one.place: id.rpartition(":")[2] for id, one in graph.vertices.items()}
    assert len(places) == 4
    slow = next(id for id, one in graph.vertices.items() if one.seconds > 0.04)
    last = next(iter(reversed(graph.vertices)))
    assert graph.successors[slow] == [last] and set(graph.predecessors[last]) > {slow}


def test_an_effect_that_was_given_up_leaves_its_line_whole(tmp_path: Path) -> None:
    DELAYS.update({99: 5.0})
    nodes = run(tmp_path / "j.db", gives_up)
    DELAYS.clear()
    graph = graph_of([node for node in nodes if node.status == "ok"])
    first, last = [id for id, one in graph.vertices.items() if one.kind == "step"]
    assert graph.successors[first] == [last]


def test_work_and_critical_path_tell_parallelism(tmp_path: Path) -> None:
    DELAYS.update(dict.fromkeys(range(10, 14), 0.05))
    found = measure(graph_of(run(tmp_path / "j.db", mapped, 4)))
    DELAYS.clear()
    assert found.nodes == 5 and found.width == 4 and found.together <= 2  # as many as it was let
    assert found.work >= 0.2 and 1 < found.parallelism <= 4 and found.parallelism == found.work / found.critical
    child = measure(graph_of(run(tmp_path / "j.db", children)))
    assert child.work < child.wall + 1e-3  # the wait for a child is no work


def test_journals_that_tell_no_lines_are_put_in_order_by_time() -> None:
    nodes = [
        Node(run="r", effect=n, kind="step", name="s", issued=float(n), started=float(n), ended=n + 0.5)
        for n in (1, 2, 3)
    ]
    assert edges(graph_of(nodes)) == {("1", "2"), ("2", "3")}
    beside = [Node(run="r", effect=n, kind="step", name="s", issued=1.0, started=1.0, ended=2.0) for n in (1, 2)]
    assert edges(graph_of(beside)) == set()


def test_variation_over_runs(tmp_path: Path) -> None:
    place = tmp_path / "j.db"
    graphs = [graph_of(run(place, mapped, count)) for count in (2, 2, 3, 0)]
    found = vary(graphs, template_of(mapped))
    assert (found.runs, found.distinct, found.common, found.entropy) == (4, 3, 2, 1.5)
    assert 0 < found.distance < 1 and 0 <= found.jaccard < 1
    assert list(found.activation.values()) == [0.75] and found.coverage == 1 and found.covered == 4
    same = vary(graphs[:2])
    assert (same.distinct, same.entropy, same.distance, same.jaccard, same.coverage) == (1, 0.0, 0.0, 1.0, None)
    with pytest.raises(BadInput, match="no runs"):
        vary([])


def test_a_graph_shows_itself_in_a_notebook(tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        started = await runtime.start(forks)
        await started.result()
        await runtime.journal.barrier()
        graph = await realised(read_run(runtime.store, started.id))
        assert graph._repr_html_().startswith("<svg ") and graph._repr_html_().count("<rect") == 6
        assert started.id in started._repr_html_() and "weft show" in started._repr_html_()

    drive(str(tmp_path / "j.db"), use)
