"""The figure "time": several tasks at once, by an agent whose calls give handles, beside one that waits for each call.

A scenario is two or three tasks of BFCL, whose calls take seconds that were drawn, and a scripted model that knows the
calls but not how long they take. It decides on one call at a time (`THINK` seconds), always for the task that has the
most left, and waits when nothing is ready: a call of a task is ready when the one before was told. Another one, which
plans, makes all calls at once: tasks are lanes, and what comes out of a result is a reference to it. The clock is
virtual.
"""

from __future__ import annotations

import asyncio
import random
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import track

import weft
from benchmarks.agents import bfcl, schedule
from benchmarks.agents.clock import VirtualClock
from benchmarks.report import Measure, Report
from weft.agent import Agent
from weft.core.content import ToolCall
from weft.model.request import Request
from weft.tool.declare import Tool

THINK = 1.0
"""Seconds of a decision."""
MU, SIGMA = 1.0, 0.6
"""Of the logarithm of a call's seconds: 3.3 s in the mean."""
CHUNK = 50
"""Scenarios that share a store."""
SCHEMA: dict[str, Any] = {"type": "object", "properties": {}}
_CAME = re.compile(r"^\[(h\d+)\] \S+: (?:done|failed) at ", re.M)
_FAILED = re.compile(r"^\[h\d+\] \S+: failed at ", re.M)
_GIVEN = re.compile(r"h\d+: under way")
console = Console(stderr=True)


class Scenario(msgspec.Struct, frozen=True):
    """Tasks to be done at once, and the seconds that each of their calls takes."""

    tasks: list[bfcl.Task]
    seconds: list[list[float]]


class Done(msgspec.Struct, kw_only=True):
    """What came of it. `seconds`: until the last call was over."""

    seconds: float
    right: bool
    errors: int
    """Calls that were answered with an error and should not have been."""
    premature: int = 0
    refused: int = 0


def scenarios(count: int, seed: int) -> Iterator[Scenario]:
    """So many, all different."""
    chance, seen = random.Random(seed), set[tuple[str, ...]]()
    while len(seen) < count:
        tasks = chance.sample(bfcl.tasks(), chance.choice((2, 3)))
        names = tuple(sorted(one.id for one in tasks))
        if names not in seen:
            seen.add(names)
            yield Scenario(tasks, [[chance.lognormvariate(MU, SIGMA) for _ in one.calls] for one in tasks])


