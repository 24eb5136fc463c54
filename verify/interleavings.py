"""Every interleaving of small agents on the real store and runtime: ``python -m verify.interleavings [--small]``.

An agent can be interrupted only where it awaits, so the orders in which the agents take their actions are all that can
happen between them. Each is played (`verify.scheduled`) and judged (`verify.judge`): nothing that the level excludes,
every operation done within its retries, and in memory what some serial order would have left.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, permutations
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import weft
from verify.bugs import BUGS, planted
from verify.judge import Judgement, excluded, judge
from verify.scheduled import Action, land, scene
from weft.core.memory import Level

AT_ONCE = 100
"""Schedules that are played beside each other, each in a namespace of its own."""


class Cast(NamedTuple):
    """Agents whose interleavings are all played."""

    name: str
    level: Level
    agents: Sequence[Sequence[Action]]
    tools: Mapping[str, str] = MappingProxyType({})

    def turns(self) -> list[int]:
        return [turns_of(actions) for actions in self.agents]


def turns_of(actions: Sequence[Action]) -> int:
    """How many actions an agent takes: the commit of its operation is one."""
    outside = sum(action[0] in ("retract", "offer", "withdraw") for action in actions)
    inside = [action for action in actions if action[0] in ("read", "plan", "call")]
    writes = any(action[0] == "write" for action in actions)
    return outside + len(inside) + (1 if inside or writes else 0)


def reads(*cells: str) -> list[Action]:
    return [["read", cell] for cell in cells]


def writes(*cells: str) -> list[Action]:
    return [["write", cell] for cell in cells]


PLAN: list[Action] = [["plan"], ["call", "t"], ["write", "x"]]
CHURN: list[Action] = [["withdraw", "t"], ["offer", "t", "2"]]
CASTS = (
    Cast(
        "three that read two cells and write one",
        "L1",
        [reads("x", "y") + writes("x"), reads("x", "y") + writes("y"), reads("y", "x") + writes("x")],
    ),
    Cast("a blind write between", "L1", [reads("x", "y") + writes("x", "y"), reads("x") + writes("y"), writes("x")]),
    Cast(
        "a chain, and a retraction",
        "L2",
        [writes("x"), reads("x") + writes("y"), reads("y") + writes("z"), [["retract", "0"]]],
    ),
    Cast(
        "two sources, and two retractions",
        "L2",
        [writes("x"), writes("y"), reads("x", "y") + writes("x"), [["retract", "0"], ["retract", "1"]]],
    ),
    Cast("two that plan, and a tool that changes", "L4", [PLAN, PLAN, CHURN], {"t": "1"}),
)
LARGE = (
    Cast(
        "write skew, and one that only reads",
        "L1",
        [reads("x", "y") + writes("x"), reads("x", "y") + writes("y"), reads("x", "y")],
    ),
    Cast(
        "three that read three cells",
        "L1",
        [reads("x", "y", "z") + writes("x"), reads("x", "y", "z") + writes("y"), reads("z", "y", "x") + writes("x")],
    ),
)


def interleavings(turns: Sequence[int]) -> Iterator[list[int]]:
    """All orders in which agents can take so many turns each."""
    left = list(turns)
    order: list[int] = []

    def go() -> Iterator[list[int]]:
        if not any(left):
            yield list(order)
        for agent, rest in enumerate(left):
            if rest:
                left[agent] -= 1
                order.append(agent)
                yield from go()
                order.pop()
                left[agent] += 1

    return go()


class Played(NamedTuple):
    cast: Cast
    schedules: int
    faults: list[str]
    attempts: int


async def play(runtime: weft.Runtime, cast: Cast, first: int, most: int | None = None) -> Played:
    """Play all interleavings of a cast, or the first `most`. `first`: number of the first namespace that is free."""
    orders = islice(interleavings(cast.turns()), most)
    count, attempts, faults = 0, 0, list[str]()
    while chunk := list(islice(orders, AT_ONCE)):
        judged = await asyncio.gather(
            *(one(runtime, f"s{first + count + at}", cast, order) for at, order in enumerate(chunk))
        )
        for order, judgement in zip(chunk, judged, strict=True):
            attempts = max(attempts, judgement.attempts)
            faults += [f"{cast.name}, {''.join(map(str, order))}: {fault}" for fault in _faults(cast.level, judgement)]
        count += len(chunk)
    return Played(cast, count, faults, attempts)


async def one(runtime: weft.Runtime, namespace: str, cast: Cast, order: Sequence[int]) -> Judgement:
    run = await runtime.start(
        scene, namespace, cast.level, [list(a) for a in cast.agents], list(order), dict(cast.tools)
    )
    return await judge(runtime.store, run.id, namespace, cast.agents, await run)


def _faults(level: Level, judgement: Judgement) -> Iterator[str]:
    yield from (finding.words for finding in excluded(level, judgement))
    yield from (f"an agent gave up: {failure}" for failure in judgement.failed)
    if not judgement.serial:
        yield "what is in memory is left by no serial order"


# --- effects ------------------------------------------------------------------------------------------------------


async def play_effects(runtime: weft.Runtime, count: int) -> Played:
    cast = Cast(f"{count} effects computed in every order", "L3", [])
    faults, played = list[str](), 0
    for computed in permutations(range(count)):
        _, landed = await land(runtime, f"e{played}", "L3", computed)
        played += 1
        if landed != list(range(count)):
            faults.append(f"computed as {computed}, landed as {landed}")
    return Played(cast, played, faults, 1)


# --- the whole of it ----------------------------------------------------------------------------------------------


async def explore(store: str, *, small: bool) -> list[Played]:
    found: list[Played] = []
    async with weft.Runtime(store, durability="process") as runtime:
        first = 0
        for cast in (*CASTS, *(() if small else LARGE)):
            found.append(await play(runtime, cast, first))
            first += found[-1].schedules
        found.append(await play_effects(runtime, 4 if small else 6))
    return found


async def find(store: str, bug: str) -> int:
    """How many schedules, at most, must be played until a planted bug shows; 0 if it never does."""
    played = 0
    with planted(bug):
        async with weft.Runtime(store, durability="process") as runtime:
            for cast in (cast for cast in CASTS if cast.level == BUGS[bug].level):
                orders = interleavings(cast.turns())
                while chunk := list(islice(orders, AT_ONCE)):
                    names = [f"b{played + at}" for at in range(len(chunk))]
                    played += len(chunk)
                    judged = await asyncio.gather(
                        *(one(runtime, name, cast, order) for name, order in zip(names, chunk, strict=True))
                    )
                    if any(list(_faults(cast.level, judgement)) for judgement in judged):
                        return played
            return played + 1 if (await play_effects(runtime, 3)).faults else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m verify.interleavings", description=__doc__)
    parser.add_argument("--small", action="store_true", help="without the largest cast: some 3,000 schedules")
    parser.add_argument("--store", help="a path or URL (default: a temporary file)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        played = asyncio.run(explore(given.store or f"{folder}/journal.db", small=given.small))
        for one in played:
            print(f"{one.schedules:>7} schedules, {len(one.faults)} faults, at most {one.attempts} attempts: "
                  f"{one.cast.level} {one.cast.name}")  # fmt: skip
            for fault in one.faults[:5]:
                print(f"        {fault}")
        bugs = {bug: asyncio.run(find(f"{folder}/{n}.db", bug)) for n, bug in enumerate(BUGS)}
    for bug, after in bugs.items():
        print(f"planted: {bug}: {f'found within {after} schedules' if after else 'NOT FOUND'}")
    total = sum(one.schedules for one in played)
    print(f"{total} distinct schedules in {time.perf_counter() - began:.0f} s")
    if given.json:
        figures = {"schedules": total, "faults": sum(len(one.faults) for one in played), "bugs": bugs}
        given.json.write_text(json.dumps(figures))
    return 1 if any(one.faults for one in played) or not all(bugs.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
