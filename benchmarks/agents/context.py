"""The figure "context": what prompts hold, and how much of them the provider has already.

A long run is replayed: twenty runs of tau-bench's airline desk (customers served by GPT-4o, recorded), one after the
other, as one agent's work: the calls and results are the recorded ones, what is decided is scripted. Each is also done
as a subtask, which ends with the recorded last answer. Tokens are estimated, one for 3 bytes. `prefix`: of all tokens
sent, those that stand at the beginning of the prompt before, unchanged, too: what a provider or an engine has already.

Beside it, two layouts in common use, of the very same turns: the turns that are left told in the instructions, and the
oldest turns dropped anew for each prompt so that it stays below the limit.
"""

from __future__ import annotations

import gzip
import json
import random
import tempfile
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

import weft
from benchmarks.agents import bfcl
from benchmarks.report import Measure, Report
from weft.agent import Agent, Context
from weft.agent.context import Cut
from weft.core.content import ToolCall
from weft.model import Message, Request, script
from weft.tool.declare import Tool

DATA = bfcl.DATA / "tau_airline_gpt4o.json.gz"
TOGETHER = 20
"""Recorded runs that are one run here."""
LIMIT = 8_000
"""Tokens above which a prompt is compacted; what is said comes to three to five times as many."""
ANY: dict[str, Any] = {"type": "object", "properties": {}}


class Job(msgspec.Struct, frozen=True):
    """A recorded run: what the customer wanted, the calls and their results, and what was said in the end."""

    wanted: str
    calls: list[tuple[str, dict[str, Any], str]]
    answer: str


def jobs() -> tuple[str, list[Job]]:
    """The desk's rules, and what it did."""
    runs = json.loads(gzip.decompress(DATA.read_bytes()))
    return runs[0]["traj"][0]["content"], [job for run in runs if (job := _job(run["traj"])).calls]


def _job(said: list[dict[str, Any]]) -> Job:
    results = {one["tool_call_id"]: one["content"] for one in said if one["role"] == "tool"}
    calls = [
        (call["function"]["name"], json.loads(call["function"]["arguments"]), results.get(call["id"], ""))
        for one in said
        for call in one.get("tool_calls") or ()
    ]
    words = [one["content"] for one in said if one["role"] == "user"][:1]
    answers = [one["content"] for one in said if one["role"] == "assistant" and one.get("content")]
    return Job("".join(words), calls, answers[-1] if answers else "Done.")


class Desk:
    """One run: the scripted model, its tools, and the prompts that it was sent."""

    def __init__(self, rules: str, work: Sequence[Job], context: Context) -> None:
        self.sent: list[Request] = []
        self.lines: deque[Any] = deque(self._lines(work, context.subtasks))
        self.results = deque(result for job in work for _, _, result in job.calls)
        names = sorted({name for job in work for name, _, _ in job.calls})
        tools = [Tool(self._answer, name=name, schema=ANY, effect="pure") for name in names]
        model = script(self._say, name="desk")
        self.agent = Agent(model, name="desk", instructions=rules, tools=tools, turns=None, context=context)
        self.wanted = "\n\n".join(f"Customer {n}:\n{job.wanted}" for n, job in enumerate(work, 1))

    def _lines(self, work: Sequence[Job], tree: bool) -> Iterable[Any]:
        for n, job in enumerate(work, 1):
            if tree:
                yield ToolCall(id=f"begin{n}", name="begin_subtask", arguments={"goal": f"Serve customer {n}"})
            for at, (name, arguments, _) in enumerate(job.calls):
                yield ToolCall(id=f"{n}.{at}", name=name, arguments=arguments)
            if tree:
                yield ToolCall(id=f"end{n}", name="conclude", arguments={"conclusion": job.answer})
        yield "\n".join(job.answer for job in work)

    def _say(self, request: Request) -> Any:
        self.sent.append(request)
        return self.lines.popleft()

    async def _answer(self, **arguments: Any) -> str:
        return self.results.popleft()

    async def run(self, folder: Path) -> list[Message]:
        """Do it; the whole conversation."""
        async with weft.Runtime(str(folder / "journal.db")) as runtime:
            return (await runtime.run(self.agent, self.wanted)).messages


# --- prompts as texts -----------------------------------------------------------------------------------------------


def text_of(messages: Sequence[Message], tools: Any = ()) -> str:
    """A prompt in the order in which models read it."""
    return "".join(msgspec.json.encode(one).decode() for one in (*tools, *messages))


