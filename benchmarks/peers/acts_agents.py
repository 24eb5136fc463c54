"""OpenAI's Agents SDK: an agent with one tool, its tracing off, nothing of it kept."""

from __future__ import annotations

import agents
import openai

from benchmarks.peers import Order, main
from benchmarks.peers.acting import KEY, TASK, TURNS, Run, jobs, look_up


async def opened(order: Order) -> Run:
    agents.set_tracing_disabled(True)
    client = openai.AsyncOpenAI(base_url=order.url, api_key=KEY, max_retries=0, timeout=600)
    model = agents.OpenAIChatCompletionsModel("any", client)
    agent = agents.Agent("acts", model=model, tools=[agents.function_tool(look_up)])

    async def run() -> str:
        return (await agents.Runner.run(agent, TASK, max_turns=TURNS + 1)).final_output

    return run


if __name__ == "__main__":
    main(jobs(opened), "openai-agents")
