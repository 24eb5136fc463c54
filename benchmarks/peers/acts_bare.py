"""The client alone: httpx2, the conversation put together by hand, the call made by hand, no checks."""

from __future__ import annotations

import json
from typing import Any

import httpx2

from benchmarks.peers import Order, main
from benchmarks.peers.acting import KEY, TASK, Run, jobs, look_up

PARAMETERS = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": PARAMETERS}}


async def opened(order: Order) -> Run:
    client = httpx2.AsyncClient(verify=False, timeout=600, limits=httpx2.Limits(max_connections=None))
    headers = {"Authorization": f"Bearer {KEY}"}

    async def run() -> str:
        messages: list[dict[str, Any]] = [{"role": "user", "content": TASK}]
        while True:
            body = {"model": "any", "messages": messages, "tools": [TOOL]}
            answer = await client.post(f"{order.url}/chat/completions", json=body, headers=headers)
            message: dict[str, Any] = answer.json()["choices"][0]["message"]
            messages.append({name: message.get(name) for name in ("role", "content", "tool_calls")})
            if not message.get("tool_calls"):
                text: str = message["content"]
                return text
            for call in message["tool_calls"]:
                result = look_up(**json.loads(call["function"]["arguments"]))
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})

    return run


if __name__ == "__main__":
    main(jobs(opened), "httpx2")
