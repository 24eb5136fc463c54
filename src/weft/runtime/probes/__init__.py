"""Probes: what a running program does, seen without changing it (Wizard, arXiv 2403.07973)."""

from weft.core.errors import BadInput
from weft.runtime.probes.asking import Calls, Memory
from weft.runtime.probes.monitors import Blocks, Branches, Coverage, Globals, Hotness, Loops, Monitor, Opcodes
from weft.runtime.probes.published import published
from weft.runtime.probes.wasm import instrument, observe

MONITORS: dict[str, type[Monitor]] = {
    "hotness": Hotness, "coverage": Coverage, "blocks": Blocks, "branches": Branches, "loops": Loops,
    "calls": Calls, "opcodes": Opcodes, "memory": Memory, "globals": Globals,
}  # fmt: skip


def monitor(name: str) -> Monitor:
    """The monitor of this name. Raises BadInput if there is none."""
    if name not in MONITORS:
        raise BadInput(f"there is no monitor {name!r}; there are {', '.join(MONITORS)}")
    return MONITORS[name]()


__all__ = ["MONITORS", "Monitor", "instrument", "monitor", "observe", "published"]
