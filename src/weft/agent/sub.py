"""A workflow as a tool: each call is a child process, with its own rights and budget. So agents have sub-agents."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from weft.agent.answer import Answer
from weft.core.boundary import require
from weft.core.budget import Budget, tighter
from weft.core.content import Text, ToolCall, ToolResult
from weft.core.errors import OURS, BadInput, BudgetExceeded, Cancelled
from weft.core.workflow import Workflow
from weft.tool.answering import approved, failed
from weft.tool.context import Report
from weft.tool.declare import Tool
from weft.tool.result import parts_of

share: ContextVar[Budget | None] = ContextVar("weft.agent.share", default=None)
"""What a sub-agent that is called may spend at most, so that enough is left for the last turn of who calls it."""
LIMIT = "\n[It came to a limit of what it may spend, and handed in what there was.]"
_TAKEN = ("name", "description", "approval", "before", "after", "limit", "slow", "lane", "sources")


class SubAgent(Tool[Any, Any]):
    """Made by `Agent.as_tool`; or of any workflow: ``SubAgent(workflow)``. The call runs where the agent runs: what is
    journaled is the child, with all that it does."""

    def __init__(
        self, workflow: Workflow[..., Any], signature: Callable[..., Any] | None = None, **settings: Any
    ) -> None:
        """`signature`: a function whose parameters and docstring the model sees, if not the workflow's own. `settings`:
        what `@tool` takes for its calls by models; the rest is said of the workflow."""
        if unknown := settings.keys() - {*_TAKEN}:
            raise BadInput(
                f"SubAgent({sorted(unknown)[0]}=...): as a tool, a workflow takes {', '.join(_TAKEN)}; its rights, "
                "budget and queue are said by workflow.options(...)"
            )
        super().__init__(signature or workflow.fn, **{"name": workflow.name.rpartition(".")[2], **settings})
        self.workflow = workflow

    def options(self, **changes: Any) -> SubAgent:
        given = {name: self.given[name] for name in _TAKEN}
        made = type(self)(self.workflow, self.written, **{**given, **changes})
        made.shown = self.shown if "name" not in changes else made.name
        return made

    async def work(self, call: ToolCall, deps: Any, report: Report | None, where: str) -> ToolResult:
        process = require(f"the tool {self.name}, which is a workflow,")
        try:
            arguments = self.parameters.read(call.arguments)
            await approved(self, (), arguments)
            workflow = self.workflow.options(budget=tighter(self.workflow.budget, share.get()))
            value = await process.call(workflow, (), arguments, where)
        except Cancelled as error:
            return failed(call, error)
        except BudgetExceeded as error:
            if error.process == process.id:
                raise
            return failed(call, error)  # the child's; if it is an ancestor's, the next effect here raises it
        except OURS:
            raise
        except Exception as error:
            return failed(call, error)
        shown = value.output if isinstance(value, Answer) else value
        parts = parts_of(shown, self.limit)
        if isinstance(value, Answer) and value.ended == "limit":
            parts = (*parts, Text(content=LIMIT))
        return ToolResult(id=call.id, name=call.name, response=parts)
