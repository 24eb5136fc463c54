"""Which wall a job gets: the one that fits what is needed, never a weaker one in silence."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import Any, Literal

from weft.core.errors import BadInput, SandboxMissing
from weft.runtime.sandbox.bubblewrap import Bubblewrap
from weft.runtime.sandbox.landlock import Landlock
from weft.runtime.sandbox.monty import Monty
from weft.runtime.sandbox.wall import Availability, Wall
from weft.runtime.sandbox.wasm import Wasm

Need = Literal["process", "python", "wasm"]

_KINDS: dict[str, Callable[[], Any]] = {"process": Bubblewrap, "landlock": Landlock, "monty": Monty, "wasm": Wasm}
_made: dict[str, Wall] = {}
_FITS: dict[str, tuple[str, ...]] = {"process": ("process", "landlock"), "python": ("monty",), "wasm": ("wasm",)}


def walls() -> list[Wall]:
    """All walls there are, whether this machine has them or not."""
    for name, kind in _KINDS.items():
        _made.setdefault(name, kind())
    return [*_made.values()]


def report() -> dict[str, Availability]:
    """What this machine offers, by the walls' names."""
    return {wall.name: wall.available() for wall in walls()}


def choose(need: Need = "process", accept: Collection[str] | None = None) -> Wall:
    """The wall for what is needed: "process" (commands, CPython), "python" (the embedded one, for programs that call
    functions), "wasm".

    For processes that is bubblewrap's wall. The weaker one, landlock's, is given only where `accept` or the variable
    WEFT_SANDBOX names it ("landlock"): whoever does that has read what it holds less well (`weft doctor`).

    Raises SandboxMissing, which says what to install or to accept; BadInput for a need that is none.
    """
    if need not in _FITS:
        raise BadInput(f"choose({need!r}): a need is one of {', '.join(_FITS)}")
    accepted = {*(accept or ()), *os.environ.get("WEFT_SANDBOX", "").replace(",", " ").split()}
    if unknown := accepted - _KINDS.keys():
        raise BadInput(f"no such wall: {', '.join(sorted(unknown))}; there are {', '.join(_KINDS)}")
    best, *weaker = (wall for wall in walls() if wall.name in _FITS[need])
    found = best.available()
    if found.ok:
        return best
    reason = f"no {best.name} wall on this machine: {found.found}; {found.fix}"
    for wall in weaker:
        if wall.available().ok:
            if wall.name in accepted:
                return wall
            reason += f"; or accept the weaker {wall.name} wall with WEFT_SANDBOX={wall.name} (see weft doctor)"
    raise SandboxMissing(reason)
