"""The door for scripts."""

from __future__ import annotations

import asyncio
from typing import ParamSpec, TypeVar

from weft.core.errors import BadInput
from weft.core.workflow import Workflow
from weft.runtime.runtime import Runtime

P = ParamSpec("P")
R = TypeVar("R")


def run(workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a workflow in the default store and return its result. In async code, use a `Runtime`."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise BadInput("weft.run() can't be used in async code; use `async with weft.Runtime() as r: await r.run(...)`")

    async def main() -> R:
        async with Runtime() as runtime:
            return await runtime.run(workflow, *args, **kwargs)

    return asyncio.run(main())
