"""Pydantic AI: an agent with one tool, nothing of it kept."""

from __future__ import annotations

import openai
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from benchmarks.peers import Order, main
from benchmarks.peers.acting import KEY, TASK, Run, jobs, look_up


async def opened(order: Order) -> Run:
    client = openai.AsyncOpenAI(base_url=order.url, api_key=KEY, max_retries=0, timeout=600)
    agent = Agent(OpenAIChatModel("any", provider=OpenAIProvider(openai_client=client)), tools=[look_up])

    async def run() -> str:
        return (await agent.run(TASK)).output

    return run


if __name__ == "__main__":
    main(jobs(opened), "pydantic-ai-slim")
