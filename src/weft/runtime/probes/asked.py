"""What may be asked for by name: a monitor, and in runs a probe, such as `hotness:shop.parse` or `branches:wasm`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weft.core.errors import BadInput
from weft.runtime.probes.asking import Calls, Memory
from weft.runtime.probes.monitors import Blocks, Branches, Coverage, Globals, Hotness, Loops, Monitor, Opcodes

MONITORS: dict[str, type[Monitor]] = {
    "hotness": Hotness, "coverage": Coverage, "blocks": Blocks, "branches": Branches, "loops": Loops,
    "calls": Calls, "opcodes": Opcodes, "memory": Memory, "globals": Globals,
}  # fmt: skip

WASM = "wasm"
"""What a probe is on that is in the WebAssembly jobs of the sandbox."""
OF_PYTHON = ("hotness", "coverage", "branches", "loops", "calls", "watch")
OF_WASM = (*MONITORS, "watch")


def monitor(name: str) -> Monitor:
    """The monitor of this name. Raises BadInput if there is none."""
    if name not in MONITORS:
        raise BadInput(f"there is no monitor {name!r}; there are {', '.join(MONITORS)}")
    return MONITORS[name]()


@dataclass(frozen=True, slots=True)
class Probe:
    """A monitor on a step or tool (it, its name, or the end of its name that is unique), or on "wasm": the WebAssembly
    jobs of the sandbox that steps start.

    `watch` catches the values of the names in `when` where it holds, `at` a line of the file, or in WebAssembly the
    entry of a `function` or its instruction at an offset, `function+offset`. Raises BadInput for what can't be meant.
    """

    monitor: str
    on: Any
    at: int | str = ""
    when: str = ""

    def __post_init__(self) -> None:
        known = OF_WASM if self.on == WASM else OF_PYTHON
        if self.monitor not in known:
            raise BadInput(f"probe {self.text}: on {self.name} a probe is one of {', '.join(known)}")
        if not self.name:
            raise BadInput(f"probe {self.text}: say what it is on, as in {self.monitor}:shop.parse")
        if self.monitor != "watch":
            if self.at or self.when:
                raise BadInput(f"probe {self.text}: a place and a condition go with watch")
        elif not self.at or not self.when:
            raise BadInput(
                f"probe {self.text}: a watch needs a place and a condition, as in watch:shop.parse:12:n > 100"
            )
        elif self.on != WASM and not isinstance(self.at, int):
            raise BadInput(f"probe {self.text}: the place is the number of a line, not {self.at!r}")

    @property
    def name(self) -> str:
        """What it is on."""
        return self.on if isinstance(self.on, str) else str(getattr(self.on, "name", self.on))

    @property
    def text(self) -> str:
        """As it is written."""
        return ":".join(str(part) for part in (self.monitor, self.name, self.at, self.when) if part)


def probe_of(given: Probe | str) -> Probe:
    """A probe from its text. Raises BadInput."""
    if isinstance(given, Probe):
        return given
    if not isinstance(given, str):
        raise BadInput(f"{given!r} is no probe: give a Probe, or a text such as 'hotness:shop.parse'")
    monitor, _, on = given.partition(":")
    if monitor != "watch":
        return Probe(monitor, on)
    on, _, rest = on.partition(":")
    at, _, when = rest.partition(":")
    return Probe(monitor, on, int(at) if at.isdecimal() and on != WASM else at, when.strip())
