"""Agents: a model, tools and a loop, as a workflow: durable, limited, streamable, and interruptible at any time."""

from __future__ import annotations

from weft.agent.agent import Agent
from weft.agent.answer import Answer
from weft.agent.context import Context
from weft.agent.conversation import Conversation
from weft.agent.event import AgentEvent, Compacted, Ended, Heard, Modelled, Returned, TurnStarted
from weft.agent.guard import Tripped
from weft.agent.handoff import Handoff
from weft.agent.pace import Calibrated, Dynamic, Fixed, Pace, Taken
from weft.agent.program import RunProgram
from weft.agent.sub import SubAgent
from weft.agent.template import Template

__all__ = [
    "Agent", "AgentEvent", "Answer", "Calibrated", "Compacted", "Context", "Conversation", "Dynamic", "Ended", "Fixed",
    "Handoff", "Heard", "Modelled", "Pace", "Returned", "RunProgram", "SubAgent", "Taken", "Template", "Tripped",
    "TurnStarted",
]  # fmt: skip
