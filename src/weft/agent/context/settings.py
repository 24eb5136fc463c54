"""What may be said of an agent's context."""

from __future__ import annotations

from copy import copy
from typing import Any

import msgspec

from weft.agent.context.compaction import Compaction, Cut, Summary
from weft.agent.context.subtasks import TREE
from weft.agent.context.window import PAGE, Window
from weft.core.content import ToolSpec
from weft.core.errors import BadInput
from weft.model.provider import Asked
from weft.model.spec import Local, where
from weft.tool.toolset import Toolset

_NONE, _RECALL = Toolset(), TREE.only("recall")


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """`subtasks`: whether the model may work in subtasks, whose steps make room for their conclusions. `tokens`: above
    which a prompt is compacted; if nothing is said, what a model of the embedded engine has room for, and of others
    what they refuse. `compact`: what stands for turns that are taken out; None: they never are. `results`: characters
    of a tool's result that are shown; the rest is read by its address. `folded`: tools of whose long results repeats
    are counted instead of shown; the whole ones are recalled."""

    subtasks: bool = False
    tokens: int | None = None
    compact: Compaction | None = Summary()
    results: int | None = None
    folded: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("tokens", 100), ("results", 100)):
            given = getattr(self, name)
            if given is not None and (not isinstance(given, int) or given < least):
                raise BadInput(f"Context({name}={given!r}): a number of at least {least}, or None")
        names: Any = self.folded
        if isinstance(names, str) or not all(isinstance(one, str) for one in names):
            raise BadInput(f"Context(folded={names!r}): give the names of tools, as in folded=('run_command',)")

    @staticmethod
    def usual(model: Asked) -> Context:
        """That of an agent of which nothing is said. Summaries by the small models of the embedded engine mislead
        them, so these get only the marker."""
        return Context(compact=Cut()) if model.embedded else Context()

    def page(self, model: Asked, window: Window) -> int:
        """Characters that are recalled at once: no more than about a third of a prompt."""
        return min(PAGE, self.room(model, window, None) or PAGE)

    @property
    def reserved(self) -> tuple[ToolSpec, ...]:
        """All that `tools` may ever give."""
        return TREE.specs if self.subtasks else _RECALL.specs if self.compact is not None or self.folded else ()

    def tools(self, window: Window) -> Toolset:
        """What the model has for it now. Nothing is added before something was taken out."""
        return TREE if self.subtasks else _RECALL if window.folds or self.folded else _NONE

    def limited(self, tools: Toolset) -> Toolset:
        """These tools, with results of at most so many characters, and those that read the rest. Raises BadInput if
        results of one that is not there are to be folded."""
        for name in self.folded:
            tools[name]
        if self.results is None:
            return tools
        from weft.tool.builtin import OUTPUTS

        readers = OUTPUTS.filtered(lambda one: one.shown not in tools)
        return Toolset(*(_limited(one, self.results) for one in tools), readers)

    def room(self, model: Asked, window: Window, answer: int | None) -> int | None:
        """Tokens that a prompt may have, as far as that is known. `answer`: those that are left to the answer."""
        found = where(model.spec) if self.tokens is None and model.embedded else None
        known = self.tokens
        if isinstance(found, Local):
            known = (found.context - min(answer or found.context // 4, found.context // 2)) * 9 // 10
        if window.most is None:
            return known
        return window.most if known is None else min(known, window.most)


def _limited(tool: Any, limit: int) -> Any:
    changed = copy(tool)
    changed.limit = min(tool.limit, limit)
    return changed
