"""Weft: `Model.chat` and `Model.stream`; outside a workflow, or (variant `workflow`) as effects of a journaled one."""

from __future__ import annotations

import os

import weft
from benchmarks.peers import Order, main
from benchmarks.peers.asking import KEY, QUESTION, OneByOne, Seen, jobs
from weft.model import Message, Model, TextDelta


class Weft(OneByOne):
    def __init__(self, url: str) -> None:
        self.model = weft.model.open(url, "any")

    def messages(self, slow: bool) -> list[Message]:
        turns = [Message("user", QUESTION)]
        return [*turns, Message("assistant", "Yes."), Message("user", "More.")] if slow else turns

    async def once(self, slow: bool) -> str:
        return (await self.model.chat(self.messages(slow))).text

    async def stream(self, slow: bool, seen: Seen) -> str:
        async with self.model.stream(self.messages(slow)) as stream:
            async for event in stream:
                if isinstance(event, TextDelta):
                    seen()
        return stream.reply.text


@weft.workflow(name="asks.once")
async def once(url: str, slow: bool) -> str:
    return (await Model(f"{url}#any").chat(Weft(url).messages(slow))).text


@weft.workflow(name="asks.many")
async def many(url: str, count: int) -> None:
    system = Weft(url)
    for _ in range(count):
        await system.model.chat(system.messages(False))


_seen: dict[int, Seen] = {}


@weft.workflow(name="asks.stream")
async def stream(url: str, slow: bool, number: int) -> str:
    return await Weft(url).stream(slow, _seen[number])


class Durable(Weft):
    """Each question is a workflow of its own, in one runtime; many, one after the other, are one workflow."""

    def __init__(self, url: str, runtime: weft.Runtime) -> None:
        super().__init__(url)
        self.url = url
        self.runtime = runtime

    async def once(self, slow: bool) -> str:
        return await self.runtime.run(once, self.url, slow)

    async def many(self, count: int) -> None:
        await self.runtime.run(many, self.url, count)

    async def stream(self, slow: bool, seen: Seen) -> str:
        _seen[number := len(_seen)] = seen
        return await self.runtime.run(stream, self.url, slow, number)


async def opened(order: Order) -> Weft:
    os.environ["OPENAI_API_KEY"] = KEY
    if order.variant != "workflow":
        return Weft(order.url)
    runtime = weft.Runtime(str(order.dir / "journal.db"), policy=weft.Policy(base="all"))
    await runtime.__aenter__()
    return Durable(order.url, runtime)


if __name__ == "__main__":
    main(jobs(opened, "weft, weft.model"), "weft")
