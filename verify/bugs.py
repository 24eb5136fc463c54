"""Bugs, put into the real code on purpose: a check that does not find them shows nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from weft.core.memory import Level
from weft.runtime.operation import Operation
from weft.runtime.turns import Turn, Turns
from weft.store import memory as rule
from weft.store.memory import Built, Commit, Held, Object
from weft.store.postgres import memory as on_server
from weft.store.sqlite import memory as in_file


def _written_cells_unchecked(commit: Commit, held: Held) -> Iterable[str]:
    """As in the published artefact: what is written too is not validated, so an update gets lost."""
    for cell, seen in commit.reads.items():
        if cell not in commit.writes and rule._version(held, cell) != seen.version:
            yield cell


def _only_the_first_read(commit: Commit, held: Held) -> Iterable[str]:
    """The read set is not checked whole."""
    for cell, seen in list(commit.reads.items())[:1]:
        if rule._version(held, cell) != seen.version:
            yield cell


def _nothing_goes_with_it(retracted: str, level: Level, built: Mapping[str, Built]) -> tuple[list[str], list[str]]:
    """A retraction without its cascade."""
    return [retracted], list(built)


def _only_direct(retracted: str, level: Level, built: Mapping[str, Built]) -> tuple[list[str], list[str]]:
    """A cascade that ends after one step."""
    gone = [id for id, one in built.items() if retracted in one.on]
    return [retracted, *gone], [id for id in built if id not in gone]


def _left_as_it_is(cell: str, newest: Object, live: Object | None, at: int, now: float) -> Object:
    """As in the published artefact: the value of a retracted operation stays."""
    return rule.Object(
        cell=cell, version=newest.version + 1, at=at, operation=newest.operation, value=newest.value, by=newest.by
    )


def _as_it_comes(self: Turns, turn: Turn) -> bool:
    """Effects are not held back."""
    return True


async def _not_pinned(self: Operation[Any]) -> Operation[Any]:
    """The registry is read anew at each call, at every level."""
    found = await _begin(self)
    found._pinned = None
    return found


_begin = Operation._begin
STORES = (in_file, on_server)

Swap = tuple[Any, str, Callable[..., Any]]


class Bug(NamedTuple):
    """`level`: the lowest that it breaks."""

    level: Level
    swaps: Sequence[Swap]


BUGS: dict[str, Bug] = {
    "cells that are written too are not checked": Bug("L1", [(rule, "_stale", _written_cells_unchecked)]),
    "only the first cell that was read is checked": Bug("L1", [(rule, "_stale", _only_the_first_read)]),
    "a retraction takes nothing with it": Bug("L2", [(on, "cascade", _nothing_goes_with_it) for on in STORES]),
    "a cascade ends after one step": Bug("L2", [(on, "cascade", _only_direct) for on in STORES]),
    "a retraction restores nothing": Bug("L2", [(on, "restored", _left_as_it_is) for on in STORES]),
    "effects are let out as they come": Bug("L3", [(Turns, "first", _as_it_comes)]),
    "tools are not pinned": Bug("L4", [(Operation, "_begin", _not_pinned)]),
}


@contextmanager
def planted(bug: str) -> Iterator[None]:
    """The code has this bug while the block runs."""
    before = [(place, name, getattr(place, name)) for place, name, _ in BUGS[bug].swaps]
    for place, name, wrong in BUGS[bug].swaps:
        setattr(place, name, wrong)
    try:
        yield
    finally:
        for place, name, right in before:
            setattr(place, name, right)
