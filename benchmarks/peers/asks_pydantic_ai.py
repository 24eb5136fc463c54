"""Pydantic AI: an agent without tools."""

from __future__ import annotations

from pydantic_ai import Agent
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from benchmarks.peers import Order, main
from benchmarks.peers.asking import KEY, QUESTION, OneByOne, Seen, jobs


class PydanticAI(OneByOne):
    def __init__(self, url: str) -> None:
        self.agent = Agent(OpenAIChatModel("any", provider=OpenAIProvider(base_url=url, api_key=KEY)))

    def asked(self, slow: bool) -> dict[str, object]:
        if not slow:
            return {"user_prompt": QUESTION}
        before = [ModelRequest([UserPromptPart(QUESTION)]), ModelResponse([TextPart("Yes.")])]
        return {"user_prompt": "More.", "message_history": before}

    async def once(self, slow: bool) -> str:
        return (await self.agent.run(**self.asked(slow))).output

    async def stream(self, slow: bool, seen: Seen) -> str:
        async with self.agent.run_stream(**self.asked(slow)) as result:
            pieces = []
            async for piece in result.stream_text(delta=True, debounce_by=None):
                pieces.append(piece)
                seen()
        return "".join(pieces)


async def opened(order: Order) -> PydanticAI:
    return PydanticAI(order.url)


if __name__ == "__main__":
    main(jobs(opened, "pydantic_ai, pydantic_ai.models.openai"), "pydantic-ai-slim")
