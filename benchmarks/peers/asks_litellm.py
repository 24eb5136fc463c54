"""LiteLLM's `acompletion`."""

from __future__ import annotations

import litellm

from benchmarks.peers import Order, main
from benchmarks.peers.asking import KEY, QUESTION, OneByOne, Seen, jobs


class LiteLLM(OneByOne):
    def __init__(self, url: str) -> None:
        self.settings = {"model": "openai/any", "api_base": url, "api_key": KEY}

    def messages(self, slow: bool) -> list[dict[str, str]]:
        turns = [{"role": "user", "content": QUESTION}]
        more = [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": "More."}]
        return turns + more if slow else turns

    async def once(self, slow: bool) -> str:
        reply = await litellm.acompletion(messages=self.messages(slow), **self.settings)
        return reply.choices[0].message.content

    async def stream(self, slow: bool, seen: Seen) -> str:
        pieces: list[str] = []
        async for chunk in await litellm.acompletion(messages=self.messages(slow), stream=True, **self.settings):
            if chunk.choices and chunk.choices[0].delta.content:
                pieces.append(chunk.choices[0].delta.content)
                seen()
        return "".join(pieces)


async def opened(order: Order) -> LiteLLM:
    return LiteLLM(order.url)


if __name__ == "__main__":
    main(jobs(opened, "litellm"), "litellm")
