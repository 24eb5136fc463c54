"""OpenAI's own client."""

from __future__ import annotations

import openai

from benchmarks.peers import Order, main
from benchmarks.peers.asking import KEY, QUESTION, OneByOne, Seen, jobs


class OpenAI(OneByOne):
    def __init__(self, url: str) -> None:
        self.client = openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0)

    def messages(self, slow: bool) -> list[dict[str, str]]:
        turns = [{"role": "user", "content": QUESTION}]
        more = [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": "More."}]
        return turns + more if slow else turns

    async def once(self, slow: bool) -> str:
        reply = await self.client.chat.completions.create(model="any", messages=self.messages(slow))
        return reply.choices[0].message.content

    async def stream(self, slow: bool, seen: Seen) -> str:
        pieces: list[str] = []
        chunks = await self.client.chat.completions.create(model="any", messages=self.messages(slow), stream=True)
        async for chunk in chunks:
            if chunk.choices and chunk.choices[0].delta.content:
                pieces.append(chunk.choices[0].delta.content)
                seen()
        return "".join(pieces)


async def opened(order: Order) -> OpenAI:
    return OpenAI(order.url)


if __name__ == "__main__":
    main(jobs(opened, "openai"), "openai")