def counted(prompts: Sequence[str]) -> tuple[float, float]:
    """Tokens sent, about; and the share of those after the first prompt that the one before began with."""
    again = sum(same(*both) for both in pairwise(prompts))
    return sum(map(len, prompts)) / 3, again / max(1, sum(map(len, prompts[1:])))


def same(one: str, other: str) -> int:
    """Characters that both begin with."""
    least, most = 0, min(len(one), len(other))
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if one[:middle] == other[:middle] else (least, middle - 1)
    return least


def counting_down(requests: Sequence[Request]) -> list[str]:
    """The same prompts, if the instructions told the turns that are left."""
    return [
        text_of(
            [Message("system", f"{one.messages[0].text}\n{len(requests) - n} turns left."), *one.messages[1:]],
            one.tools,
        )
        for n, one in enumerate(requests)
    ]


def sliding(requests: Sequence[Request]) -> list[str]:
    """The same prompts, if the oldest turns were dropped each time, so that it stays below the limit."""
    found = []
    for one in requests:
        head, turns = one.messages[:2], one.messages[2:]
        while len(text := text_of([*head, *turns], one.tools)) > 3 * LIMIT and turns:
            turns = turns[2:]
        found.append(text)
    return found


# --- the figure -----------------------------------------------------------------------------------------------------


def tell(report: Report, quick: bool) -> None:
    """For `python -m benchmarks.agents`."""
    import asyncio

    if not DATA.exists():
        report.add("context", Measure(name="all", unit="tokens", note=f"there is no {DATA.name} in shared/data"))
        report.bar("context", "measured", None, least=1)
        return
    rules, work = jobs()
    chance = random.Random(45)
    rounds = [chance.sample(work, TOGETHER) for _ in range(2 if quick else 12)]
    layouts: dict[str, list[tuple[float, float]]] = {}
    for one in rounds:
        for name, prompts in asyncio.run(_layouts(rules, one)).items():
            layouts.setdefault(name, []).append(counted(prompts))
    for name, found in layouts.items():
        sent, prefix = [tokens for tokens, _ in found], [100 * share for _, share in found]
        fresh = [tokens * (1 - share) for tokens, share in found]
        note = f"{TOGETHER} recorded runs in one; scripted decisions"
        report.add("tokens sent", Measure(name=name, unit="tokens", runs=sent, note=note))
        report.add("of them, not in the prompt before", Measure(name=name, unit="tokens", runs=fresh))
        report.add("unchanged prefix", Measure(name=name, unit="%", runs=prefix))
    _judge(report)


async def _layouts(rules: str, work: Sequence[Job]) -> dict[str, list[str]]:
    """The prompts of each layout, of one run."""
    found, flat = {}, []
    contexts = {
        "whole": Context(),
        "compacted": Context(tokens=LIMIT, compact=Cut()),
        "subtasks": Context(subtasks=True),
        "subtasks, compacted": Context(subtasks=True, tokens=LIMIT, compact=Cut()),
    }
    for name, context in contexts.items():
        with tempfile.TemporaryDirectory() as folder:
            desk = Desk(rules, work, context)
            await desk.run(Path(folder))
        found[name] = [text_of(one.messages, one.tools) for one in desk.sent]
        flat = desk.sent if name == "whole" else flat
    return found | {"turns left in the instructions": counting_down(flat), "oldest dropped each time": sliding(flat)}


def _judge(report: Report) -> None:
    def value(figure: str, name: str) -> float:
        measure = report.one(figure, name)
        assert measure is not None and measure.value is not None
        return measure.value

    prefix, sent = "unchanged prefix", "tokens sent"
    for name, least in (("whole", 95), ("compacted", 85), ("subtasks", 90)):
        theirs = value(prefix, "oldest dropped each time")
        told = value(prefix, "turns left in the instructions")
        why = f"dropped each time: {theirs:.0f} %; turns left told in the instructions: {told:.0f} %"
        report.bar(prefix, name, value(prefix, name), least=least, unit="%", why=why)
    report.bar(sent, "subtasks: of the whole", value(sent, "subtasks") / value(sent, "whole"), most=0.6, unit="×")
    report.bar(sent, "compacted: of the whole", value(sent, "compacted") / value(sent, "whole"), most=0.6, unit="×")
    fresh = "of them, not in the prompt before"
    ratio = value(fresh, "oldest dropped each time") / value(fresh, "compacted")
    report.bar(fresh, "dropped each time: × compacted, the same limit", ratio, least=2, unit="×")
