"""The providers as a process: a plan as one line of JSON on standard input, the port as one line on standard output.
It ends when standard input does."""

from __future__ import annotations

import asyncio
import sys

import msgspec

from tests.servers.providers import Fault, Providers, Turn


class Plan(msgspec.Struct):
    turns: list[Turn]
    faults: list[tuple[Fault, ...] | Fault | None]
    key: str


async def main() -> None:
    plan = msgspec.json.decode(sys.stdin.buffer.readline(), type=Plan)
    server = Providers(*plan.turns, faults=plan.faults, key=plan.key)
    async with server.listening():
        print(server.port, flush=True)
        await asyncio.to_thread(sys.stdin.buffer.read)


asyncio.run(main())
