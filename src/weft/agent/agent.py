"""An agent: instructions, a model and tools, as a workflow.

    helper = Agent("anthropic:claude-sonnet-5", instructions="Answer from the archive.", tools=[search], output=Report)
    answer = await helper("Who wrote it?")              # in a workflow: a child process
    answer = weft.run(helper, "Who wrote it?")          # in a script
    print(answer.output, answer.money)

Each generation and each call of a tool is an effect, so an agent that is killed goes on where it was. It is told to
stop, limited, watched and forked as any process.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Generic, Literal

from typing_extensions import TypeVar

from weft.agent.answer import Answer
from weft.agent.context import Context
from weft.agent.controls import CONTROLS
from weft.agent.conversation import Conversation
from weft.agent.guard import InputGuard, OutputGuard
from weft.agent.handoff import Handoff
from weft.agent.pace import Pace, pace_of
from weft.agent.sub import SubAgent
from weft.core.budget import Budget
from weft.core.errors import BadInput
from weft.core.workflow import Workflow, registry
from weft.model.message import Message
from weft.model.provider import Asked, Model
from weft.tool.declare import Tool
from weft.tool.toolset import Toolset

T = TypeVar("T", default=str)

Prompt = str | list[Message]
Instructions = str | Callable[[], str | Awaitable[str]]
TURNS = 50
"""Turns that an agent may take if nothing else is said."""


class Agent(Workflow[[Prompt], Answer[T]], Generic[T]):
    """A workflow of one argument, what is said to it, which returns an `Answer`.

    `model`: a spec or a model. `instructions`: its system prompt; a function makes it anew for each conversation.
    `tools`: what it may call: tools, toolsets, `Handoff(agent)`, `agent.as_tool()`. `output`: the type that it hands
    in; a text if nothing is said. `turns`: how often the model may be asked, or a policy (`weft.agent.pace`) that
    also limits what it may cost. `guards`: see what is said to it; `checks`: see what it hands in. `asynchronous`:
    each call gives a handle at once, and its result is told when it comes (`weft.agent.handles`); "likely": calls of
    tools that took long in past runs do; calls of tools that are declared slow always do. `context`: what of a long
    conversation the model is shown (`weft.agent.context`). `deps`: given to tools' contexts, never written down.
    `settings`: of each generation (`temperature`, `max_tokens`, `effort` ...).
    """

    def __init__(
        self,
        model: Asked | str,
        *,
        name: str = "agent",
        description: str = "",
        instructions: Instructions = "",
        tools: Iterable[Tool[..., Any] | Toolset | Handoff] = (),
        output: type[T] = str,  # type: ignore[assignment]
        turns: Pace | int | None = TURNS,
        guards: Sequence[InputGuard] = (),
        checks: Sequence[OutputGuard] = (),
        mends: int = 2,
        asynchronous: bool | Literal["likely"] = False,
        context: Context | None = None,
        deps: Any = None,
        **settings: Any,
    ) -> None:
        self.pace = pace_of(turns)

        async def converse(prompt: Prompt, history: list[Message] | None = None) -> Answer[T]:
            return await self.conversation(history or ()).say(prompt)

        declared = sys._getframe(1)
        converse.__module__ = declared.f_globals.get("__name__", __name__)  # `weft run FILE` finds it there
        super().__init__(converse, name=name)
        self.source = declared.f_code.co_filename
        self.model = Model(model) if isinstance(model, str) else model
        self.description = description
        self.instructions = instructions
        given = [*tools]
        self.handoffs = {one.spec.name: one.agent for one in given if isinstance(one, Handoff)}
        self.chosen = context
        self.tools = self.context.limited(Toolset(*(one for one in given if not isinstance(one, Handoff))))
        self.asynchronous = asynchronous
        self.outlasts = bool(asynchronous) or any(one.slow for one in self.tools)
        """Whether calls may outlast their turn."""
        handing = [one.spec for one in given if isinstance(one, Handoff)]
        self.specs = (*(self.tools + CONTROLS if self.outlasts else self.tools).specs, *handing)
        names = [spec.name for spec in (*self.specs, *self.context.reserved)]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise BadInput(f"Agent(tools=...): two tools are named {twice!r}; give one of them another name")
        self.output = output
        self.guards = tuple(guards)
        self.checks = tuple(checks)
        self.mends = mends
        self.deps = deps
        self.settings = settings
        registry[name] = self

    @property
    def context(self) -> Context:
        """What of a long conversation its model is shown."""
        return self.chosen or Context.usual(self.model)

    @property
    def shown(self) -> str:
        """Its name as a part of the name of a tool."""
        return re.sub(r"[^A-Za-z0-9_]+", "_", self.name)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise BadInput if it can't be run as a process: after a crash, it is found again by its name."""
        super().bind(args, kwargs)
        known = registry.get(self.name)
        if known is None or known.fn is not self.fn:
            raise BadInput(f"two agents are named {self.name!r}: say Agent(name=...) for each of them")

    def conversation(self, history: Sequence[Message] = ()) -> Conversation[T]:
        """A conversation with it in this process, to say several things and to watch: see `Conversation`."""
        return Conversation(self, history)

    def as_tool(
        self, *, name: str = "", description: str = "", rights: Sequence[str] | None = None,
        budget: Budget | None = None, **settings: Any,
    ) -> SubAgent:  # fmt: skip
        """This agent as a tool of another: the model gives it a task, and gets what it hands in. Each call is a child
        process, which holds `rights` (what its parent does, if nothing is said) and `budget`."""

        async def ask(prompt: str) -> Any: ...

        ask.__doc__ = (
            f"{description or self.description or f'Give {self.name} a task.'}\n\nArgs:\n    prompt: The task, with "
            "all that is needed to do it: nothing else of the conversation is seen."
        )
        options: dict[str, Any] = {} if rights is None else {"rights": list(rights)}
        if budget is not None:
            options["budget"] = budget
        workflow = self.options(**options) if options else self
        return SubAgent(workflow, ask, name=name or f"ask_{self.shown}", **settings)

    def __repr__(self) -> str:
        return f"<agent {self.name} on {self.model.spec}>"
