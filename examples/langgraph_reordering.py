"""LangGraph's ToolNode reorders the effects of one turn, while its transcript shows them in the order of the calls.

    pip install langgraph opentelemetry-sdk
    python examples/langgraph_reordering.py --turns 200 --out turns.jsonl
    weft trace check --level L3 turns.jsonl

In each turn the assistant's message asks for five letters, to be posted in this order. Each tool takes 1 to 20 ms and
then posts its letter. ToolNode is unmodified: it runs the calls of a message at once, and returns their answers in
the order of the message. The spans are those of OpenTelemetry's conventions for generative AI; nothing in them is
Weft's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Tracer

LETTERS = ("invite", "agenda", "minutes", "invoice", "farewell")


class Lines(SpanExporter):
    """Spans as JSON lines in a file."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("w")

    def export(self, spans: Any) -> SpanExportResult:
        self.file.writelines(span.to_json(indent=None) + "\n" for span in spans if isinstance(span, ReadableSpan))
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.file.close()


def letterbox(posted: list[str], chance: random.Random) -> Any:
    """A tool with an effect whose order matters."""

    @tool
    async def post(letter: str) -> str:
        """Post a letter."""
        await asyncio.sleep(chance.uniform(0.001, 0.020))
        posted.append(letter)
        return letter

    return post


def traced(tracer: Tracer) -> Callable[[Any, Callable[[Any], Awaitable[Any]]], Awaitable[Any]]:
    """One span for each call of a tool."""

    async def around(request: Any, execute: Callable[[Any], Awaitable[Any]]) -> Any:
        call = request.tool_call
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": call["name"],
            "gen_ai.tool.call.id": call["id"],
        }
        with tracer.start_as_current_span(f"execute_tool {call['name']}", attributes=attributes):
            return await execute(request)

    return around


def model(tracer: Tracer) -> Callable[[MessagesState], dict[str, Any]]:
    """A stand-in for a model: it asks for all letters in one message."""

    def chat(state: MessagesState) -> dict[str, Any]:
        calls = [{"name": "post", "args": {"letter": letter}, "id": f"call-{letter}"} for letter in LETTERS]
        parts = [{"type": "tool_call", "id": c["id"], "name": c["name"], "arguments": c["args"]} for c in calls]
        said = json.dumps([{"role": "assistant", "parts": parts}])
        attributes = {"gen_ai.operation.name": "chat", "gen_ai.output.messages": said}
        with tracer.start_as_current_span("chat stand-in", attributes=attributes):
            return {"messages": [AIMessage(content="", tool_calls=calls)]}

    return chat


async def turn(tracer: Tracer, chance: random.Random) -> tuple[list[str], list[str]]:
    """One turn of an agent: the letters as its transcript has them, and as they were posted."""
    posted: list[str] = []
    graph = StateGraph(MessagesState)
    graph.add_node("model", model(tracer))
    graph.add_node("tools", ToolNode([letterbox(posted, chance)], awrap_tool_call=traced(tracer)))
    graph.add_edge(START, "model")
    graph.add_edge("model", "tools")
    graph.add_edge("tools", END)
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "clerk"}
    with tracer.start_as_current_span("invoke_agent clerk", attributes=attributes):
        state = await graph.compile().ainvoke({"messages": [("user", "Post the letters, one after the other.")]})
    return [str(one.content) for one in state["messages"] if isinstance(one, ToolMessage)], posted


async def main(turns: int, out: Path, seed: int) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Lines(out)))
    chance = random.Random(seed)
    seen = [await turn(provider.get_tracer("example"), chance) for _ in range(turns)]
    provider.shutdown()
    in_order = sum(transcript == list(LETTERS) for transcript, _ in seen)
    reordered = sum(posted != list(LETTERS) for _, posted in seen)
    print(f"{turns} turns: transcript in the order of the calls in {in_order}, effects in another order in {reordered}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("turns.jsonl"))
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    asyncio.run(main(args.turns, args.out, args.seed))
