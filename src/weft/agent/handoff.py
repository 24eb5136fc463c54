"""Handing the conversation over: a tool by which the model lets another agent go on in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weft.core.content import ToolSpec

if TYPE_CHECKING:
    from weft.agent.agent import Agent


class Handoff:
    """Given among an agent's tools: ``Agent(..., tools=[search, Handoff(biller)])``. The other agent goes on with the
    same messages, its own instructions, tools and output type; in the same process, with the same rights."""

    def __init__(self, agent: Agent[Any], description: str = "") -> None:
        self.agent = agent
        about = description or agent.description or f"Hand the conversation over to {agent.name}."
        self.spec = ToolSpec(f"hand_over_to_{agent.shown}", about)

    def __repr__(self) -> str:
        return f"<handoff to {self.agent.name}>"
