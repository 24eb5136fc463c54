"""Turns of five tools, each computing for 1 to 20 ms and then taking effect: are the effects in the order of the calls,
and how long does a turn take?

Beside each other in the same run: Weft at L3; the same steps in parallel, unordered (L2); one after the other; and
LangGraph's ToolNode on the same tools. The effects are appends to a list. Nothing is durable here, since ToolNode's are
not: Weft's journal is a file that is not synced.
"""

from __future__ import annotations

import asyncio
import random
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import weft
from benchmarks.report import Measure, Report
from benchmarks.trials import place
from weft.core.memory import Level

TOOLS = 5
_landed: list[int] = []


@weft.step(name="toolturns.act", order="staged")
async def act(number: int, seconds: float) -> int:
    await asyncio.sleep(seconds)
    await weft.turn()
    _landed.append(number)
    return number


@weft.workflow(name="toolturns.turn")
async def one_turn(level: Level, delays: list[float]) -> None:
    memory: weft.Memory[Any] = weft.Memory("toolturns")
    async with memory.operation(level=level), asyncio.TaskGroup() as group:
        for number, seconds in enumerate(delays):
            group.create_task(act(number, seconds))


@weft.workflow(name="toolturns.one_by_one")
async def one_by_one(delays: list[float]) -> None:
    memory: weft.Memory[Any] = weft.Memory("toolturns")
    async with memory.operation(level="L2"):
        for number, seconds in enumerate(delays):
            await act(number, seconds)


class Found:
    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.reordered = 0

    async def take(self, turn: Any) -> None:
        _landed.clear()
        began = time.perf_counter()
        await turn
        self.seconds.append(time.perf_counter() - began)
        self.reordered += _landed != list(range(TOOLS))


def measure(report: Report, turns: int) -> None:
    with TemporaryDirectory(prefix="bench-", dir=place()) as folder:
        found, missing = asyncio.run(_turns(Path(folder, "journal.db"), turns))
    for name, one in found.items():
        more = {"turns": float(turns), "reordered": float(one.reordered)}
        note = f"langgraph {version('langgraph')}" if name == "LangGraph ToolNode" else ""
        times = [median(one.seconds) * 1000]
        report.add("turns of five tools", Measure(name=name, unit="ms a turn", runs=times, more=more, note=note))
    ours, figure = found["Weft L3"], "turns of five tools"
    took = {name: median(one.seconds) for name, one in found.items()}
    report.bar(figure, "reordered at L3", ours.reordered, most=0, why=f"of {turns}")
    report.bar(figure, "L3 over plain parallel", took["Weft L3"] / took["Weft, parallel (L2)"], most=1.2, unit="×")
    report.bar(figure, "L3 over one after the other", took["Weft L3"] / took["Weft, one by one"], most=0.5, unit="×")
    peer = found.get("LangGraph ToolNode")
    share = peer.reordered / turns if peer else None
    report.bar(
        figure,
        "turns that ToolNode reorders",
        share,
        least=0.95,
        why=missing or f"{peer and peer.reordered} of {turns}",
    )


async def _turns(store: Path, turns: int) -> tuple[dict[str, Found], str]:
    names = ["Weft L3", "Weft, parallel (L2)", "Weft, one by one"]
    missing = ""
    try:
        node = _tool_node()
        names.append("LangGraph ToolNode")
    except ImportError as error:
        node, missing = None, f"not installed ({error}): pip install '.[bench]'"
    found = {name: Found() for name in names}
    draw = random.Random(5)
    async with weft.Runtime(store, durability="process") as runtime:
        for _ in range(turns):
            delays = [draw.uniform(0.001, 0.020) for _ in range(TOOLS)]
            await found["Weft L3"].take(runtime.run(one_turn, "L3", delays))
            await found["Weft, parallel (L2)"].take(runtime.run(one_turn, "L2", delays))
            await found["Weft, one by one"].take(runtime.run(one_by_one, delays))
            if node is not None:
                await found["LangGraph ToolNode"].take(node(delays))
    return found, missing


def _tool_node() -> Any:
    """A turn of the same tools by an unmodified ToolNode, in a graph of one node."""
    from langchain_core.messages import AIMessage
    from langchain_core.tools import tool
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode

    @tool
    async def do(number: int, seconds: float) -> int:
        """Act."""
        await asyncio.sleep(seconds)
        _landed.append(number)
        return number

    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode([do]))
    graph.add_edge(START, "tools")
    graph.add_edge("tools", END)
    compiled = graph.compile()

    async def turn(delays: list[float]) -> None:
        calls = [
            {"name": "do", "args": {"number": number, "seconds": seconds}, "id": f"call_{number}", "type": "tool_call"}
            for number, seconds in enumerate(delays)
        ]
        await compiled.ainvoke({"messages": [AIMessage(content="", tool_calls=calls)]})

    return turn
