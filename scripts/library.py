"""Runs for the pictures of the page: a research program with a model whose replies are fixed, so that all is real but
the model. Its prices are made up, too."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import weft
from weft.agent import Agent
from weft.model import Message, Reply, Usage, script
from weft.model.request import Request
from weft.tool import ToolCall, tool

TOPICS = ("tides", "harbours", "moon", "currents")
WORDS = "The tide follows the moon and lags behind it; how far depends on the coast, the depth and the wind. "


@dataclass
class Finding:
    topic: str
    sources: int
    summary: str


findings = weft.Memory("findings", Finding)


@tool(effect="pure")
async def search(query: str) -> list[str]:
    """Search the library."""
    await asyncio.sleep(0.05 + len(query) * 0.004)
    return [f"{query.title()}, volume {n}" for n in range(1, 4)]


@tool(effect="pure")
async def open_book(title: str) -> str:
    """The text of a book."""
    await asyncio.sleep(0.08)
    return WORDS * 6


_failed: set[str] = set()


@weft.step(retries=weft.Retry(attempts=3, delay=0.1, on=(ConnectionError,)))
async def fetch_chart(topic: str) -> dict[str, object]:
    """A chart, from a server that fails now and then."""
    await asyncio.sleep(0.06)
    if topic == "moon" and topic not in _failed:
        _failed.add(topic)
        raise ConnectionError("the chart server closed the connection")
    if topic == "currents":
        raise LookupError("there is no chart of currents")
    return {"topic": topic, "points": [round(n * 0.37 % 5, 2) for n in range(12)]}


@weft.step(needs=["file.write:/srv/reports/{name}"])
async def publish(name: str, text: str) -> str:
    return f"/srv/reports/{name}"


async def _says(request: Request) -> Reply:
    """A reply after a while, of a length that fits."""
    turns = sum(message.role == "assistant" for message in request.messages)
    asked = next(message.text for message in request.messages if message.role == "user")
    if turns == 0 and request.tools:
        topic = asked.rsplit(" ", 1)[-1].rstrip("?")
        await asyncio.sleep(0.35 + len(topic) * 0.03)
        parts = [
            ToolCall(id=f"call-{n}", name="search", arguments={"query": f"{topic} {word}"})
            for n, word in enumerate(("history", "theory"))
        ]
        return Reply(
            message=Message("assistant", parts),
            finish="tool_call",
            usage=Usage(input=820, output=64),
            model="loom-small",
        )
    await asyncio.sleep(0.6)
    return Reply(
        message=Message("assistant", WORDS * 2), finish="stop", usage=Usage(input=2140, output=210), model="loom-small"
    )


model = script(_says, name="loom-small")


@findings.operation()
async def remember(op: weft.Operation[Finding], found: Finding) -> None:
    op.write(found.topic, found)


scholar = Agent(model, name="scholar", instructions="Answer from the library. Cite.", tools=[search, open_book])


@weft.workflow
async def study(topic: str) -> Finding:
    """One topic: ask the scholar, look at the chart, write it down."""
    answer = await scholar(f"What is known about {topic}?")
    try:
        await fetch_chart(topic)
    except Exception:
        await weft.sleep(0.05)
    found = Finding(topic, 3, answer.output)
    await remember(found)
    return found


@dataclass
class Title:
    title: str
    subtitle: str = ""


@weft.workflow
async def report(topics: list[str], title: str = "") -> str:
    """A report on several topics, published when a person says so."""
    await search("index of topics")
    await asyncio.gather(*(study(topic) for topic in topics))
    async with model.stream(f"Write a report on {', '.join(topics)}.") as stream:
        async for _ in stream:
            pass
    named = Title(title) if title else await weft.ask(f"What is the report on {' and '.join(topics)} called?", Title)
    return await publish(f"{named.title.lower()}.md", stream.reply.text)


@weft.workflow
async def digest(topic: str) -> str:
    """A page on one topic, of a book that may be missing."""
    titles = await search(topic)
    if topic == "wind":
        raise LookupError(f"no book on {topic} is in the library, only {titles[0]!r}")
    reply = await model.chat(f"Sum up {topic}.")
    return reply.text


@weft.workflow
async def watch(shelf: str) -> None:
    """Looks at a shelf now and then, for ever."""
    while True:
        await search(shelf)
        await weft.sleep(3600)
