"""Templates from source: what each construct of Python becomes, and whether real runs are in them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import weft
from benchmarks.observe import programs
from tests.programs import drive
from weft.agent import Agent
from weft.core.errors import BadInput
from weft.model import script
from weft.tool import tool
from weft.trace.graph.realised import realised
from weft.trace.graph.shape import CONTROL, Graph, contracted
from weft.trace.graph.template.cover import cover
from weft.trace.graph.template.extract import template_of
from weft.trace.graph.template.template import Template
from weft.trace.reading import read_run


@weft.step
async def a(number: int) -> int:
    return number


@weft.step
async def b(number: int) -> int:
    return number


@weft.step
async def c(number: int) -> int:
    return number


@tool
async def t(number: int) -> int:
    """Look.

    Args:
        number: At what.
    """
    return number


def ways(template: Template) -> set[str]:
    """Its edges between effects, as text: "a>b"."""
    small = contracted(template, lambda vertex: vertex.kind in CONTROL - {"start", "end"})
    name = {id: vertex.label.rpartition(".")[2] for id, vertex in small.vertices.items()}
    return {f"{name[edge.source]}>{name[edge.target]}" for edge in small.edges}


@weft.workflow
async def branches(x: int) -> None:
    if await a(x):
        await b(x)
    elif x:
        await c(x)
        return
    await t(x)


@weft.workflow
async def loops(xs: list[int]) -> None:
    for x in xs:
        if x > 5:
            continue
        await a(x)
        if x > 3:
            break
    else:
        await b(1)
    while True:
        if await c(1):
            break


@weft.workflow
async def tries(x: int) -> None:
    try:
        await a(x)
        await b(x)
    except ValueError:
        await c(x)
    finally:
        await t(x)


async def helper(x: int) -> int:
    return await t(await b(x))


@weft.workflow
async def together(xs: list[int]) -> None:
    await a(1)
    await asyncio.gather(helper(1), *[c(x) for x in xs])
    async with asyncio.TaskGroup() as group:
        group.create_task(a(2))
        group.create_task(b(2))
    task = asyncio.create_task(c(3))
    await t(3)
    await task


@weft.workflow
async def below(x: int) -> int:
    return await b(x)


@weft.workflow
async def children(x: int) -> None:
    await below(x)
    child = await weft.spawn(below, x)
    await a(x)
    await child


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield await b(number)


@asynccontextmanager
async def around() -> AsyncIterator[None]:
    await a(0)
    yield
    await c(0)


@weft.workflow
async def generators(x: int) -> None:
    async with around():
        async for each in numbers(x):
            await t(each)


async def down(x: int) -> None:
    if x:
        await a(x)
        await down(x - 1)


@weft.workflow
async def recursion(x: int) -> None:
    await down(x)
    await b(x)


CHOICE = {"one": a, "other": b}


@weft.workflow
async def choices(name: str) -> None:
    await CHOICE[name](1)
    step = b if name else c
    await step(1)
    async for _ in weft.map(a, [1, 2]):
        await t(1)


EXPECTED = {
    "branches": "start>a a>b a>c b>tool t a>tool t c>end tool t>end",
    "loops": "start>a start>b a>a a>b a>c b>c c>c c>end",
    "tries": "start>a a>b a>c b>c start>c c>tool t b>tool t a>tool t start>tool t tool t>end",
    "together": "start>a a>b b>tool t tool t>a tool t>b c>a c>b a>c a>a a>tool t b>tool t c>tool t tool t>end c>end "
    "b>c",
    "children": "start>below below>b below>child b>child child>below below>a a>child b>a child>end",
    "generators": "start>a a>b a>c b>tool t tool t>b tool t>c c>end",
    "recursion": "start>a start>b a>a a>b b>end",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_what_a_construct_becomes(name: str) -> None:
    found = ways(template_of(globals()[name]))
    labels = {"a", "b", "c", "tool t", "start", "end", "child", "below"}
    assert {part for way in found for part in way.split(">")} <= labels
    missing = [way for way in _ways(EXPECTED[name]) if way not in found]
    assert not missing, (missing, found)
    if name in ("branches", "loops", "generators", "recursion"):
        assert found == set(_ways(EXPECTED[name]))


def _ways(text: str) -> list[str]:
    for name in ("tool t", "below"):
        text = text.replace(name, name.replace(" ", "_"))
    return [way.replace("_", " ") for way in text.split()]


def test_what_is_optional_and_repeated() -> None:
    template = template_of(loops)
    marks = {one.label.rpartition(".")[2]: template.sites[one.id] for one in template.effects}
    assert marks["a"].optional and marks["a"].repeated and marks["c"].repeated
    assert not template_of(children).optional
    names = {one.label.rpartition(".")[2] for one in template_of(branches).optional}
    assert names == {"b", "c", "tool t"}  # the last one, because some runs return before it


@weft.workflow
async def fixed() -> None:
    await a(1)
    await b(2)


@weft.workflow
async def by_input(x: int) -> None:
    many = x + 1
    for _ in range(many):
        await a(1)


@weft.workflow
async def by_outcome(x: int) -> None:
    found = await a(x)
    many = found * 2
    for _ in range(many):
        await b(1)


@weft.workflow
async def unknown(what: Callable[[int], Awaitable[int]]) -> None:
    await what(1)


@weft.workflow
async def of_an_agent() -> None:
    await Agent(script(["Yes."]), name="helper").run("Is it?")


@pytest.mark.parametrize(
    ("workflow", "determined", "plasticity"),
    [
        (fixed, "static", "none"), (by_input, "start", "select"), (by_outcome, "running", "select"),
        (unknown, "running", "generate"), (of_an_agent, "running", "generate"),
    ],
    ids=["fixed", "by_input", "by_outcome", "unknown", "of_an_agent"],
)  # fmt: skip
def test_when_the_structure_is_known(workflow: Any, determined: str, plasticity: str) -> None:
    template = template_of(workflow)
    assert (template.determined, template.plasticity) == (determined, plasticity)


def graph_of_run(place: str, workflow: Any, *args: Any) -> Graph:
    async def use(runtime: weft.Runtime) -> Graph:
        run = await runtime.start(workflow, *args)
        await run.result()
        await runtime.journal.barrier()
        return await realised(read_run(runtime.store, run.id))

    found: Graph = drive(place, use)
    return found


@pytest.mark.parametrize(
    ("workflow", "args"),
    [
        (branches, (1,)), (branches, (0,)), (loops, ([1, 9, 4, 2],)), (loops, ([],)), (tries, (1,)),
        (together, ([1, 2],)), (children, (1,)), (generators, (3,)), (generators, (0,)), (recursion, (4,)),
        (choices, ("one",)), (choices, ("other",)),
    ],
    ids=str,
)  # fmt: skip
def test_real_runs_are_in_the_template(tmp_path: Path, workflow: Any, args: Any) -> None:
    found = cover(template_of(workflow), graph_of_run(str(tmp_path / "j.db"), workflow, *args))
    assert found.whole, (found.strange, found.strange_edges)


def test_random_programs_are_in_their_templates(tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        for seed in range(5000, 5012):
            workflow = programs.write(tmp_path, seed).main
            template = template_of(workflow)
            assert template.plasticity != "generate"
            run = await runtime.start(workflow, 10)
            await run.result()
            await runtime.journal.barrier()
            found = cover(template, await realised(read_run(runtime.store, run.id)))
            assert found.whole, (seed, found.strange, found.strange_edges)

    drive(str(tmp_path / "j.db"), use)


def test_a_run_of_another_program_is_not(tmp_path: Path) -> None:
    other = graph_of_run(str(tmp_path / "j.db"), fixed)
    found = cover(template_of(branches), other)
    assert not found.whole and found.share < 1 and len(found.strange) == 2
    edges = cover(template_of(fixed), graph_of_run(str(tmp_path / "j.db"), fixed))
    assert edges.whole and edges.share == 1


def test_what_has_no_source_has_no_template() -> None:
    with pytest.raises(BadInput, match="can't be read"):
        exec("async def made(): pass", names := {})
        template_of(names["made"])
    with pytest.raises(BadInput, match="give a workflow"):
        template_of("shop.main")  # type: ignore[arg-type]
