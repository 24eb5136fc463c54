"""What one call may take of the machine, and what it took: groups of processes that are limited, paused and ended as
one.

group = open_group(Resources(memory="512M", pids=64, seconds=120), "pytest")
process = subprocess.Popen([*group.enter, "pytest", "-q"])
try:
    process.wait()
finally:
    group.close()                            # nothing of it is left
if error := limit_error(group):
    raise error                              # OverMemory, with words for an agent
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Sequence

from weft.core.crossing import crossing
from weft.core.resources import Resources, Usage
from weft.runtime.governor.backend import KINDS, Backend, Kind, backend
from weft.runtime.governor.governor import Governor, governor
from weft.runtime.governor.group import Call, Group, Reason, advised, limit_error
from weft.runtime.governor.learn import peaks, settled
from weft.runtime.governor.unwatched import Unwatched

__all__ = [
    "KINDS", "Backend", "Call", "Governor", "Group", "Kind", "Reason", "advised", "backend", "governor", "grouped",
    "limit_error", "open_group", "opened",
]  # fmt: skip


def open_group(
    resources: Resources, name: str = "call", *, argv: Sequence[str] = (), priority: int | None = None
) -> Group:
    """A group for one call, by the best back-end of this machine, under the governor of this process. Each step of
    `priority` is worth twice the CPU of the one below; the lower is paused first when memory runs short. In a
    step it is the process's, if nothing is said.

    In a step that declares `resources`, a call may have no more than those, and what it took is in the step's
    outcome. With `argv`, its command, what nobody said of its memory is learned from its like (`governor.learn`)."""
    here = crossing()
    if not sys.platform.startswith("linux"):
        return Unwatched(name, resources)
    known = peaks.memory(name, argv) if argv else None
    declared = here.resources if here is not None else None
    what = Call(here.run if here else "", here.number if here else 0, " ".join(argv)[:200] or name)

    def took(usage: Usage) -> None:
        if here is not None:
            here.took(usage)
        if argv and group.why_ended() is None:
            peaks.take(name, argv, usage)

    if priority is None:
        priority = here.priority if here is not None else 0
    group = governor().open(settled(declared, resources, known), name, priority, took, what)
    return group


@contextlib.asynccontextmanager
async def grouped(resources: Resources, name: str = "call", *, argv: Sequence[str] = ()) -> AsyncIterator[Group]:
    """The same for as long as the block lasts, whatever ends it; nothing here keeps the loop waiting."""
    group = await opened(lambda: open_group(resources, name, argv=argv))
    try:
        yield group
    finally:
        await asyncio.shield(asyncio.to_thread(group.close))


async def opened(make: Callable[[], Group]) -> Group:
    """A group that is made in a thread; if the caller is cancelled meanwhile, it is closed again."""
    making = asyncio.ensure_future(asyncio.to_thread(make))
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        await asyncio.to_thread((await making).close)
        raise
