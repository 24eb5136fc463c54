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

from weft.core.crossing import crossing
from weft.core.resources import Resources
from weft.runtime.governor.backend import KINDS, Backend, Kind, backend
from weft.runtime.governor.governor import Governor, governor
from weft.runtime.governor.group import Group, Reason, limit_error
from weft.runtime.governor.learn import settled

__all__ = [
    "KINDS", "Backend", "Governor", "Group", "Kind", "Reason", "backend", "governor", "limit_error", "open_group",
]  # fmt: skip


def open_group(resources: Resources, name: str = "call", *, priority: int | None = None) -> Group:
    """A group for one call, by the best back-end of this machine, under the governor of this process. Each step of
    `priority` is worth twice the CPU of the one below; the lower is paused first when memory runs short. In a
    step it is the process's, if nothing is said.

    In a step that declares `resources`, a call may have no more than those, and what it took is in the step's
    outcome."""
    here = crossing()
    if here is None:
        return governor().open(resources, name, priority or 0)
    if priority is None:
        priority = here.priority
    return governor().open(settled(here.resources, resources), name, priority, here.took)
