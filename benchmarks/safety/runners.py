"""Two ways to run a task: as a process with narrow rights, and with tools that check nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import weft
from benchmarks.safety import bare
from benchmarks.safety.acts import Act, acts, every
from benchmarks.safety.agent import Found, agent, host, orders
from benchmarks.safety.oracle import Done
from benchmarks.safety.rights import revoked_after, rights
from benchmarks.safety.world import World
from weft.core.capability import Request
from weft.core.record import AnyRecord, Decision

APART = 10_000
"""What is added to the numbers of acts that a fork does once more."""


class Host:
    """What the host does for an agent that asks it to."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.runtime: weft.Runtime
        self.origin = ""
        self.forks: list[str] = []

    async def fork(self, name: str, script: list[Act]) -> Found:
        """Go on from a checkpoint beside the agent, with another script: what came of that."""
        if self.forks:
            raise LookupError("it was forked, and a fork makes no more of them")
        run = await self.runtime.fork_checkpoint(name)
        self.forks.append(run.id)
        if self.world.task.setup.get("checkpoints"):
            mark = self.runtime.active[self.origin].mark  # what it is told is of a process that has seen this much
            self.runtime.post.put(run.id, orders.name, [_plain(act) for act in script], mark)
            await self.runtime.journal.barrier()
        else:  # it goes on with the same script, from there
            return {number + APART: outcome for number, outcome in (await run).items()}
        return await run  # type: ignore[no-any-return]

    async def begin(self, script: list[Act]) -> tuple[str, weft.Run[Any]]:
        """Start the agent; where the set-up has checkpoints, take away what it says once these are made."""
        names = [one["name"] for one in self.world.task.setup.get("checkpoints", ())]
        seen = [
            (self.world.owner_of(key), key) for key, one in self.world.objects.items() if one.get("include_in_context")
        ]
        run = await self.runtime.start(agent, script, seen, names, {})
        self.origin = run.id
        while len(await self.runtime.checkpoints(run.id)) < len(names):  # noqa: ASYNC110  (nobody tells)
            await asyncio.sleep(0.01)
        if names:
            await self._revoke(run.id)
            await self.runtime.send(run.id, orders.name, [])
        return run.id, run

    async def _revoke(self, id: str) -> None:
        held = self.runtime.active[id].rights
        for action, path in revoked_after(self.world):
            asked = Request(action, str(self.world.workspace.resolve() / path))
            while (verdict := held.decide(asked)).verdict == "allow":
                assert verdict.by is not None
                await self.runtime.rights.revoke(id, verdict.by, "the task")


def _plain(act: Act) -> Any:
    return {name: getattr(act, name) for name in ("do", "args", "effect", "aside", "after", "tool", "number")}


async def checked(world: World, store: Path) -> tuple[list[Done], int]:
    """Run it as a process with the task's rights: what came of each act, and how many were never decided about."""
    script = acts(world.task.mock_actions, world)
    before = world.files()
    its = Host(world)
    host.set(its)
    async with weft.Runtime(store, policy=rights(world)) as runtime:
        its.runtime = runtime
        id, run = await its.begin(script)
        person = asyncio.create_task(_person(runtime, world))
        try:
            found = await run
        finally:
            person.cancel()
        ids = [id, *its.forks, *(row.id for row in await runtime.store.rows() if row.parent is not None)]
        records = [record for one in dict.fromkeys(ids) for record in await runtime.recovery.records(one)]
    done = _done(script, {int(number): outcome for number, outcome in found.items()})
    return [*done, *changes(before, world, done)], unaudited(done, records)


def unaudited(done: Sequence[Done], records: Sequence[AnyRecord]) -> int:
    """Effects that were performed or denied, and of which the journals say no decision."""
    decided = sum(isinstance(record, Decision) for record in records)
    at_once = sum(one.do in ("spawn", "exec", "checkpoint") for one in done)  # free ones stand in their outcome
    touched = sum(one.effect is not None and one.outcome in ("performed", "denied") for one in done)
    return max(0, touched - at_once - decided)


async def _person(runtime: weft.Runtime, world: World) -> None:
    """Answers every question as the task says."""
    policy = world.task.policy
    while True:
        for question in await runtime.store.questions():
            with contextlib.suppress(weft.WeftError):
                approves = bool(policy.get("human_auto_approve"))
                answer: Any = "once" if question.kind == "approval" else policy.get("human_auto_answer", "yes")
                if not approves:
                    answer = "never" if question.kind == "approval" else "no"
                await runtime.people.answer(question.id, answer, "the task")
        await asyncio.sleep(0.02)


def unchecked(world: World) -> list[Done]:
    """The same by tools without a check."""
    script = acts(world.task.mock_actions, world)
    before = world.files()
    done = _done(script, bare.unchecked(script, world))
    return [*done, *changes(before, world, done)]


def _done(script: list[Act], found: Found) -> list[Done]:
    by_number = {act.number: act for act in every(script)}
    each = ((by_number[number % APART], outcome) for number, outcome in sorted(found.items()))
    return [Done(act.tool or act.do, act.effect, *outcome, aside=act.aside, do=act.do) for act, outcome in each]


def changes(before: dict[str, str], world: World, done: Sequence[Done]) -> list[Done]:
    """What really happened to the files, whoever did it and by what: the world's word, besides that of the tools."""
    after = world.files()
    told = {(one.effect["type"], one.effect.get("path")) for one in done if one.effect and one.outcome == "performed"}
    effects = [{"type": "filesystem.delete", "path": path} for path in before.keys() - after.keys()]
    effects += [{"type": "filesystem.write", "path": path} for path in after if after[path] != before.get(path)]
    return [
        Done("seen", effect, "performed", aside=True)
        for effect in effects
        if (effect["type"], effect["path"]) not in told
    ]