class Decider:
    """The scripted model. `mode`: "handles"; "early", which with each call also makes those that depend on it, with
    what it can't know; "blocking"; "planned"."""

    def __init__(self, scenario: Scenario, clock: VirtualClock, mode: str) -> None:
        self.scenario = scenario
        self.clock = clock
        self.mode = mode
        self.calls = [task.calls for task in scenario.tasks]
        self.place = [0] * len(self.calls)
        """The next call of each task."""
        self.told: set[str] = set()
        self.handles: dict[str, str] = {}
        self.seen = self.errors = self.premature = self.refused = 0

    async def __call__(self, request: Request) -> Any:
        self._read(request)
        await self.clock.sleep(THINK)
        if self.mode == "planned":
            return [*self._plan(), *self._wait()] or "All is done."
        ready = [task for task, at in enumerate(self.place) if at < len(self.calls[task]) and not self._busy(task)]
        found = []
        if ready:
            task = max(ready, key=lambda one: (len(self.calls[one]) - self.place[one], -one))
            found.append(self._call(task, f"{task}.{self.place[task]}"))
            self.place[task] += 1
            found += self._too_early(task) if self.mode == "early" else []
        if len(ready) <= 1 and self.mode != "blocking":
            found += self._wait()
        return found or "All is done."

    def _busy(self, task: int) -> bool:
        """Whether its last call was not told yet."""
        return self.place[task] > 0 and f"{task}.{self.place[task] - 1}" not in self.told

    def _call(self, task: int, id: str, **changed: Any) -> ToolCall:
        """The next one of the task."""
        call = self.calls[task][self.place[task]]
        self.handles[f"h{len(self.handles) + 1}"] = id
        return ToolCall(id=id, name=f"t{task}_{call.name}", arguments={**call.arguments, **changed})

    def _wait(self) -> list[ToolCall]:
        """For what there is more to do after; if there is nothing, for all."""
        calls = {id: handle for handle, id in self.handles.items()}
        busy = [task for task in range(len(self.place)) if self._busy(task)]
        more = [task for task in busy if self.place[task] < len(self.calls[task])]
        ids = [calls[f"{task}.{self.place[task] - 1}"] for task in more]
        arguments = {"ids": ids} if ids else {"until": "all"}
        return [ToolCall(id=f"wait.{self.seen}", name="wait", arguments=arguments)] if busy else []

    def _too_early(self, task: int) -> list[ToolCall]:
        """The next call of the task, if it needs the result of the one just made: guessed, and by the handle's name."""
        at, handle = self.place[task], f"h{len(self.handles)}"
        found: list[ToolCall] = []
        call = self.calls[task][at] if at < len(self.calls[task]) else None
        for parameter, source in call.needs.items() if call is not None else ():
            if call is not None and source == at - 1:
                value = call.arguments[parameter]
                guess = f"{value}7" if isinstance(value, str) else value + 7
                for wrong in (guess, handle, f"${handle}.{parameter}", f"<result of {handle}>"):
                    found.append(self._call(task, f"early.{task}.{at}.{len(found)}", **{parameter: wrong}))
        self.premature += len(found)
        return found

    def _plan(self) -> list[ToolCall]:
        """All calls of which nothing has to be read first."""
        found = []
        calls = {id: handle for handle, id in self.handles.items()}
        for task, at in enumerate(self.place):
            for number in range(at, len(self.calls[task])):
                call = self.calls[task][number]
                untold = {name for name, source in call.needs.items() if f"{task}.{source}" not in self.told}
                if not untold <= call.paths.keys() or self._guesses(task, call):
                    break
                sources = {name: calls[f"{task}.{call.needs[name]}"] + call.paths[name] for name in untold}
                id = f"{task}.{number}"
                found.append(self._call(task, id, **{name: {"$result": one} for name, one in sources.items()}))
                calls[id] = f"h{len(self.handles)}"
                self.place[task] += 1
        return found

    def _guesses(self, task: int, call: bfcl.Call) -> bool:
        """Whether it says what nobody has said, and a result under way might."""
        early = {self.calls[task][at].name for at in range(self.place[task]) if f"{task}.{at}" not in self.told}
        declared = bfcl.sources(self.scenario.tasks[task], call.name)
        return any(
            early & {*sources} and str(call.arguments.get(parameter, "")) not in self.scenario.tasks[task].words
            for parameter, sources in declared.items()
            if parameter not in call.needs
        )

    def _read(self, request: Request) -> None:
        """What was told since the last time."""
        for message in request.messages[self.seen :]:
            texts = [message.text] if message.role == "user" else []
            for result in message.results:
                if result.id.startswith("early."):
                    self.refused += result.error and "Or wait for it." in result.text
                    continue
                self.errors += result.error
                if result.id.startswith("wait."):
                    texts.append(result.text)
                    self.errors += len(_FAILED.findall(result.text))
                elif not _GIVEN.match(result.text):
                    self.told.add(result.id)
            for text in texts:
                self.told.update(self.handles[id] for id in _CAME.findall(text))
        self.seen = len(request.messages)


async def perform(runtime: weft.Runtime, clock: VirtualClock, scenario: Scenario, mode: str) -> Done:
    """Let an agent do it; see `Decider`."""
    worlds = [task.world() for task in scenario.tasks]
    began = clock.now
    ended = [began]
    planned = mode == "planned"
    tools = [tool for at, world in enumerate(worlds) for tool in _tools(scenario, at, world, clock, ended, planned)]
    decider = Decider(scenario, clock, mode)
    agent: Agent[str] = Agent(weft.model.script(decider), tools=tools, asynchronous=mode != "blocking", turns=None)
    await runtime.run(agent, "Do all of these tasks.\n\n" + "\n\n".join(one.words for one in scenario.tasks))
    return Done(
        seconds=max(ended) - began,
        right=[bfcl.state(one) for one in worlds] == [one.end for one in scenario.tasks],
        errors=decider.errors,
        premature=decider.premature,
        refused=decider.refused,
    )


