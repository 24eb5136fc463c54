"""Programs for the tests of the page: quick, and with something of everything that it shows."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import weft
from weft.model import Message, Reply, Usage, script
from weft.model.request import Request
from weft.tool import ToolCall, tool

go_on = weft.Mailbox("page-runs-go-on", int)


@dataclass
class Note:
    text: str


notes = weft.Memory("page_notes", Note)


@tool(effect="pure")
async def look(query: str) -> str:
    """Look something up."""
    return f"3 letters about <b>{query}</b>"


@weft.step
async def fails(why: str) -> None:
    raise LookupError(f"there is no {why}")


@weft.step
async def mark(number: int) -> int:
    return number


def _says(request: Request) -> Reply:
    if "Count" in request.messages[0].text:
        return Reply(message=Message("assistant", "One. Two. Three."), usage=Usage(input=4, output=6), model="parrot")
    call = ToolCall(id="c1", name="look", arguments={"query": "owls"})
    return Reply(message=Message("assistant", ["I'll look.", call]), usage=Usage(input=30, output=12), model="parrot")


parrot = script(_says, name="page-parrot")


@notes.operation()
async def write(op: weft.Operation[Note], text: str) -> None:
    op.write("plan", Note(text))


@weft.workflow
async def below(number: int) -> int:
    for at in range(number):
        await mark(at)
    return number


@weft.workflow
async def everything(topic: str = "owls") -> dict[str, object]:
    """A tool, a generation, children, memory, an error that is caught."""
    found = await look(topic)
    reply = await parrot.chat(f"Who knows about {topic}?")
    await write("first")
    await write("second")
    sums = await asyncio.gather(*(below(number) for number in (3, 4)))
    try:
        await fails("map")
    except LookupError:
        found += "."
    return {"found": found, "said": reply.text, "sums": list(sums)}


@weft.workflow
async def long(count: int) -> float:
    """Many effects of the quickest kind, in two children and then in itself."""
    if count > 1:
        await asyncio.gather(long(1), long(1))
    return sum([weft.random() for _ in range(count)])


@weft.workflow
async def asks(what: str) -> str:
    sure = await weft.ask(f"Do <b>{what}</b>?", bool)
    return await weft.ask("Under which name?", str) if sure else ""


@weft.step(needs=["file.write:/nowhere/x"])
async def touches() -> str:
    return "touched"


@weft.workflow
async def wants() -> str:
    return await touches()


@weft.workflow
async def obeys() -> int:
    """Makes as many effects as it is told, until it is told 0."""
    made = 0
    while (count := await go_on.receive()) > 0:
        for _ in range(count):
            made += 1
            await mark(made)
    return made


@weft.workflow
async def streams() -> str:
    await go_on.receive()
    async with parrot.stream("Count to three.") as stream:
        async for _ in stream:
            pass
    return stream.reply.text
