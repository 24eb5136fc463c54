"""Small agents on real shared memory, under a schedule that says who takes the next action.

The agents are tasks of one workflow; every action of theirs (a read, a commit, a retraction, a call of a tool) goes
through the runtime to the store, and stands in the journal. Between two actions each waits for the baton. So a
schedule decides everything that is left open, and the same schedule is the same run.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import weft
from weft.core.errors import MemoryConflict, PhantomTool
from weft.core.memory import Level
from weft.runtime.memory import PATIENCE

RETRIES = 5

Action = list[str]
"""["read", cell], ["write", cell], ["plan"], ["call", tool]: in an operation, committed when the agent has no more.
["retract", agent], ["offer", tool, number], ["withdraw", tool]: outside of one."""

OUTSIDE = ("retract", "offer", "withdraw")


@weft.step(name="verify.tool_1")
async def tool_1() -> str:
    return "one"


@weft.step(name="verify.tool_2")
async def tool_2() -> str:
    return "two"


TOOLS = {"1": tool_1, "2": tool_2}


class Baton:
    """Whose turn it is. An agent rests before each of its actions until it gets the baton, or is set free."""

    def __init__(self, agents: int) -> None:
        self.go = [asyncio.Event() for _ in range(agents)]
        self.rests = [asyncio.Event() for _ in range(agents)]
        self.free = [False] * agents
        self.over = [False] * agents

    async def rest(self, agent: int) -> None:
        if not self.free[agent]:
            self.rests[agent].set()
            await self.go[agent].wait()
            self.go[agent].clear()

    def leave(self, agent: int) -> None:
        self.over[agent] = True
        self.rests[agent].set()

    def release(self, agent: int) -> None:
        self.free[agent] = True
        self.go[agent].set()

    async def conduct(self, order: Sequence[int]) -> None:
        """Let the agents act in this order, one action at a time; then let each go on to its end, one after another."""
        for agent in order:
            await self.rests[agent].wait()
            if self.over[agent] or self.free[agent]:
                continue
            self.rests[agent].clear()
            self.go[agent].set()
            await self.rests[agent].wait()
        for agent in range(len(self.go)):
            await self.rests[agent].wait()
            self.release(agent)
            while not self.over[agent]:
                self.rests[agent].clear()
                await self.rests[agent].wait()


class Agent:
    def __init__(self, scene: Scene, number: int, actions: Sequence[Action]) -> None:
        self.scene = scene
        self.number = number
        self.inside = [action for action in actions if action[0] not in OUTSIDE]
        self.outside = [action for action in actions if action[0] in OUTSIDE]
        self.attempts = 0
        self.failed = ""
        self.answers: list[str] = []
        """Of the tools that it called, in its last attempt."""

    async def run(self) -> None:
        baton = self.scene.baton
        try:
            if self.inside:
                await self.scene.memory.operation(retries=RETRIES, agent=f"agent {self.number}")(self.operate)()
            for kind, *rest in self.outside:
                await baton.rest(self.number)
                await getattr(self, kind)(*rest)
        except (MemoryConflict, PhantomTool) as error:
            self.failed = type(error).__name__
        finally:
            baton.leave(self.number)

    async def operate(self, op: weft.Operation[Any]) -> None:
        """Reads in turn, then writes what it makes of all that it read."""
        self.attempts += 1
        baton = self.scene.baton
        if self.attempts > PATIENCE:
            baton.release(self.number)  # it may have to stand in line, which takes more than a turn
            baton.rests[self.number].set()
        read: list[tuple[str, Any]] = []
        self.answers = []
        for kind, *rest in self.inside:
            if kind == "write":
                continue
            await baton.rest(self.number)
            if kind == "read":
                read.append((rest[0], await op.read(rest[0], None)))
            elif kind == "plan":
                await op.tools()
            else:
                self.answers.append(await op.call(rest[0]))
                read.append((rest[0], self.answers[-1]))
        for kind, *rest in self.inside:
            if kind == "write":
                op.write(rest[0], made(self.number, rest[0], read))
        await baton.rest(self.number)
        self.scene.operations[self.number] = op.id

    async def retract(self, agent: str) -> None:
        operation = self.scene.operations.get(int(agent))
        if operation is not None:
            await self.scene.memory.retract(operation)

    async def offer(self, tool: str, number: str) -> None:
        await self.scene.memory.offer(TOOLS[number], tool)

    async def withdraw(self, tool: str) -> None:
        await self.scene.memory.withdraw(tool)


def made(agent: int, cell: str, read: Sequence[tuple[str, Any]]) -> str:
    """What an agent writes: a function of who it is and of what it read, and of nothing else."""
    return hashlib.blake2b(repr((agent, cell, list(read))).encode(), digest_size=6).hexdigest()


class Scene:
    def __init__(self, namespace: str, level: Level, agents: Sequence[Sequence[Action]]) -> None:
        self.memory: weft.Memory[Any] = weft.Memory(namespace, level=level)
        self.baton = Baton(len(agents))
        self.operations: dict[int, str] = {}
        self.agents = [Agent(self, number, actions) for number, actions in enumerate(agents)]


@weft.workflow(name="verify.scene")
async def scene(
    namespace: str, level: Level, agents: list[list[Action]], order: list[int], tools: dict[str, str]
) -> dict[str, Any]:
    """Play a schedule. `tools`: those that are there from the beginning. Returns attempts, failures and
    answers by agent."""
    played = Scene(namespace, level, agents)
    for name, number in tools.items():
        await played.memory.offer(TOOLS[number], name)
    async with asyncio.TaskGroup() as group:
        for agent in played.agents:
            group.create_task(agent.run())
        group.create_task(played.baton.conduct(order))
    return {
        "attempts": [agent.attempts for agent in played.agents],
        "failed": [agent.failed for agent in played.agents],
        "answers": [agent.answers for agent in played.agents],
    }


# --- effects of one operation -------------------------------------------------------------------------------------

_begun: dict[tuple[str, int], asyncio.Event] = {}
_computed: dict[tuple[str, int], asyncio.Event] = {}
_landed: dict[str, list[int]] = {}


@weft.step(name="verify.effect", order="staged")
async def effect(scene: str, number: int) -> None:
    """Computes until it is told that it is done; then it takes effect."""
    _begun[scene, number].set()
    await _computed[scene, number].wait()
    await weft.turn()
    _landed[scene].append(number)


@weft.workflow(name="verify.effects")
async def effects(namespace: str, level: Level, count: int) -> None:
    memory: weft.Memory[Any] = weft.Memory(namespace)
    async with memory.operation(level=level), asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(effect(namespace, number))


async def land(runtime: weft.Runtime, namespace: str, level: Level, computed: Sequence[int]) -> tuple[str, list[int]]:
    """Let the steps of one operation, called in the order of their numbers, finish computing in this order. The run,
    and the order in which their effects took place."""
    steps = [(namespace, number) for number in computed]
    _landed[namespace] = []
    _begun.update({step: asyncio.Event() for step in steps})
    _computed.update({step: asyncio.Event() for step in steps})
    run = await runtime.start(effects, namespace, level, len(computed))
    for step in steps:
        await _begun[step].wait()
    for step in steps:
        _computed[step].set()
        for _ in range(3):
            await asyncio.sleep(0)
    await run
    for step in steps:
        del _begun[step], _computed[step]
    return run.id, _landed.pop(namespace)