def _tools(
    scenario: Scenario, number: int, world: dict[str, Any], clock: VirtualClock, ended: list[float], planned: bool
) -> Iterator[Tool[..., Any]]:
    """Those of one task. Each call takes its seconds, and then does what it does."""
    task, seconds = scenario.tasks[number], iter(scenario.seconds[number])

    def working(made: bfcl.Call) -> Any:
        async def work(**arguments: Any) -> Any:
            await clock.sleep(next(seconds))  # the calls of a task are made in their order
            ended.append(clock.now)
            return bfcl.run(world, made, arguments)

        return work

    for call in {one.name: one for one in task.calls}.values():
        found = bfcl.sources(task, call.name)
        sources = {parameter: [f"t{number}_{one}" for one in names] for parameter, names in found.items()}
        name = f"t{number}_{call.name}"
        lane = f"t{number}" if planned else None
        yield Tool(working(call), name=name, description=name, schema=SCHEMA, effect="pure", sources=sources, lane=lane)


async def measure(given: Sequence[Scenario], modes: Sequence[str]) -> dict[str, list[Done]]:
    """All of them, in each of these ways."""
    found: dict[str, list[Done]] = {mode: [] for mode in modes}
    for at in track(range(0, len(given), CHUNK), "scenarios", console=console):
        with tempfile.TemporaryDirectory(prefix="weft-time-") as folder:
            runtime = weft.Runtime(Path(folder, "journal.db"), durability="process", policy=weft.Policy(base="all"))
            async with runtime:
                clock = VirtualClock()
                runtime.clock = clock.time
                for scenario in given[at : at + CHUNK]:
                    for mode in modes:
                        found[mode].append(await perform(runtime, clock, scenario, mode))
    return found


def tell(report: Report, quick: bool, seed: int = 7) -> None:
    """Add the figure "time"."""
    count = 60 if quick else 2000
    try:
        given = [*scenarios(count, seed)]
    except bfcl.Missing as missing:
        report.add("time", Measure(name="handles", unit="s", note=str(missing)))
        return
    found = asyncio.run(measure(given, ("handles",)))["handles"]
    few = given[: max(20, count // 20)]
    others = asyncio.run(measure(few, ("early", "planned", "blocking")))
    seconds = [one.seconds for one in found]
    waits = [schedule.blocking(one.seconds, THINK) for one in given]
    lists = [schedule.best(one.seconds, THINK) for one in given]
    known = [schedule.listed(one.seconds, THINK, schedule.by_calls(one.seconds)) for one in given]
    bounds = [schedule.bound(one.seconds, THINK) for one in given]
    report.add("time", Measure(name="handles", unit="s", runs=seconds, more={"mean": mean(seconds)}))
    report.add("time", Measure(name="blocking calls", unit="s", runs=waits, more={"mean": mean(waits)}))
    report.add("time", Measure(name="best list schedule", unit="s", runs=lists, more={"mean": mean(lists)}))
    report.add("time", Measure(name="bound: nothing is shorter", unit="s", runs=bounds, more={"mean": mean(bounds)}))
    plans = [one.seconds for one in others["planned"]]
    report.add(
        "time",
        Measure(name="handles, planned", unit="s", runs=plans, more={"mean": mean(plans)}, note=f"of {len(few)}"),
    )
    every = [*found, *others["early"], *others["planned"], *others["blocking"]]
    wrong = sum(not one.right or one.errors > 0 for one in every)
    report.bar(
        "time",
        "end states as those of one call after the other",
        1 - wrong / len(every),
        least=1.0,
        why=f"{len(every)} runs",
    )
    faster = mean(wait / mine for wait, mine in zip(waits, seconds, strict=True))
    report.bar("time", "times shorter than blocking calls, mean", faster, least=1.7, unit="×")
    ratio = [mine / one for mine, one in zip(seconds, lists, strict=True)]
    report.bar(
        "time", "of the best list schedule, mean", mean(ratio), most=1.1, unit="×", why=f"worst: {max(ratio):.2f}"
    )
    off = max(abs(mine - one) for mine, one in zip(seconds, known, strict=True))
    report.bar("time", "off the schedule that the model decided on, most", off, most=0.001, unit="s")
    premature = sum(one.premature for one in others["early"])
    refused = sum(one.refused for one in others["early"])
    report.bar("time", "premature uses refused", refused / premature, least=1.0, why=f"{premature} of 4 kinds")
    drift = max(abs(one.seconds - wait) for one, wait in zip(others["blocking"], waits, strict=False))
    report.bar("time", "blocking agents off the sum of their calls, most", drift, most=0.001, unit="s")
