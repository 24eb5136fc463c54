"""A run read as nodes: kinds, parents, times, costs, lines of control; on both stores, in pages, old journals too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest

import weft
from tests.programs import drive
from weft.core.codec import encode, encode_args
from weft.core.errors import StoreError, UnknownRun
from weft.core.record import AnyRecord, Outcome, Started, encode_records
from weft.model import Usage, script
from weft.model.message import Message
from weft.model.request import Reply
from weft.store import Store, open_store
from weft.store.base import Batch, ProcessRow, Segment
from weft.tool import tool
from weft.trace.reading import Node, read_body, read_effects, read_page, read_records, read_run


@weft.step
async def look(number: int) -> int:
    weft.charge(tokens=10, money=0.5)
    return number


@tool
async def weigh(number: int) -> int:
    """Weigh it.

    Args:
        number: What.
    """
    return number


@weft.step
async def breaks() -> None:
    raise ValueError("first line\nsecond line")


@weft.step
async def large() -> str:
    return "x" * 50_000


@weft.workflow
async def below(number: int) -> int:
    return await look(number)


async def chain(number: int) -> int:
    return await weigh(await look(number))


@weft.workflow
async def everything() -> str:
    await look(1)
    await asyncio.gather(chain(2), chain(3))
    weft.random()
    await below(4)
    with suppress(ValueError):
        await breaks()
    await weft.sleep(0.001)
    await large()
    reply = Reply(message=Message("assistant", "Hello."), usage=Usage(input=7, output=2), model="parrot")
    return (await script([reply]).chat("Hi.")).text


async def ask(store: str, question: Callable[[Store], Awaitable[Any]]) -> Any:
    opened = open_store(store)
    try:
        return await question(opened)
    finally:
        await opened.close()


def read(store: str, question: Callable[[Store], Awaitable[Any]]) -> Any:
    return asyncio.run(ask(store, question))


def ran(store: str) -> str:
    async def use(runtime: weft.Runtime) -> str:
        run = await runtime.start(everything)
        await run.result()
        return run.id

    found: str = drive(store, use)
    return found


async def all_of(store: Store, run: str) -> list[Node]:
    return [node async for node in read_run(store, run)]


KINDS = "process step step step tool tool random spawn child step sleep step generation"
"""Of effects 0 to 12."""


def test_a_run_is_read_as_nodes(store: str) -> None:
    run = ran(store)
    nodes = read(store, lambda s: all_of(s, run))
    own = {node.effect: node for node in nodes if node.run == run}
    assert [own[number].kind for number in range(13)] == KINDS.split()
    assert {node.parent for node in own.values()} == {None, run}
    assert own[9].status == "failed" and own[9].error == "ValueError: first line"
    assert own[1].spent == {"tokens": 10, "money": 0.5} and own[1].money == 0.5
    assert (own[12].model, own[12].input_tokens, own[12].output_tokens) == ("parrot", 7, 2)
    for node in nodes:
        assert node.ended is not None and node.issued <= node.started <= node.ended
        assert node.effect == 0 or own[0].started <= node.issued
        assert node.ended <= (own[0].ended or 0)
    child = [node for node in nodes if node.run != run]
    assert [node.kind for node in child] == ["process", "step"]
    assert child[0].parent == f"{run}:7" and own[7].child == own[8].child == child[0].run


def test_lines_of_control_are_told(store: str) -> None:
    run = ran(store)
    own = {node.effect: node for node in read(store, lambda s: all_of(s, run)) if node.run == run}
    assert [(own[n].line, own[n].after) for n in (1, 2, 3, 6, 7)] == [
        ((1,), 0),
        ((1, 2), 1),
        ((1, 3), 1),
        ((1,), 1),
        ((1,), 6),
    ]
    assert {(own[n].line, own[n].after) for n in (4, 5)} == {((1, 2), 2), ((1, 3), 3)}
    inner = [node for node in read(store, lambda s: all_of(s, run)) if node.run != run and node.effect]
    assert [(node.line, node.after) for node in inner] == [((1,), 0)]


def test_pages_make_up_the_whole(store: str) -> None:
    run = ran(store)

    async def paged(opened: Store) -> tuple[list[Node], list[Node], list[int]]:
        found: list[Node] = []
        first: int | None = 0
        while first is not None:
            page = await read_page(opened, run, first=first, limit=3)
            assert 0 < len(page.nodes) <= 3
            found += page.nodes
            first = page.next
        tools = await read_page(opened, run, kinds=("tool",))
        numbers = [number async for number, _ in read_records(opened, run, 5)]
        return found, tools.nodes, numbers

    found, tools, numbers = read(store, paged)
    assert found == [node for node in read(store, lambda s: all_of(s, run)) if node.run == run and node.effect]
    assert len(tools) == 2 and numbers == list(range(5, 5 + len(numbers)))
    middle = found[5]
    within = read(store, lambda s: read_page(s, run, since=middle.issued, until=middle.ended)).nodes
    assert middle in within and found[-1] not in within and found[0] not in within


def test_bodies_are_read_one_by_one_and_large_ones_whole(store: str) -> None:
    run = ran(store)
    assert read(store, lambda s: read_body(s, run, 2)).arguments == [2]
    assert read(store, lambda s: read_body(s, run, 11)).value == "x" * 50_000
    failed = read(store, lambda s: read_body(s, run, 9))
    assert not failed.ok and "second line" in failed.value["message"]
    with pytest.raises(StoreError, match="no effect 99"):
        read(store, lambda s: read_body(s, run, 99))
    with pytest.raises(UnknownRun, match="weft ps"):
        read(store, lambda s: all_of(s, "nobody"))


async def write(store: Store, batch: Batch) -> None:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def tell(error: BaseException | None) -> None:
        done.set_exception(error) if error else done.set_result(None)

    store.commit(batch, tell)
    await done


def as_of_old(records: list[AnyRecord]) -> bytes:
    """As a Weft wrote them that knew neither roles nor lines."""
    lists: list[list[Any]] = msgspec.msgpack.decode(encode_records(records))
    return msgspec.msgpack.encode([one[: 16 if one[0] == "o" else 9] for one in lists])


def test_old_journals_and_effects_in_flight(store: str) -> None:
    nothing = encode_args((), {}, "")
    records: list[AnyRecord] = [
        Outcome(2.0, 1, "step", "generate", "f.py:1", nothing, encode(None), True, 1.5),
        Outcome(3.0, 2, "now", "now", "f.py:2", nothing, encode(None)),
        Started(4.0, 3, "step", "slow", "f.py:3", nothing, role="tool"),
    ]

    async def look_at(opened: Store) -> list[Node]:
        await opened.register("test", {})
        row = ProcessRow(id="r", owner="test", workflow="w", created=1.0, started=1.0, updated=9.0, length=2)
        await write(opened, Batch(rows={"r": row}, segments=[Segment("r", 0, as_of_old(records[:2]))]))
        old = [node async for node in read_effects(opened, "r")]
        await write(opened, Batch(segments=[Segment("r", 2, encode_records(records[2:]))]))
        return old + [node async for node in read_effects(opened, "r", 2)]

    generation, clock, slow = read(store, look_at)
    assert (generation.kind, generation.issued, generation.seconds, generation.line) == ("generation", 1.5, 0.5, ())
    assert (clock.kind, clock.issued, clock.seconds) == ("clock", 3.0, 0.0)
    assert (slow.kind, slow.status, slow.ended, slow.started) == ("tool", "running", None, 4.0)
