"""The door for scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from weft.core.errors import BadInput
from weft.core.workflow import Workflow
from weft.runtime.runtime import Runtime

if TYPE_CHECKING:
    from weft.runtime.probes.asked import Probe

P = ParamSpec("P")
R = TypeVar("R")


@overload
def run(workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
def run(workflow: Workflow[..., R], *args: Any, probes: Sequence[Probe | str], **kwargs: Any) -> R: ...
def run(workflow: Workflow[..., R], *args: Any, **kwargs: Any) -> R:
    """Run a workflow in the default store and return its result. In async code, use a `Runtime`.

    `probes`: as of a `Runtime`; of a workflow that takes `probes` itself, it is the workflow's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise BadInput("weft.run() can't be used in async code; use `async with weft.Runtime() as r: await r.run(...)`")
    probes = () if "probes" in getattr(workflow, "names", ()) else kwargs.pop("probes", ())

    async def main() -> R:
        async with Runtime(probes=probes) as runtime:
            return await runtime.run(workflow, *args, **kwargs)

    return asyncio.run(main())
