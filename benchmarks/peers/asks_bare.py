"""The client alone: httpx2, a body made once, the text taken out of the JSON."""

from __future__ import annotations

import json

import httpx2

from benchmarks.peers import Order, main
from benchmarks.peers.asking import KEY, QUESTION, OneByOne, Seen, jobs


class Bare(OneByOne):
    def __init__(self, url: str) -> None:
        self.client = httpx2.AsyncClient(verify=False, timeout=60, limits=httpx2.Limits(max_connections=None))
        self.url = f"{url}/chat/completions"
        self.headers = {"Authorization": f"Bearer {KEY}"}

    def body(self, slow: bool, stream: bool) -> dict[str, object]:
        messages = [{"role": "user", "content": QUESTION}]
        if slow:
            messages += [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": "More."}]
        body: dict[str, object] = {"model": "any", "messages": messages}
        return body | {"stream": True, "stream_options": {"include_usage": True}} if stream else body

    async def once(self, slow: bool) -> str:
        answer = await self.client.post(self.url, json=self.body(slow, False), headers=self.headers)
        text: str = answer.json()["choices"][0]["message"]["content"]
        return text

    async def stream(self, slow: bool, seen: Seen) -> str:
        pieces: list[str] = []
        request = self.client.stream("POST", self.url, json=self.body(slow, True), headers=self.headers)
        async with request as answer:
            async for event in httpx2.EventSource(answer):
                choices = [] if event.data == "[DONE]" else json.loads(event.data)["choices"]
                if choices and choices[0]["delta"].get("content"):
                    pieces.append(choices[0]["delta"]["content"])
                    seen()
        return "".join(pieces)


async def opened(order: Order) -> Bare:
    return Bare(order.url)


if __name__ == "__main__":
    main(jobs(opened, "httpx2"), "httpx2")
