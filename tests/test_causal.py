"""Chains: what came of what in a real run, whether an order can be, and whether a failure was seen before."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weft
from benchmarks.trace.failures import GROUPS
from tests.programs import drive
from weft.core.errors import BadInput, UnknownRun
from weft.trace.causal import Event, Failure, Failures, ancestry, artefacts, chain_of, simulated, violations

notes = weft.Memory("notes", str)


@weft.step(effect="pure")
async def think(word: str) -> str:
    await asyncio.sleep(0.01)
    return word


@notes.operation()
async def put(op: weft.Operation[str], name: str) -> None:
    op.write(name, await think(name))


@notes.operation()
async def get(op: weft.Operation[str], name: str) -> str:
    return await op.read(name, "")


@weft.workflow
async def writer(name: str) -> None:
    await put(name)


@weft.workflow
async def reader() -> str:
    await asyncio.gather(writer("a"), think("beside"))
    return await get("a")


def of_a_run(store: str, read: Any) -> Any:
    async def use(runtime: weft.Runtime) -> Any:
        run = await runtime.start(reader)
        await run.result()
        await runtime.journal.barrier()
        return await read(runtime.store, run.id)

    return drive(store, use)


def test_a_chain_leads_back_over_memory_to_the_child_that_wrote(store: str) -> None:
    events = of_a_run(store, chain_of)
    (read,) = (one for one in events if one.reads)
    (commit,) = (one for one in events if one.writes)
    assert commit.id in read.causes and commit.id.partition(":")[0] != read.id.partition(":")[0]
    before = [one.name for one in ancestry(events, read.id)]
    assert "test_causal.think" in {name.removeprefix("tests.") for name in before}
    assert violations(events) == []
    assert ancestry(events, events[0].id) == [events[0]]


def test_no_chain_of_an_unknown_run(store: str) -> None:
    async def use(runtime: weft.Runtime) -> Any:
        return await chain_of(runtime.store, "nowhere")

    with pytest.raises(UnknownRun):
        drive(store, use)


# --- order ----------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 30), st.floats(0, 1))
def test_simulated_events_can_be(seed: int, actors: int, ambient: float) -> None:
    events = [*simulated(200, actors, seed, ambient)]
    assert len(events) == 200 and violations(events) == []
    assert events == [*simulated(200, actors, seed, ambient)]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.data())
def test_an_event_that_is_moved_before_its_cause_is_found(seed: int, data: st.DataObject) -> None:
    events = [*simulated(100, seed=seed, ambient=0.1)]
    known = {one.id: one for one in events}
    at = data.draw(st.sampled_from([at for at, one in enumerate(events) if one.causes]))
    moved, cause = events[at], known[events[at].causes[0]]
    events[at] = msgspec.structs.replace(moved, begin=cause.end - 1, end=moved.end)
    assert ("cause", moved.id, cause.id) in [(one.kind, one.event, one.other) for one in violations(events)]


def test_an_actor_in_two_places_and_time_that_goes_back_are_found() -> None:
    first = Event(id="a", actors=("ann", "bob"), begin=0, end=10)
    second = Event(id="b", actors=("bob",), begin=8, end=9)
    found = violations([second, first, Event(id="c", begin=5, end=4)])
    assert [(one.kind, one.event, one.other, one.actor) for one in found] == [
        ("backwards", "c", "c", ""), ("overlap", "b", "a", "bob"),
    ]  # fmt: skip
    assert violations([first, second], slack=2) == []


def test_who_reads_an_artefact_comes_of_who_wrote_it_last() -> None:
    events = [
        Event(id="old", begin=0, end=1, writes=("plan",)),
        Event(id="new", begin=2, end=3, writes=("plan",)),
        Event(id="late", begin=4, end=6, writes=("plan",)),
        Event(id="read", begin=5, end=7, reads=("plan", "unknown")),
    ]
    assert {one.id: one.causes for one in artefacts(reversed(events))}["read"] == ("new",)


@pytest.mark.parametrize(("count", "actors"), [(1, 1), (-1, 5)])
def test_a_simulation_of_nobody_is_refused(count: int, actors: int) -> None:
    with pytest.raises(BadInput, match="2 actors"):
        [*simulated(count, actors)]


# --- recurrence -----------------------------------------------------------------------------------------------------


def failures(message: str, *more: str) -> list[Failure]:
    each = enumerate((message, *more))
    return [Failure(run=f"r{at}", error="OSError", tool="read", message=text, at=at) for at, text in each]


def test_the_same_failure_with_other_numbers_is_found_and_another_is_not() -> None:
    past = Failures(
        failures(
            "can't open /srv/a/17.txt: no such file or directory",
            "can't open /srv/b/99.txt: permission denied",
            "disk quota of volume 7 exhausted",
        )
    )
    new = Failure(run="new", error="OSError", tool="read", message="can't open /tmp/x/3.txt: no such file or directory")
    found = past.like(new)
    assert [one.failure.run for one in found] == ["r0"] and found[0].likeness == pytest.approx(1)


def test_the_best_hit_is_rejected_if_it_is_another_failure() -> None:
    past = Failures(failures("connection to database orders refused: too many clients"))
    other = Failure(run="n", error="ValueError", tool="db", message="connection to database billing: wrong password")
    assert past.like(other) == []
    assert [one.failure.run for one in past.like(other, same=0)] == ["r0"]  # though it is found


def test_a_run_is_no_recurrence_of_itself_and_an_empty_past_has_none() -> None:
    (one,) = failures("disk full")
    assert Failures([one]).like(one) == [] and Failures([]).like(one) == []


def test_meaning_finds_what_words_do_not() -> None:
    past = failures("the disk is full", "the sun shines")
    new = Failure(run="new", error="OSError", tool="read", message="no space left on device")
    vectors = {"disk": (1.0, 0.0), "space": (1.0, 0.0), "sun": (0.0, 1.0)}

    def embed(texts: Any) -> Any:
        return [next(vector for word, vector in vectors.items() if word in text) for text in texts]

    assert Failures(past).like(new, same=0.3) == []
    assert [one.failure.run for one in Failures(past, embed).like(new, same=0.3)] == ["r0"]
    with pytest.raises(BadInput, match="1 vectors for 2 texts"):
        Failures(past, lambda texts: [(1.0,)])
    with pytest.raises(BadInput, match="from 0 to 1"):
        Failures(past).like(new, same=1.5)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([*GROUPS]), st.integers(0, 3), st.integers(0, 1), st.lists(st.integers(0, 10**6), min_size=2))
def test_one_wording_is_the_same_failure_whatever_its_numbers(tool: str, at: int, way: int, numbers: list[int]) -> None:
    cause = GROUPS[tool][at]
    one, other = (
        Failure(
            run=str(number), error=cause.error, tool=tool, message=re.sub(r"\{\w+\}", str(number), cause.wordings[way])
        )
        for number in (numbers[0], numbers[1] + 10**7)
    )
    found = Failures([one]).like(other)
    assert [each.failure for each in found] == [one] and found[0].likeness == pytest.approx(1)
