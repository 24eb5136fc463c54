"""The one road out of a body, seen from the ground floor.

A body runs on a loop that carries a `boundary`; whoever declares effects (steps, sleeps, children) asks the
running loop for it. This keeps the declarations free of the runtime that carries them out.
"""

from __future__ import annotations

import sys
from asyncio import _get_running_loop
from types import CodeType
from typing import Any

from weft.core.errors import NoProcess


def boundary() -> Any:
    """The boundary of the body that is running in this thread, or None."""
    return getattr(_get_running_loop(), "boundary", None)


def require(what: str) -> Any:
    """Like `boundary`, but raises NoProcess if no body is running."""
    found = getattr(_get_running_loop(), "boundary", None)
    if found is None:
        raise NoProcess(
            f"{what} was used outside a workflow's body; call it inside an `async def` marked @weft.workflow"
        )
    return found


_places: dict[tuple[int, int], tuple[CodeType, str]] = {}


def place(depth: int = 2) -> str:
    """`file:line` of the caller's caller (cached per instruction, for it is asked at every effect)."""
    frame = sys._getframe(depth)
    code = frame.f_code
    key = (id(code), frame.f_lasti)
    known = _places.get(key)
    if known is not None and known[0] is code:
        return known[1]
    if len(_places) > 10_000:
        _places.clear()
    text = f"{code.co_filename}:{frame.f_lineno}"
    _places[key] = (code, text)
    return text
