"""What a tool may know of the call that it answers: `ToolContext`, given to the parameter that is annotated with it.

    @tool
    async def convert(path: str, context: ToolContext[Settings]) -> str:
        context.progress(1, 3, "reading")
        ...

The model does not see this parameter. `deps` is what the agent gave along: an object of this process, never written
down.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from weft.core.boundary import boundary
from weft.core.crossing import crossing, workspace

D = TypeVar("D")


class Progress(NamedTuple):
    """How far a call has come: `done` of `total` (None: nobody knows), and what it is doing."""

    done: float
    total: float | None = None
    message: str = ""


Report = Callable[[Progress], None]
"""Called with each word of progress, from whatever thread the tool runs in. Nothing of it is journaled."""


@dataclass(frozen=True, slots=True)
class ToolContext(Generic[D]):
    """One call of a tool. `process`: the run's id, "" outside of any. `call`: the id that the model gave the call, ""
    if no model did. `workspace`: the folder that relative paths mean. `attempt`: from 1; 0 in a hook. `deps`: what the
    agent gave along, None if nothing."""

    process: str
    call: str
    workspace: Path
    attempt: int
    deps: D
    report: Report | None = None

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far this call has come, to whoever listens."""
        if self.report is not None:
            self.report(Progress(done, total, message))


def in_step(call: str = "", deps: Any = None, report: Report | None = None) -> ToolContext[Any]:
    """The context of the tool that runs here."""
    here = crossing()
    run, attempt = ("", 1) if here is None else (here.run, here.attempts)
    return ToolContext(run, call, Path(workspace()), attempt, deps, report)


def in_body(call: str, deps: Any, report: Report | None) -> ToolContext[Any]:
    """The context of a hook: it runs where the tool is called."""
    process = boundary()
    if process is None:
        return ToolContext("", call, Path(workspace()), 0, deps, report)
    return ToolContext(process.id, call, Path(process.holder().image.workspace), 0, deps, report)


def wants_context(annotation: Any) -> bool:
    """Whether a parameter with this annotation is given the context. An annotation that could not be evaluated is a
    text."""
    if isinstance(annotation, str):
        return annotation.replace(" ", "").rpartition(".")[2].partition("[")[0].partition("|")[0] == "ToolContext"
    choices = (annotation, *typing.get_args(annotation)) if typing.get_origin(annotation) is not ToolContext else ()
    return not choices or any(one is ToolContext or typing.get_origin(one) is ToolContext for one in choices)
