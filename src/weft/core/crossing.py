"""A crossing of the boundary as the code sees that makes it: what was authorised, and what else it may ask for.

A primitive (a step by Weft itself) does exactly what was authorised: it opens the path that was resolved, not the one
that was said. Outside a process nobody authorises anything, and paths mean those of the current folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from weft.core.capability import Request
from weft.core.resource import entry_path, requests

if TYPE_CHECKING:
    from weft.core.label import Label
    from weft.core.needs import Need
    from weft.core.resources import Resources, Usage


P = ParamSpec("P")
R = TypeVar("R")


class Entry(str):
    """A path whose last name is meant itself, be it a symlink: for what is deleted or moved."""

    __slots__ = ()


class Crossing(Protocol):
    """One step being carried out."""

    @property
    def number(self) -> int:
        """That of the effect among the process's."""

    @property
    def workspace(self) -> str:
        """The folder that relative paths mean."""

    @property
    def run(self) -> str:
        """The id of the process."""

    @property
    def attempts(self) -> int:
        """How often it was begun, this time too."""

    @property
    def requests(self) -> Sequence[Request]:
        """What was authorised before it began."""

    @property
    def again(self) -> bool:
        """Whether it may have been done already: before a crash, or in an attempt that failed."""

    @property
    def resources(self) -> Resources | None:
        """What each call that it makes may take, if it is declared."""

    @property
    def priority(self) -> int:
        """The process's."""

    @property
    def took(self) -> Callable[[Usage], None]:
        """Told what a call took."""

    @property
    def probes(self) -> Any:
        """What sees it carried out (`weft.runtime.probes.runs.Observing`), if anything does."""

    @property
    def full(self) -> Label:
        """What it carries so far: what it was given, and what it has read."""

    def brings(self, label: Label) -> None:
        """Its outcome carries this, too."""

    async def traceparent(self) -> str:
        """The trace context of this step (`weft.core.traceparent`), for those whom it asks."""

    def at_leave(self, do: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do this when the process leaves this runtime: at its end, paused, or with the runtime."""

    def further(self, asked: Request, instead: str) -> None:
        """Something else that only now turns out to be needed. Raises Denied: also where a person would have to be
        asked or a use to be set apart, for which it is too late; `instead` says what to do then."""

    def closer(self, asked: Request, instead: str) -> None:
        """What was authorised, now known more closely (a host: its address). Raises Denied if that is denied."""

    def may(self, asked: Request) -> bool:
        """Whether something else would be allowed; what would not is written down."""

    def within(self, needs: Sequence[Need], arguments: Mapping[str, Any]) -> Crossing:
        """A primitive that this step calls by itself: decided here and now. Raises Denied."""


executing: ContextVar[Any] = ContextVar("weft_executing", default=None)
"""The `Crossing` that is under way here, if any."""


def crossing() -> Crossing | None:
    """The step that is being carried out here, if any."""
    found: Crossing | None = executing.get()
    return found


def probed(function: Callable[P, R]) -> Callable[P, R]:
    """The function, or the copy of it with probes in it that is to be called here."""
    here = crossing()
    if here is None or here.probes is None:
        return function
    copy: Callable[P, R] = here.probes.copy_of(function)
    return copy


def workspace() -> str:
    """The folder that relative paths mean: the process's, outside of any the current one."""
    here = crossing()
    return here.workspace if here is not None else os.getcwd()  # noqa: PTH109


def authorised(action: str, said: str | Path) -> str:
    """The resource that was authorised for this action (`file.read`, ...); outside a process, what `said` means.
    Raises BadInput for what means nothing."""
    here = crossing()
    for request in here.requests if here is not None else ():
        if request.action == action:
            return request.resource
    if isinstance(said, Entry):
        return entry_path(said, workspace())
    return requests(action, str(said), workspace())[0].resource


def may(action: str, resource: str) -> bool:
    """Whether this, too, is allowed here; outside a process everything is."""
    here = crossing()
    return here is None or here.may(Request(action, resource))


def further(action: str, resource: str, instead: str) -> None:
    """See `Crossing.further`; outside a process everything is allowed."""
    here = crossing()
    if here is not None:
        here.further(Request(action, resource), instead)


def closer(action: str, resource: str, instead: str) -> None:
    """See `Crossing.closer`; outside a process nothing is denied."""
    here = crossing()
    if here is not None:
        here.closer(Request(action, resource), instead)


async def traceparent() -> str | None:
    """What to tell those who are asked here of the trace that this belongs to; None outside a process."""
    here = crossing()
    return None if here is None else await here.traceparent()


def again() -> bool:
    """Whether what is being done here may have been done already."""
    here = crossing()
    return here is not None and here.again
