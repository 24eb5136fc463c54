"""What of a conversation the model is shown, when all of it is too much.

    Agent(..., context=Context(subtasks=True, tokens=32_000, results=4_000))

The conversation itself is never shortened: it is in the journal, and a prompt is a view of it (`window`), in which some
turns stand in short. A finished subtask is its conclusion (`subtasks`); old turns are a summary (`compaction`); a long
result is its beginning and end (`weft.tool.output`). The model has tools that get at the rest, also after a crash and
in a fork. Between two such changes prompts only grow at their end: so providers and engines go on from what they have.
"""

from __future__ import annotations

from weft.agent.context.compaction import Cut, Summary
from weft.agent.context.settings import Context
from weft.agent.context.window import Fold, rendered

__all__ = ["Context", "Cut", "Fold", "Summary", "rendered"]
