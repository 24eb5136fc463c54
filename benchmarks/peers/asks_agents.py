"""OpenAI's Agents SDK: an agent without tools, over Chat Completions, its tracing off."""

from __future__ import annotations

import agents
import openai

from benchmarks.peers import Order, main
from benchmarks.peers.asking import KEY, QUESTION, OneByOne, Seen, jobs


class Agents(OneByOne):
    def __init__(self, url: str) -> None:
        agents.set_tracing_disabled(True)
        client = openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0)
        self.agent = agents.Agent("any", model=agents.OpenAIChatCompletionsModel("any", client))

    def messages(self, slow: bool) -> list[dict[str, str]]:
        turns = [{"role": "user", "content": QUESTION}]
        more = [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": "More."}]
        return turns + more if slow else turns

    async def once(self, slow: bool) -> str:
        return (await agents.Runner.run(self.agent, self.messages(slow))).final_output

    async def stream(self, slow: bool, seen: Seen) -> str:
        result = agents.Runner.run_streamed(self.agent, self.messages(slow))
        async for event in result.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                seen()
        return result.final_output


async def opened(order: Order) -> Agents:
    return Agents(order.url)


if __name__ == "__main__":
    main(jobs(opened, "agents"), "openai-agents")
