"""The process that gets killed: starts every program, or goes on with what an earlier one left."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import weft
from tests.crash.programs import PROGRAMS
from tests.programs import impatient


async def main(place: str, durability: Any, copies: int) -> None:
    async with weft.Runtime(impatient(place, durability)) as runtime:
        await runtime.resume_all()
        runs = {}
        for program in PROGRAMS:
            for i in range(copies):
                name = f"{program.__name__}{i}"
                runs[name] = await runtime.start(program.options(key=name), name)
        print("started", flush=True)
        print(json.dumps({name: await run for name, run in runs.items()}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
