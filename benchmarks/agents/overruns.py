"""Simulated agents under limits of all kinds: what they really spend is counted by the models and tools themselves.

Each run draws its limits (of its policy, of its process's budget, or of both), how its model answers (how long, how
many tokens, how many calls, when it hands in, whether it heeds that it may call nothing any more), and what its tools
return; a quarter have a sub-agent. Tokens are at most those that Weft reckons for a prompt (one for 3 bytes); an answer
that was given up counts in full. In a fifth of the runs, calls and generations take time, by a virtual clock, so that
seconds are exact. No run may pass a limit by anything.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import track

import weft
from benchmarks.agents.clock import VirtualClock
from weft.agent import Agent, Answer, Dynamic, Fixed, Pace
from weft.core.budget import Budget
from weft.core.content import ToolCall
from weft.model.generate import ANSWER, length
from weft.model.message import Message
from weft.model.request import Reply, Request, Usage
from weft.runtime.alarms import Alarms
from weft.runtime.runtime import Runtime
from weft.tool.declare import Tool

PRICES = '[script]\n"*" = { input = 3.0, output = 15.0 }\n'
POLICY = ("turns", "tokens", "money", "seconds")
PROCESS = (*POLICY, "effects")
CHUNK = 100
"""Runs that share a store."""
TIMED = 5
"""Of so many runs one is limited in seconds: one after the other, as they share the clock."""
console = Console(stderr=True)


class Spent(msgspec.Struct):
    """What was really spent. `seconds`: of steps that ran."""

    turns: int = 0
    tokens: int = 0
    money: float = 0.0
    seconds: float = 0.0
    effects: int = 0

    def over(self, limit: Budget | None) -> list[str]:
        """The kinds of which this is more than there was."""
        limits = {} if limit is None else limit.limits()
        return [kind for kind, most in limits.items() if getattr(self, kind) > most + 1e-6]


class Patient(VirtualClock):
    """Waits until all threads have had the time to say what they have to."""

    def _look(self) -> None:
        self._loop.call_later(0.002, super()._look)


class VirtualAlarms(Alarms):
    """Ring by that clock."""

    def __init__(self, runtime: Runtime, clock: VirtualClock) -> None:
        super().__init__(runtime)
        self.clock = clock

    def set(self, process: Any, pending: Any) -> None:
        pending.started = self.runtime.clock()

        pending.host = self._after(pending.deadline, lambda: process.arrive(pending, True, None))

    def expect(self, wake_at: float) -> None:
        if self.wake_at is None or wake_at < self.wake_at:
            self.close()
            self.wake_at = wake_at
            self.timer = self._after(wake_at, self._ring)

    def _after(self, when: float, then: Callable[[], object]) -> Any:
        async def ring() -> None:
            await self.clock.sleep(max(0.0, when - self.clock.time()))
            then()

        return self.runtime.host.create_task(ring())  # the running loop may be a body's


class Simulated:
    """One agent: its model, its tools, what it spent."""

    def __init__(
        self, name: str, draw: random.Random, clock: VirtualClock | None, above: Simulated | None = None
    ) -> None:
        self.name, self.draw, self.clock, self.above = name, draw, clock, above
        self.spent = Spent()
        self.ends = draw.choice((draw.randint(1, 12), 30))
        """The turn at which it hands in."""
        self.deaf = draw.random() < 0.3
        self.long = draw.random() < 0.3
        """It answers as long as it may."""
        self.bytes = draw.uniform(3.0, 6.5)
        """Of its prompt for a token."""
        self.child = None
        if above is None and draw.random() < 0.25:
            self.child = Simulated(f"{name}.child", draw, clock, self)

    def count(self, **amounts: float) -> None:
        """It was spent here, and so by all above."""
        for kind, amount in amounts.items():
            setattr(self.spent, kind, getattr(self.spent, kind) + amount)
        if self.above is not None:
            self.above.count(**amounts)

    async def work(self, seconds: float) -> None:
        """Run for so long, unless given up before; for no time in a run without a clock."""
        if self.clock is None:
            return
        began = self.clock.now
        try:
            await self.clock.sleep(seconds)
        finally:
            self.count(seconds=self.clock.now - began)

    async def think(self, request: Request) -> Reply:
        """The model."""
        most = request.max_tokens or ANSWER
        output = most if self.long else min(most, int(self.draw.lognormvariate(5, 1)) + 1)
        usage = Usage(input=int(length(request) * 3 / self.bytes), output=output)
        self.count(turns=1, effects=1, tokens=usage.input + output, money=(3 * usage.input + 15 * output) / 1e6)
        await self.work(self.draw.choice((0.5, 2.0, 8.0, 60.0, 3600.0)) * self.draw.random())
        turn = 1 + sum(message.role == "assistant" for message in request.messages)
        if turn >= self.ends or (request.tool_choice == "none" and not self.deaf):
            return Reply(message=Message("assistant", "x" * min(output, 3000)), usage=usage)
        names = ["look", *(["ask"] if self.child is not None else [])]
        calls = []
        for n in range(self.draw.randint(1, 4)):
            arguments = {"prompt": "x" * self.draw.randint(0, 50)}
            calls.append(ToolCall(id=f"{turn}.{n}", name=self.draw.choice(names), arguments=arguments))
        return Reply(message=Message("assistant", tuple(calls)), finish="tool_call", usage=usage)

    async def look(self, prompt: str) -> str:
        self.count(effects=1)
        await self.work(self.draw.choice((0.1, 1.0, 30.0)) * self.draw.random())
        return "x" * int(self.draw.lognormvariate(5, 2))

    def agent(self, turns: Pace | None) -> Agent[str]:
        tools: list[Tool[..., Any]] = [Tool(self.look, name="look", effect="pure")]
        if self.child is not None:
            tools.append(self.child.agent(None).as_tool(name="ask"))
        model = weft.model.script(self.think, name=self.name)
        said = {"max_tokens": self.draw.choice((64, 1000))} if self.draw.random() < 0.3 else {}
        return Agent(model, name=self.name, tools=tools, turns=turns, **said)


def drawn(draw: random.Random, kinds: tuple[str, ...], timed: bool) -> Budget:
    """A limit of some of these kinds; of seconds in each run with a clock, and in no other."""
    amounts: dict[str, float] = {
        "turns": draw.randint(1, 20),
        "tokens": int(10 ** draw.uniform(1.5, 6)),
        "money": 10 ** draw.uniform(-4, 1),
        "seconds": 10 ** draw.uniform(0, 4.5),
        "effects": draw.randint(0, 60),
    }
    others = [kind for kind in kinds if kind != "seconds"]
    chosen = draw.sample(others, draw.randint(0 if timed else 1, len(others))) + ["seconds"] * timed
    return Budget(**{kind: amounts[kind] for kind in chosen})


class Ran(msgspec.Struct):
    """What came of a run: the kinds that were overrun, whether it was cut short, whether something was handed in."""

    over: list[str]
    limited: bool
    said: bool


async def simulate(runtime: weft.Runtime, clock: VirtualClock | None, number: int, seed: int) -> Ran:
    draw = random.Random(f"{seed}.{number}")
    one = Simulated(f"simulated.{number}", draw, clock)
    policy = drawn(draw, POLICY, clock is not None) if draw.random() < 0.6 else None
    process = drawn(draw, PROCESS, clock is not None) if policy is None or draw.random() < 0.5 else None
    pace: Pace | None = None if policy is None else Fixed(policy)
    if policy is not None and draw.random() < 0.5:
        start = Budget(**{kind: most if kind == "turns" else most / 4 for kind, most in policy.limits().items()})
        pace = Dynamic(start, more=start, most=policy)
    agent = one.agent(pace)
    began = clock.now if clock is not None else 0.0
    answer: Answer[str] = await runtime.run(agent.options(budget=process) if process else agent, "x" * 100)
    mine = msgspec.structs.replace(one.spent)
    if one.child is not None:  # a policy limits the agent's own generations
        for kind in ("turns", "tokens", "money"):
            setattr(mine, kind, getattr(mine, kind) - getattr(one.child.spent, kind))
    mine.seconds = clock.now - began if clock is not None else 0.0
    over = [f"policy {kind}" for kind in mine.over(policy)] + [f"budget {kind}" for kind in one.spent.over(process)]
    return Ran(over, answer.ended == "limit", bool(answer.output))


def _prices(folder: str) -> str:
    """A file of prices in it."""
    path = Path(folder, "prices.toml")
    path.write_text(PRICES)
    return str(path)


async def runs(count: int, seed: int) -> list[Ran]:
    """So many."""
    found: list[Ran] = []
    for at in track(range(0, count, CHUNK), "simulated agents", console=console):
        with tempfile.TemporaryDirectory(prefix="weft-overruns-") as folder:
            os.environ["WEFT_PRICES"] = _prices(folder)
            runtime = weft.Runtime(Path(folder, "journal.db"), durability="process", policy=weft.Policy(base="all"))
            async with runtime:
                numbers = range(at, min(count, at + CHUNK))
                work = (simulate(runtime, None, number, seed) for number in numbers if number % TIMED)
                found += await asyncio.gather(*work)
                clock = Patient()
                runtime.clock = clock.time
                runtime.alarms = VirtualAlarms(runtime, clock)
                found += [await simulate(runtime, clock, number, seed) for number in numbers if not number % TIMED]
            del os.environ["WEFT_PRICES"]
    return found
