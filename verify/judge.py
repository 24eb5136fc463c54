"""What must be true of a schedule that was played: judged from the journal and from what is in memory afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

import msgspec

from verify.scheduled import Action, made
from weft.core.memory import TOOLS, Level
from weft.core.sealed import carried
from weft.store.base import Store
from weft.trace.anomalies import EXCLUDES, Finding, check
from weft.trace.history import Operation
from weft.trace.journal_history import history_of_runs

MANY = 7
"""Operations whose orders are all tried; of more, only that of their commits."""


class Judgement(msgspec.Struct, frozen=True):
    """Of one schedule. `found`: anomalies of any kind, whatever the level. `attempts`: most that any operation took.
    `failed`: what agents gave up for. `serial`: whether what is in memory is what some order of the live operations,
    one after another, would have left (tools answering as they did)."""

    found: list[Finding]
    attempts: int
    failed: list[str]
    serial: bool

    def kinds(self) -> set[str]:
        return {finding.kind for finding in self.found}


async def judge(
    store: Store, run: str, namespace: str, agents: Sequence[Sequence[Action]], told: Mapping[str, Any]
) -> Judgement:
    """`told`: the result of the scene."""
    history = await history_of_runs(store, [run])
    return Judgement(
        found=check(history, "L4"),
        attempts=max(told["attempts"], default=0),
        failed=[failure for failure in told["failed"] if failure],
        serial=_serial(history, agents, told["answers"], await contents(store, namespace)),
    )


def excluded(level: Level, judgement: Judgement) -> list[Finding]:
    """Of what was found, what the level promises not to let happen."""
    return [finding for finding in judgement.found if finding.kind in EXCLUDES[level]]


async def contents(store: Store, namespace: str) -> dict[str, Any]:
    """What is in a namespace, but for its tools, by name."""
    seen = await store.under(namespace)
    found = {one.cell.partition("/")[2]: one.value for one in seen.objects}
    return {
        name: carried(value).value
        for name, value in found.items()
        if isinstance(value, bytes) and not name.startswith(TOOLS)
    }


def _serial(
    history: Sequence[Operation],
    agents: Sequence[Sequence[Action]],
    answers: Sequence[Sequence[str]],
    final: Mapping[str, Any],
) -> bool:
    live = [int(one.agent.removeprefix("agent ")) for one in history if not one.retracted and "agent " in one.agent]
    orders = [tuple(live), *(permutations(live) if len(live) <= MANY else ())]
    return any(_one_after_another(order, agents, answers) == final for order in orders)


def _one_after_another(
    order: Sequence[int], agents: Sequence[Sequence[Action]], answers: Sequence[Sequence[str]]
) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for agent in order:
        told = iter(answers[agent])
        read = [
            (what, state.get(what) if kind == "read" else next(told))
            for kind, what, *_ in (action for action in agents[agent] if action[0] in ("read", "call"))
        ]
        writes = [action[1] for action in agents[agent] if action[0] == "write"]
        state |= {cell: made(agent, cell, read) for cell in writes}
    return state
