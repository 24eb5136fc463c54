"""The words for a body that nothing will ever wake."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weft.core.errors import Deadlock

if TYPE_CHECKING:
    from weft.runtime.process import Process


def deadlocked(process: Process) -> Deadlock:
    """The error that names the places at which the body's tasks wait."""
    where = sorted(place for task in process.loop.tasks if (place := waits_at(task)))
    return Deadlock(
        f"{process.workflow} waits for ever: no effect, timer or message can wake it; it waits at "
        f"{'; '.join(where) or 'an unknown place'}; look for a lock, event or queue that nobody fills"
    )


def waits_at(task: asyncio.Task[Any]) -> str:
    """`file:line` of the innermost frame of the user's code in which a task waits."""
    place = ""
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None)
        if frame is not None and not _OWN.match(frame.f_code.co_filename):
            place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        awaited = getattr(awaited, "cr_await", None)
    return place


_OWN = re.compile("|".join(re.escape(str(Path(file).parent)) for file in (__file__, asyncio.__file__)))
