"""Random programs, cut anywhere: a fork has its origin's history, repeats nothing of it, and ends alike."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import weft
from tests.programs import drive
from tests.test_replay_property import interpret, programs, told
from weft.core.codec import encode
from weft.core.errors import Cancelled
from weft.core.record import AnyRecord
from weft.core.rename import Names, fresh
from weft.runtime.checkpoint import find
from weft.runtime.cut import decode_cut
from weft.trace.audit import verify

FREE = ("race", "completed", "timeout", "lock", "queue", "chance")
"""Kinds of programs whose result is not the same on every run."""


@weft.step(effect="pure")
async def mark(text: str) -> str:
    return text


@weft.workflow
async def marked(node: Any) -> Any:
    """A random program between two uses of its own id."""
    before = await mark(weft.current().id)
    found = await interpret(node, "p")
    return [before == weft.current().id, await mark(f"<{weft.current().id}>") == f"<{before}>", found]


def test_a_fork_from_anywhere_has_the_history_of_its_origin_and_ends_alike(store: str) -> None:
    @settings(max_examples=12 if "://" in store else 60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(node=programs, after=st.integers(0, 40))
    def check(node: Any, after: int) -> None:
        drive(store, partial(cut_and_fork, node=node, after=after), durability="process")

    check()


async def cut_and_fork(runtime: weft.Runtime, node: Any, after: int) -> None:
    """Cut when so many records have been written, or at the end."""
    seen, reached = 0, asyncio.Event()

    def count(id: str, record: AnyRecord) -> None:
        nonlocal seen
        seen += 1
        if seen >= after:
            reached.set()

    runtime.observe(count)
    run = await runtime.start(marked, node)
    waits = asyncio.create_task(reached.wait())
    ends = asyncio.create_task(run.result())
    await asyncio.wait([waits, ends], return_when=asyncio.FIRST_COMPLETED)
    made = await runtime.checkpoint(run.id)
    result = await ends
    waits.cancel()
    fork = await runtime.fork_checkpoint(made)
    try:
        again = await fork
    except Cancelled:  # a child that the origin had cancelled at the cut, and whose cancellation lay in its box
        assert "child" in repr(node)
    else:
        assert again[:2] == [True, True]
        assert again == result or any(kind in repr(node) for kind in FREE)
    await compare(runtime, made, fork.id)
    both = [id for one in (run.id, fork.id) for id in (await runtime.store.subtree(one)).rows]
    assert [flaw async for _, found in verify(runtime.store, both) for flaw in found] == []


async def compare(runtime: weft.Runtime, made: str, fork: str) -> None:
    await runtime.journal.barrier()
    rows = (await runtime.store.subtree(fork)).rows
    new = {(row.forked or "").rpartition("@")[0]: row.id for row in rows.values() if row.forked is not None}
    names = Names(new)
    for place in decode_cut((await find(runtime.store, made)).body).places:
        before = (await runtime.recovery.records(place.id))[: place.length]
        after = await runtime.recovery.records(new[place.id])
        kept = [renamed(outcome, names) for outcome in told(before)]
        assert told(after)[: len(kept)] == kept
        recorded = {outcome[3] for outcome in kept if outcome[1] == "step"}
        anew = {outcome[3] for outcome in told(after)[len(kept) :] if outcome[1] == "step"}
        assert not (recorded & anew) - {kept_mark(outcome) for outcome in kept}, "a recorded step was made again"


def kept_mark(outcome: tuple[Any, ...]) -> Any:
    """`fail` makes the same step whenever it is met, so the same arguments may come again."""
    return outcome[3] if outcome[2].endswith("refuse") else None


def renamed(outcome: tuple[Any, ...], names: Names) -> tuple[Any, ...]:
    number, kind, name, args, value, ok = outcome
    return number, kind, names.text(name), names.data(args), names.data(value), ok


# --- renaming ---------------------------------------------------------------------------------------------------------

IDS = ["1m8byenrcqmrv7e6", "1m8byenrcqmrv7e7", "1m8byep3yae50523", "0000000000000000", "zzzzzzzzzzzzzzzz"]
words = st.lists(st.one_of(st.sampled_from(IDS), st.text(max_size=5)), max_size=3).map("".join)
leaves = st.one_of(words, words.map(lambda text: text.encode("utf-8", "surrogatepass")), st.integers(), st.none())
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(words, inner, max_size=4),
        st.dictionaries(st.tuples(words), inner, max_size=3),
        st.frozensets(words, max_size=4),
    ),
    max_leaves=12,
)


def swapped(value: Any, names: dict[str, str]) -> Any:
    """The same by other means: on the value itself."""
    if isinstance(value, str | bytes):
        for old, new in names.items():
            value = value.replace(*((old, new) if isinstance(value, str) else (old.encode(), new.encode())))
        return value
    if isinstance(value, list | tuple | frozenset):
        return type(value)(swapped(item, names) for item in value)
    if isinstance(value, dict):
        return {swapped(key, names): swapped(item, names) for key, item in value.items()}
    return value


@settings(max_examples=300, deadline=None)
@given(value=values, old=st.lists(st.sampled_from(IDS), unique=True))
def test_an_encoded_value_with_other_ids_is_the_value_with_other_ids_encoded(value: Any, old: list[str]) -> None:
    new = fresh(old)
    assert [new[id] for id in sorted(old)] == sorted(new.values())
    encoded = encode(value)
    changed = Names(new).data(encoded)
    assert changed == encode(swapped(value, new))
    assert changed is encoded or any(id.encode() in encoded for id in old)
    assert Names({id: before for before, id in new.items()}).data(changed) == encoded
